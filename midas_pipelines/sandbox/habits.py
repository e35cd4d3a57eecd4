"""Turns habits on, and has them act on calls.

- At the start: `midas sandbox --habit small-pages=5 --habit ghosts`, `SandboxConfig(habits={"small-pages": 5})`;
- at run time: `PUT /__sandbox/settings` with `{"habits": {"small-pages": 5}}` (`{}` ends all);
- from a test, in one line: `sandbox.habits.set("ghosts", "small-pages=5")`; `sandbox.habits.set()` ends all.

Turning on replaces the current habits and resets their memory ("the first N" counts from here).
"""

from __future__ import annotations

import copy
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from midas_pipelines.sandbox import habit_table as table
from midas_pipelines.sandbox.habit_table import Change, Use
from midas_pipelines.sandbox.requests import Answer, HabitCall, Headers, Reply
from midas_pipelines.sandbox.state import Json, State, checked_number

Act = TypeVar("Act")


class Habit(NamedTuple):
    """A lasting way of a real hub in words; `number` is N where none is given. The tables of `habit_table.py` say what it does."""

    number: float
    sentence: str


HABITS = {
    name: Habit(*given)
    for name, given in tomllib.loads(Path(__file__).with_name("habits.toml").read_text("utf-8")).items()
}

PRODUCT_CALLS = ("createProduct", "getProduct", "replaceProduct", "deleteProduct", "listProducts")
KINDS: dict[str, Mapping[str, Change]] = {
    **dict.fromkeys(PRODUCT_CALLS, table.PRODUCT),
    **dict.fromkeys(("getOrder", "updateOrder", "listOrders"), table.ORDER),
}
"""What the answer to a call shows, where that is rows."""
SPOILED = {table.HALF_CHARACTER: b"\xe4\xbd", table.CONTROL_CHARACTER: b"\x01"}


class LateState(State):
    """A copy of the state that gets each change after `reads` more lists, as a search index or a replica does; with `ghosts`
    it keeps deleted products."""

    def __init__(self, source: State, *, reads: float, ghosts: bool) -> None:
        super().__init__()
        self._lag, self._ghosts, self._reads = reads, ghosts, 0
        self._waiting: deque[tuple[float, str, Json]] = deque()
        for product in source.products.values():
            self.keep(product)
        self.orders.update(source.orders)
        source.listeners.append(self.hear)

    def hear(self, event: str, row: Json) -> None:
        """Remembers a change for later."""
        if event != "product.deleted" or not self._ghosts:
            self._waiting.append((self._reads + self._lag, event, row))

    def read(self) -> None:
        """Applies the changes that are due; called before each list."""
        while self._waiting and self._waiting[0][0] <= self._reads:
            _, event, row = self._waiting.popleft()
            self.apply(event, row)
        self._reads += 1


def checked_habits(given: Mapping[str, float]) -> dict[str, float]:
    """The habits as given. Raises ValueError, in a sentence, for an unknown name or a number below 0."""
    for name, number in given.items():
        if name not in HABITS:
            raise ValueError(f"there is no habit {name!r}; known are {', '.join(HABITS)}")
        checked_number(name, number)
    return dict(given)


def read_habit(text: str) -> tuple[str, float]:
    """`NAME` or `NAME=N` as a name and its number. Raises ValueError for what is neither."""
    name, equals, number = text.partition("=")
    checked_habits({name: 0})
    try:
        return name, float(number) if equals else HABITS[name].number
    except ValueError:
        raise ValueError(f"{text!r} is not NAME=NUMBER, for example small-pages=5") from None


class Habits:
    """The habits that are on, and their effect on a call."""

    def __init__(self, state: State, on: Mapping[str, float]) -> None:
        self._state = state
        self._late: LateState | None = None
        self.replace(on)

    def set(self, *habits: str) -> None:
        """Has exactly these from now on, each as `NAME` or `NAME=N`. Raises ValueError."""
        self.replace(dict(read_habit(text) for text in habits))

    def replace(self, on: Mapping[str, float]) -> None:
        """Has exactly these from now on, by their numbers. Raises ValueError."""
        self.on = checked_habits(on)
        self._uses = {name: Use(number, self._state) for name, number in self.on.items()}
        self._state.number_ids = "number-ids" in self.on
        if self._late is not None:
            self._state.listeners.remove(self._late.hear)
        reads, ghosts = self.on.get("late-lists", 0), "ghosts" in self.on
        self._late = LateState(self._state, reads=reads, ghosts=ghosts) if reads or ghosts else None

    def listed(self) -> State:
        """The state that lists are read from."""
        if self._late is None:
            return self._state
        self._late.read()
        return self._late

    def ask(self, call: HabitCall) -> Reply | None:
        """The answer that a habit gives instead of running the call; it may change the call. Raises NoAnswer."""
        for (calls, act), use in self._at(call, table.ASK):
            reply: Reply | None = act(use) if not calls or call.name in calls else None
            if reply is not None:
                return reply
        return None

    def reply(self, call: HabitCall, reply: Reply) -> Reply:
        """The reply as the habits change it."""
        kind, value = KINDS.get(call.name), reply.value
        if not self.on or kind is None or reply.status >= 300 or not isinstance(value, dict):
            return reply
        if call.name in table.LISTS:
            reply.value = {**value, "data": [self._row(call, kind, row) for row in value["data"]]}
            for act, use in self._at(call, table.PAGE):
                act(reply.value, use)
        else:
            reply.value = self._row(call, kind, value)
        return reply

    def answer(self, call: HabitCall, status: int, body: bytes, headers: Headers) -> Answer:
        """The answer's bytes as the habits change them."""
        for mark, meant in SPOILED.items() if self.on else ():
            body = body.replace(f"\\u{ord(mark):04x}".encode(), meant)
        answer: Answer = (status, body, headers)
        for act, use in self._at(call, table.ANSWER if call.name in table.READS else {}):
            if isinstance(whole := answer[1], bytes):
                answer = act(answer[0], whole, answer[2], use)
        return answer

    def for_webhook(self, event: str, row: Json) -> Json:
        """The row as a webhook shows it."""
        kind = table.ORDER if event.startswith("order.") else table.PRODUCT
        return self._row(HabitCall(""), kind, row) if self.on else row

    def _row(self, call: HabitCall, kind: Mapping[str, Change], row: Json) -> Json:
        shown = copy.deepcopy(row)
        for act, use in self._at(call, kind):
            act(shown, use)
        return shown

    def _at(self, call: HabitCall, moment: Mapping[str, Act]) -> Iterator[tuple[Act, Use]]:
        for name, use in list(self._uses.items()):
            if name in moment:
                use.call = call
                yield moment[name], use
