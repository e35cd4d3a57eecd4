"""Throughput, latency and error rate of syncs and gateways, summed up by kind. Pure: rows in, numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midas_pipelines.store.operations.sync_metrics import GATEWAY, SyncRow

WRITTEN = ("created", "updated", "pushed", "deleted")
"""The counts of a push that are each a write at 4Seller."""

PUSHES = ("products", "inventory", GATEWAY)
"""The kinds of work that push items; of an order sync `created` means orders in the shop."""


@dataclass(frozen=True)
class Performance:
    """Sums over some rows. Rates are per second that syncs and gateways were at work; 0 where nothing was measured.

    Args:
        syncs: syncs; what a gateway did is in every other sum.
        items: items considered.
        written: items created, changed or removed at 4Seller.
        requests: calls to 4Seller, each attempt counted.
        seconds: how long the work took.
        timed_calls: of the calls, those whose result and duration were kept.
        failed_calls: of the timed calls, those that failed, whatever a retry made of them.
        call_seconds: how long the timed calls lasted together.
        delivered: changes that a gateway brought to 4Seller at once.
        delivered_seconds: from those changes in the shop to 4Seller's confirmation, together.
        slowest_seconds: the longest of these.
    """

    syncs: int
    failed_syncs: int
    items: int
    written: int
    requests: int
    seconds: float
    timed_calls: int
    failed_calls: int
    call_seconds: float
    delivered: int
    delivered_seconds: float
    slowest_seconds: float

    @property
    def items_per_second(self) -> float:
        """Items considered."""
        return _share(self.items, self.seconds)

    @property
    def requests_per_second(self) -> float:
        """Calls to 4Seller."""
        return _share(self.requests, self.seconds)

    @property
    def error_rate(self) -> float:
        """The share of calls that failed, attempts that a retry made good included."""
        return _share(self.failed_calls, self.timed_calls, 4)

    @property
    def seconds_per_call(self) -> float:
        """How long 4Seller takes to answer one call, on average."""
        return _share(self.call_seconds, self.timed_calls, 4)

    @property
    def seconds_to_channel(self) -> float:
        """From a change in the shop to 4Seller's confirmation through a gateway, on average."""
        return _share(self.delivered_seconds, self.delivered, 4)


def sum_up(rows: Iterable[SyncRow]) -> Performance:
    """The sums over those rows."""
    rows = list(rows)
    syncs = [row for row in rows if row.kind != GATEWAY]
    return Performance(
        syncs=len(syncs),
        failed_syncs=sum(row.outcome == "failed" for row in syncs),
        items=sum(_first(row.counts, "scanned", "fetched") for row in rows),
        written=sum(written(row) for row in rows),
        requests=sum(row.requests for row in rows),
        seconds=round(sum(row.seconds for row in rows), 3),
        timed_calls=sum(int(of_calls(row, "requests")) for row in rows),
        failed_calls=sum(int(of_calls(row, "failed")) for row in rows),
        call_seconds=round(sum(of_calls(row, "seconds") for row in rows), 3),
        delivered=sum(_first(row.counts, "delivered") for row in rows),
        delivered_seconds=round(sum(float(row.counts.get("delivered_seconds") or 0) for row in rows), 3),
        slowest_seconds=max((float(row.counts.get("slowest_seconds") or 0) for row in rows), default=0.0),
    )


def by_kind(rows: Sequence[SyncRow]) -> list[dict[str, Any]]:
    """One line for each kind of sync and one for the gateways, for a table."""
    return [
        _line(kind, sum_up(row for row in rows if row.kind == kind))
        for kind in sorted({row.kind for row in rows})
    ]


def _line(kind: str, one: Performance) -> dict[str, Any]:
    return {
        "work": kind,
        "syncs": one.syncs if kind != GATEWAY else "all day",
        "failed syncs": one.failed_syncs if kind != GATEWAY else "",
        "items": one.items,
        "written": one.written,
        "calls": one.requests,
        "failed calls": one.failed_calls,
        "seconds": round(one.seconds, 1),
        "ms a call": round(one.seconds_per_call * 1000),
    }


def written(row: SyncRow) -> int:
    """Items that this row created, changed or removed at 4Seller."""
    return sum(int(row.counts.get(name) or 0) for name in WRITTEN) if row.kind in PUSHES else 0


def of_calls(row: SyncRow, name: str) -> float:
    """One sum over the row's calls (`fourseller.metering.CallSums`); 0 where none was kept."""
    calls = row.counts.get("calls")
    return float(calls.get(name) or 0) if isinstance(calls, Mapping) else 0.0


def _first(counts: Mapping[str, Any], *names: str) -> int:
    return next((int(counts[name]) for name in names if counts.get(name)), 0)


def _share(part: float, whole: float, digits: int = 2) -> float:
    return round(part / whole, digits) if whole > 0 else 0.0
