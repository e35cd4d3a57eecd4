"""Throughput, latency and error rate of the syncs, summed up by kind. Pure: rows in, numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from midas_pipelines.store.measures import SyncRow


@dataclass(frozen=True)
class Performance:
    """Sums over some syncs. Rates are per second that syncs were at work; 0 where nothing was measured."""

    syncs: int
    failed_syncs: int
    items: int
    requests: int
    failed_calls: int
    seconds: float

    @property
    def items_per_second(self) -> float:
        """Items considered."""
        return _rate(self.items, self.seconds)

    @property
    def requests_per_second(self) -> float:
        """Calls to 4Seller answered."""
        return _rate(self.requests, self.seconds)

    @property
    def error_rate(self) -> float:
        """The share of calls that failed, attempts that a retry made good included."""
        return round(min(1.0, self.failed_calls / self.requests), 4) if self.requests else 0.0


def sum_up(rows: Iterable[SyncRow], failed_calls: int = 0) -> Performance:
    """The sums over those syncs."""
    rows = list(rows)
    return Performance(
        syncs=len(rows),
        failed_syncs=sum(row.outcome == "failed" for row in rows),
        items=sum(_items(row) for row in rows),
        requests=sum(row.requests for row in rows),
        failed_calls=failed_calls,
        seconds=round(sum(row.seconds for row in rows), 3),
    )


def by_kind(rows: Sequence[SyncRow]) -> list[dict[str, Any]]:
    """One line for each kind of sync, for a table."""
    lines = []
    for kind in sorted({row.kind for row in rows}):
        one = sum_up(row for row in rows if row.kind == kind)
        line = {"sync": kind} | asdict(one) | {"items a second": one.items_per_second}
        del line["failed_calls"]  # a failed call is not on record by kind
        lines.append(line)
    return lines


def _items(row: SyncRow) -> int:
    return int(row.counts.get("scanned") or row.counts.get("fetched") or 0)


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds > 0 else 0.0
