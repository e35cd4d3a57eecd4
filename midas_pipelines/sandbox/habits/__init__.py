"""Habits: lasting ways in which real hubs behave, unlike a fault, which a call meets by chance.

Each has a name, a sentence and a number N that the sentence explains (`midas sandbox --habits` lists them). Turn
them on

- at the start: `midas sandbox --habit small-pages=5 --habit ghosts`, `SandboxConfig(habits={"small-pages": 5})`;
- at run time: `PUT /__sandbox/settings` with `{"habits": {"small-pages": 5}}` (`{}` ends all);
- from a test, in one line: `sandbox.habits.set("ghosts", "small-pages=5")`; `sandbox.habits.set()` ends all.

Turning on replaces the current habits and resets their memory ("the first N" counts from here). What is stored stays
true unless a habit of writes says otherwise, and `/__sandbox/products` and `/__sandbox/orders` show what is stored.
"Each Nth" goes by the number in the id: with N = 3, 4S-000003 and "700002" are among them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from midas_pipelines.sandbox.habits import writes
from midas_pipelines.sandbox.habits.habit import HABITS, Answer, HabitCall, Reply, Use
from midas_pipelines.sandbox.habits.lists import LISTS, LateState
from midas_pipelines.sandbox.state import Json, State

PRODUCTS = ("createProduct", "getProduct", "replaceProduct", "deleteProduct")
ORDERS = ("getOrder", "updateOrder")


def checked_habits(given: Mapping[str, float]) -> dict[str, float]:
    """The habits as given. Raises ValueError, in a sentence, for an unknown name or a number below 0."""
    for name, number in given.items():
        if name not in HABITS:
            raise ValueError(f"there is no habit {name!r}; known are {', '.join(HABITS)}")
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < 1e9:
            raise ValueError(f"the number of {name} must be 0 or more")
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
        self.on: dict[str, float] = {}
        self._uses: dict[str, Use] = {}
        self._replica: LateState | None = None
        self.replace(on)

    def set(self, *habits: str) -> None:
        """Has exactly these from now on, each as `NAME` or `NAME=N`. Raises ValueError."""
        self.replace(dict(read_habit(text) for text in habits))

    def replace(self, on: Mapping[str, float]) -> None:
        """Has exactly these from now on, by their numbers. Raises ValueError."""
        self.on = checked_habits(on)
        self._uses = {name: Use(number, self._state) for name, number in self.on.items()}
        self._state.number_ids = "number-ids" in self.on
        if self._replica is not None:
            self._state.listeners.remove(self._replica.hear)
        late: dict[str, float] = {}
        for act, use in self._at("late", HabitCall("")):
            late |= act(use.number)
        self._replica = LateState(self._state, **late) if late else None

    def ask(self, call: HabitCall) -> Reply | None:
        """The answer that a habit gives instead of running the call; it may change the call. Raises NoAnswer."""
        for act, use in self._at("ask", call):
            reply: Reply | None = act(use)
            if reply is not None:
                return reply
        return None

    def listed(self) -> State:
        """The state that lists are read from."""
        if self._replica is None:
            return self._state
        self._replica.read()
        return self._replica

    def reply(self, call: HabitCall, reply: Reply) -> Reply:
        """The reply as the habits change it."""
        if not self.on or reply.status >= 300 or not isinstance(reply.value, dict):
            return reply
        if call.name in PRODUCTS or call.name in ORDERS:
            reply.value = self._row(call, "order" if call.name in ORDERS else "product", reply.value)
        elif call.name in LISTS:
            kind = "order" if call.name == "listOrders" else "product"
            reply.value = {**reply.value, "data": [self._row(call, kind, row) for row in reply.value["data"]]}
            for act, use in self._at("page", call):
                act(reply.value, use)
        return reply

    def answer(self, call: HabitCall, answer: Answer) -> Answer:
        """The bytes as the habits change them."""
        if self.on:
            answer = writes.spoil(answer)
        for act, use in self._at("answer", call):
            answer = act(answer, use)
        return answer

    def for_webhook(self, event: str, row: Json) -> Json:
        """The row as a webhook shows it."""
        kind = "order" if event.startswith("order.") else "product"
        return self._row(HabitCall(""), kind, row) if self.on else row

    def _row(self, call: HabitCall, kind: str, row: Json) -> Json:
        shown = copy.deepcopy(row)
        for act, use in self._at(kind, call):
            act(shown, use)
        return shown

    def _at(self, moment: str, call: HabitCall) -> Iterator[tuple[Callable[..., Any], Use]]:
        """What the habits that are on do at this moment of a call."""
        for name, use in list(self._uses.items()):
            habit = HABITS[name]
            if moment in habit.acts and (not habit.calls or call.name in habit.calls):
                use.call = call
                yield habit.acts[moment], use
