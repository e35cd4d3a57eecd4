"""Defines a habit: its sentence, its number, and its hooks in a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from midas_pipelines.sandbox.state import Json, State

Headers = list[tuple[bytes, bytes]]


@dataclass
class HabitCall:
    """One call as the API understood it; `ask` habits may change it before it is carried out."""

    name: str  # operationId of the contract
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


Answer = tuple[int, "bytes | Iterator[bytes]", Headers]
"""An answer as it leaves: status, the body whole or in parts of unknown number, headers."""


class NoAnswer(Exception):
    """The connection is cut in place of an answer."""


@dataclass
class Use:
    """One habit that is on: its number, what it remembers since it was turned on, and the sandbox's state."""

    number: float
    state: State
    call: HabitCall = field(default_factory=lambda: HabitCall(""))
    memory: dict[Any, Any] = field(default_factory=dict)

    def among_the_first(self, key: Any = "") -> bool:
        """Whether this is one of the first `number` times (0: always)."""
        self.memory[key] = self.memory.get(key, 0) + 1
        return not self.number or self.memory[key] <= self.number

    def nth(self, row: Json) -> bool:
        """Whether the row is one of each `number` rows, by the number in its id."""
        return serial(row) % max(1, int(self.number)) == 0


def serial(row: Json) -> int:
    """The number in a row's id; 0 without one."""
    return int("".join(letter for letter in str(row.get("id") or "") if letter in "0123456789")[-15:] or 0)


@dataclass(frozen=True)
class Habit:
    """A lasting way of a real hub. Each part may be None: the habit does not act there.

    `ask` may change the call, or answer it; `page` changes a page of a list; `product` and `order` change a copy
    of a row as callers and webhooks see it; `answer` changes the bytes. `late` says what of `LateState` lists
    are read from.
    """

    sentence: str
    number: float = 1
    ask: Callable[[Use], Reply | None] | None = None
    page: Callable[[Json, Use], None] | None = None
    product: Callable[[Json, Use], None] | None = None
    order: Callable[[Json, Use], None] | None = None
    answer: Callable[[Answer, Use], Answer] | None = None
    late: Callable[[float], dict[str, float]] | None = None
