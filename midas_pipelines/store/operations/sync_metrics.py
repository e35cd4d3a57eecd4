"""Measurements of recent syncs and of the catalog: for performance, the console, the daily report and the capacity plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.backlog import read_backlog
from midas_pipelines.store.schema.tables import LEDGER_KEY, inventory_changes, mappings, sync_logs
from midas_pipelines.storefront.types import utc_now

DAY = 86_400

GATEWAY = "gateway"
"""The kind of the rows in which a gateway or worker sums up a minute of its work; every other row is a sync."""


@dataclass(frozen=True)
class SyncRow:
    """One finished sync, or a minute of a gateway's work.

    Args:
        requests: calls to 4Seller that it sent, each attempt counted.
        seconds: how long it took; of a gateway's minute the part in which a call was under way.
        counts: its report, with `calls` (`fourseller.metering.CallSums`).
    """

    kind: str
    outcome: str
    requests: int
    seconds: float
    counts: Mapping[str, Any] = field(default_factory=dict)
    started_at: datetime | None = None

    def count(self, *names: str) -> float:
        """The sum of the named counts; 0 for missing ones."""
        return sum(self.counts.get(name) or 0 for name in names)

    def calls(self, name: str) -> float:
        """One sum over the row's calls; 0 where none was kept."""
        return float((self.counts.get("calls") or {}).get(name) or 0)

    @property
    def pushes(self) -> bool:
        """Whether it pushes items; of an order sync `created` means orders in the shop."""
        return self.kind in ("products", "inventory", GATEWAY)

    @property
    def written(self) -> int:
        """Items created, changed or removed at 4Seller."""
        return int(self.count("created", "updated", "pushed", "deleted")) if self.pushes else 0

    @property
    def push_seconds(self) -> float:
        """How long its push took; all of a sync that does nothing else."""
        return self.count("push_seconds") or self.seconds


@dataclass(frozen=True)
class StockMeasured:
    """The catalog and its queue now, and the day's changes of quantities; counts, and seconds."""

    items: int
    new_in_30_days: int  # at the pace since the first day, on which everything was new
    waiting: int
    oldest_seconds: float  # how long the oldest item waits
    changes: int
    changed_items: int


def sum_up(rows: Iterable[SyncRow]) -> dict[str, int | float]:
    """Sums and rates over some rows; what a gateway did is in all but `syncs`.

    Rates are per second in which a sync or gateway was at work, 0 where nothing was measured. `error_rate` is the share
    of calls that failed, whatever a retry made of them; `seconds_per_call` is 4Seller's average time to answer;
    `seconds_to_channel` and `slowest_seconds` say how long a gateway took from a change in the shop to 4Seller's
    confirmation, on average and at most.
    """
    rows = list(rows)
    syncs = [row for row in rows if row.kind != GATEWAY]
    items, seconds = sum(row.count("scanned", "fetched") for row in rows), sum(row.seconds for row in rows)
    timed, failed, waited = (
        sum(row.calls(name) for row in rows) for name in ("requests", "failed", "seconds")
    )
    requests = sum(row.requests for row in rows)
    delivered, took = (sum(row.count(name) for row in rows) for name in ("delivered", "delivered_seconds"))
    return {
        "syncs": len(syncs),
        "failed_syncs": sum(row.outcome == "failed" for row in syncs),
        "items": int(items),
        "written": sum(row.written for row in rows),
        "requests": requests,
        "failed_calls": int(failed),
        "seconds": round(seconds, 3),
        "items_per_second": _share(items, seconds, 2),
        "requests_per_second": _share(requests, seconds, 2),
        "error_rate": _share(failed, timed),
        "seconds_per_call": _share(waited, timed),
        "delivered": int(delivered),
        "seconds_to_channel": _share(took, delivered),
        "slowest_seconds": max((row.count("slowest_seconds") for row in rows), default=0.0),
    }


def by_kind(rows: Iterable[SyncRow]) -> list[dict[str, Any]]:
    """The main sums of each kind of sync, and of the gateways, for a table."""
    rows = list(rows)
    shown = ("syncs", "failed_syncs", "items", "written", "requests", "failed_calls", "seconds")
    lines = []
    for kind in sorted({row.kind for row in rows}):
        sums = sum_up(row for row in rows if row.kind == kind)
        lines.append({"work": kind} | {name: sums[name] for name in shown})
    return lines


_ROW = sync_logs.c
_ENDED = sa.select(_ROW.kind, _ROW.outcome, _ROW.requests, _ROW.seconds, _ROW.counts, _ROW.started_at).where(
    _ROW.outcome != "running"
)


def finished_syncs(database: Database, seconds: int = DAY) -> list[SyncRow]:
    """The recent syncs, and minutes of gateways, that have ended, oldest first."""
    return _rows(database, _ENDED.where(_ROW.started_at > utc_now(-seconds)).order_by(_ROW.id))


def large_pushes(database: Database, requests: int, *, days: int = 30, most: int = 20) -> list[SyncRow]:
    """The last syncs of products or quantities that made that many calls, oldest first."""
    recent = (_ROW.requests >= requests, _ROW.started_at > utc_now(-days * DAY))
    query = _ENDED.where(_ROW.kind.in_(["products", "inventory"]), *recent)
    return _rows(database, query.order_by(_ROW.id.desc()).limit(most))[::-1]


def _rows(database: Database, query: sa.Select[Any]) -> list[SyncRow]:
    with database.reading() as connection:
        return [
            SyncRow(
                row.kind, row.outcome, row.requests or 0, row.seconds or 0.0, row.counts or {}, row.started_at
            )
            for row in connection.execute(query)
        ]


def stock_measured(database: Database) -> StockMeasured:
    """Counts the mappings, the queue by the database's own clock, and the day's ledger rows but opening quantities."""
    table, count = mappings.c, sa.func.count()
    ledger = inventory_changes.c
    recent = sa.and_(ledger.created_at > utc_now(-DAY), ledger.cause != "opening")
    changed = sa.select(ledger.product_id, LEDGER_KEY).where(recent).distinct().subquery()
    with database.reading() as connection:
        backlog, now = read_backlog(connection), connection.execute(sa.select(utc_now())).scalar_one()
        waits = now - (backlog.oldest_dirty or now)
        return StockMeasured(
            items=connection.scalar(sa.select(count).where(table.state != "removed")) or 0,
            new_in_30_days=_growth(connection, now),
            waiting=backlog.dirty,
            oldest_seconds=round(max(0.0, waits.total_seconds()), 1),
            changes=connection.scalar(sa.select(count).select_from(inventory_changes).where(recent)) or 0,
            changed_items=connection.scalar(sa.select(count).select_from(changed)) or 0,
        )


def _growth(connection: sa.Connection, now: datetime) -> int:
    """New items in thirty days, from those that came after the first day of the installation."""
    table = mappings.c
    first = connection.scalar(sa.select(sa.func.min(table.created_at, type_=table.created_at.type)))
    if first is None or now - first < timedelta(days=2):
        return 0
    since = max(first + timedelta(days=1), now - timedelta(days=30))
    query = sa.select(sa.func.count()).where(table.state != "removed", table.created_at > since)
    seconds: float = (now - since).total_seconds()
    return round((connection.scalar(query) or 0) * 30 * DAY / seconds)


def _share(part: float, whole: float, digits: int = 4) -> float:
    return round(part / whole, digits) if whole > 0 else 0.0
