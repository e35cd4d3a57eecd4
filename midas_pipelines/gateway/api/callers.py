"""Who calls: by key id or by address, how often each may, and who was not let in, as rows of the audit log."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from starlette.types import Scope

from midas_pipelines.store.gateway.audit import AuditEntry, note_audit
from midas_pipelines.store.gateway.keys import USED_SECONDS

MOST_CALLERS = 10_000
FAILURE_COST = 10.0  # calls that a refused key or signature counts for
WINDOW_SECONDS = 60.0
MOST_ROWS = 120
"""Rows of refusals in a window, all addresses together: a flood from many of them does not fill the database."""

log = logging.getLogger(__name__)


class Rate:
    """A token bucket for each caller: calls per second, with a burst of a few seconds."""

    def __init__(self, per_second: float, *, burst_seconds: float = 2.0) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * burst_seconds)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, now: float) -> float:
        """Takes one call; 0 when it may go on, else the seconds until the next may."""
        left = self._left(caller, now)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_second
        self._keep(caller, left if wait else left - 1, now)
        return wait

    def charge(self, caller: str, cost: float, now: float) -> None:
        """Takes the cost of something that has happened already; a caller is never longer in debt than its burst."""
        self._keep(caller, max(-self._most, self._left(caller, now) - cost), now)

    def _left(self, caller: str, now: float) -> float:
        left, at = self._buckets.pop(caller, (self._most, now))
        return min(self._most, left + (now - at) * self._per_second)

    def _keep(self, caller: str, left: float, now: float) -> None:
        self._buckets[caller] = (left, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)


class Callers:
    """How often who may call, by key id or by address. Keys are recognized by their hash once they were found valid."""

    def __init__(self, per_second: float) -> None:
        self._calls = Rate(per_second)
        self._unsigned = Rate(per_second)
        self._known: OrderedDict[str, str] = OrderedDict()
        self._uses = Rate(1 / USED_SECONDS)

    def take(self, address: str, key: str) -> float:
        """Takes one call; 0 when it may go on, else the seconds to wait."""
        key_id = self._known.get(_hash(key)) if key else None
        caller = f"address {network(address)}" if key_id is None else f"key {key_id}"
        return self._calls.take(caller, time.monotonic())

    def knows(self, key: str) -> bool:
        """Whether this very key was found valid here: then wrong keys with its id do not lock its holder out."""
        return _hash(key) in self._known

    def use_is_due(self, key_id: str) -> bool:
        """Whether the key's last use is to be recorded: once an hour."""
        return not self._uses.take(key_id, time.monotonic())

    def admitted(self, key: str, key_id: str) -> None:
        """Records that a key is valid: from now on it has its own rate."""
        self._known[_hash(key)] = key_id
        if len(self._known) > MOST_CALLERS:
            self._known.popitem(last=False)

    def refused(self, address: str, key: str) -> None:
        """Records that a key is not valid: its address is charged."""
        self._known.pop(_hash(key), None)
        self._calls.charge(f"address {network(address)}", FAILURE_COST, time.monotonic())

    def unsigned(self, address: str) -> float:
        """Counts a webhook that 4Seller did not sign; returns the seconds to wait once its address sent too many of them."""
        return self._unsigned.take(network(address), time.monotonic())


class Refusals:
    """Writes who was not let in into the audit log: a row a minute for each. `write` runs a function of a connection, as
    `Service.write` does."""

    def __init__(self, write: Callable[..., object]) -> None:
        self._write = write
        self._each = Rate(1 / WINDOW_SECONDS)
        self._all = Rate(MOST_ROWS / WINDOW_SECONDS, burst_seconds=WINDOW_SECONDS)

    def due(self, address: str, actor: str, status: int, now: float) -> bool:
        """Whether this refusal of the actor, the address and the status gets a row. `now` is in seconds."""
        return not (self._each.take(f"{network(address)} {actor} {status}", now) or self._all.take("", now))

    async def note(self, entry: AuditEntry, status: int) -> None:
        """Writes the row if one is due; a database that does not take it changes nothing for the caller."""
        if not self.due(entry.remote or "local", entry.actor, status, time.monotonic()):
            return
        try:
            await asyncio.to_thread(self._write, note_audit, entry, "refused", status)
        except sa.exc.SQLAlchemyError as failed:
            log.warning("A refused call is not in the audit log: %s.", type(failed).__name__)


def address_of_caller(scope: Scope) -> str:
    """The address that the call came from; behind a proxy that MIDAS_GATEWAY_PROXIES names, the one that it names."""
    client: Any = scope.get("client")
    return str(client[0]) if client else "local"


def network(address: str) -> str:
    """The address, or its /64 for IPv6: one caller usually has all of it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))


def key_of(authorization: str | None) -> str:
    """The key in an Authorization header; empty without one."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
