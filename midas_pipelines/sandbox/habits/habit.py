"""What a habit is made of; `@habit` makes a function one: its docstring is the sentence that people read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from midas_pipelines.sandbox.state import Json, State

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, "bytes | Iterator[bytes]", Headers]
"""An answer as it leaves: status, the body whole or in parts of unknown number, headers."""

Act = TypeVar("Act", bound=Callable[..., Any])


class NoAnswer(Exception):
    """The connection is cut in place of an answer."""


@dataclass
class HabitCall:
    """One call as the API understood it; `ask` habits may change it before it is carried out."""

    name: str  # operationId of the contract; empty for a webhook
    key: str = ""
    query: Json = field(default_factory=dict)
    body: Any = None
    idempotency_key: str | None = None
    path: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)


@dataclass
class Reply:
    """An answer before it is written as bytes; `value` None has no body."""

    status: int
    value: Any = None
    headers: Headers = field(default_factory=list)


@dataclass
class Use:
    """One habit that is on: its number, what it remembers since it was turned on, and the sandbox's state."""

    number: float
    state: State
    call: HabitCall = field(default_factory=lambda: HabitCall(""))
    memory: dict[Any, Any] = field(default_factory=dict)

    def among_the_first(self) -> bool:
        """Whether this is one of the first `number` times (0: always)."""
        self.memory["times"] = self.memory.get("times", 0) + 1
        return not self.number or self.memory["times"] <= self.number

    def nth(self, row: Json) -> bool:
        """Whether the row is one of each `number` rows, by the number in its id."""
        return serial(row) % max(1, int(self.number)) == 0


def serial(row: Json) -> int:
    """The number in a row's id; 0 without one."""
    return int("".join(letter for letter in str(row.get("id") or "") if letter in "0123456789")[-15:] or 0)


@dataclass(frozen=True)
class Habit:
    """A lasting way of a real hub: what it does at each moment of the calls that it is about (all where none is named).

    Moments: `ask` (of a Use) may change the call, or reply to it; `page`, `product` and `order` (of the value and a Use)
    change a page of a list, or a copy of a row as callers and webhooks see it; `answer` (likewise) gives other bytes;
    `late` (of the number) says what of `LateState` lists are read from.
    """

    sentence: str
    number: float
    calls: tuple[str, ...]
    acts: dict[str, Callable[..., Any]]


HABITS: dict[str, Habit] = {}


def habit(*moments: str, calls: tuple[str, ...] = (), number: float = 1) -> Callable[[Act], Act]:
    """Makes the function a habit of its name that acts at these moments; `number` is N where none is given."""

    def register(act: Act) -> Act:
        sentence = " ".join(str(act.__doc__).split())
        HABITS[act.__name__.replace("_", "-")] = Habit(sentence, number, calls, dict.fromkeys(moments, act))
        return act

    return register
