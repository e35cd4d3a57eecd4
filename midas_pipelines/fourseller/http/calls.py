"""Describes one call to the API, one failed attempt for the error log, and sums of a client's calls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

READS = frozenset({"GET"})


@dataclass(frozen=True, slots=True)
class Call:
    """What to send: `template` names the endpoint in records, `path` is the real path.

    `item` is the SKU or the id the call is about. `resend` is False for a call that must never be sent again
    once it may have been applied.
    """

    method: str
    template: str
    path: str
    item: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    resend: bool = True

    @property
    def endpoint(self) -> str:
        """The method and the templated path, e.g. `PATCH /products/{id}/inventory`."""
        return f"{self.method} {self.template}"

    @property
    def writes(self) -> bool:
        """Whether the call may change something."""
        return self.method not in READS

    @property
    def subject(self) -> str:
        """The call in words: action and item."""
        return f"{self.endpoint} for {self.item}" if self.item else self.endpoint


@dataclass(frozen=True, slots=True)
class FailedCall:
    """One attempt that failed. `message` holds no key and no personal data; `status` is None without an answer;
    `pause_seconds` is the pause that a 429 asked for."""

    endpoint: str
    status: int | None
    code: str | None
    attempt: int
    message: str
    item: str | None
    at: datetime
    pause_seconds: float = 0.0


def as_json(value: dict[str, Any]) -> bytes:
    """The body of a call."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def as_time(moment: datetime) -> str:
    """An aware moment as the contract writes it. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a moment sent to 4Seller needs an offset; give an aware datetime")
    return moment.isoformat()


TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class CallSums:
    """Sums over calls as they were sent, each attempt counted; a call lasts from its sending to its answer.

    Args:
        requests: finished calls, so that no share of them is above one.
        failed: those of them that failed, also where a retry succeeded.
        limited: failed calls that met 4Seller's rate limit (429).
        writes: calls that change something.
        seconds: how long all calls lasted together.
        write_seconds: how long the writes lasted together.
        busy_seconds: for how long at least one call was under way.
    """

    requests: int = 0
    failed: int = 0
    limited: int = 0
    writes: int = 0
    seconds: float = 0.0
    write_seconds: float = 0.0
    busy_seconds: float = 0.0

    def since(self, earlier: CallSums) -> CallSums:
        """The difference to `earlier`, a reading of the same meter."""
        before = asdict(earlier)
        return CallSums(**{name: value - before[name] for name, value in asdict(self).items()})

    def as_counts(self) -> dict[str, int | float]:
        """The sums by name, for storing; seconds to the tenth of a millisecond."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class CallMeter:
    """Adds up the calls of one event loop."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._under_way = 0
        self._busy_since = 0.0
        self._busy = 0.0
        self.sent = 0
        self._requests = 0
        self._failed = 0
        self._limited = 0
        self._writes = 0
        self._seconds = 0.0
        self._write_seconds = 0.0

    def begin(self) -> float:
        """Counts a call that is sent now; returns the start time for `end`."""
        now = self._clock()
        if not self._under_way:
            self._busy_since = now
        self._under_way += 1
        self.sent += 1
        return now

    def end(self, began: float, *, write: bool) -> None:
        """Counts the time of a finished call, answered or not."""
        now = self._clock()
        self._under_way -= 1
        if not self._under_way:
            self._busy += now - self._busy_since
        self._requests += 1
        self._seconds += now - began
        if write:
            self._writes += 1
            self._write_seconds += now - began

    def failed(self, status: int | None) -> None:
        """Counts the call that just finished as failed with that status; None where there was no answer."""
        self._failed += 1
        self._limited += status == TOO_MANY_REQUESTS

    def read(self) -> CallSums:
        """The sums up to this moment."""
        busy = self._busy + (self._clock() - self._busy_since if self._under_way else 0.0)
        return CallSums(
            self._requests,
            self._failed,
            self._limited,
            self._writes,
            self._seconds,
            self._write_seconds,
            busy,
        )
