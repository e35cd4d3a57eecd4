"""Describes one call to the API, and one failed attempt for the error log."""

import json
from dataclasses import dataclass
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
