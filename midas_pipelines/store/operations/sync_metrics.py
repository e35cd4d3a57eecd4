"""Measurements of recent syncs and of the catalog: for Dagster, the console, the daily report and the capacity plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.backlog import read_backlog
from midas_pipelines.store.orders.listing import sales_by_channel
from midas_pipelines.store.schema.tables import (
    LEDGER_KEY,
    inventory_changes,
    mappings,
    marketplace_orders,
    sync_logs,
)
from midas_pipelines.storefront.types import utc_now

DAY = 86_400
HOURS, CONSISTENCY_DAYS = 24, 30

GATEWAY = "gateway"
"""The kind of the rows in which a gateway or worker sums up a minute of its work; every other row is a sync."""

_LOG = sync_logs.c


@dataclass(frozen=True)
class SyncRow:
    """One finished sync, or a minute of a gateway's work."""

    kind: str
    outcome: str
    requests: int  # calls to 4Seller that it sent, each attempt counted
    seconds: float  # of a gateway's minute the part in which a call was under way
    counts: Mapping[str, Any] | None = None  # its report, with the sums of its `calls`
    started_at: datetime | None = None

    def count(self, *names: str) -> float:
        """The sum of the named counts; 0 for missing ones."""
        return sum((self.counts or {}).get(name) or 0 for name in names)

    def calls(self, name: str) -> float:
        """One sum over the row's calls; 0 where none was kept."""
        return float(((self.counts or {}).get("calls") or {}).get(name) or 0)

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
    sums = (sum(row.calls(name) for row in rows) for name in ("requests", "failed", "seconds"))
    timed, failed, waited = sums
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


def _share(part: float, whole: float, digits: int = 4) -> float:
    return round(part / whole, digits) if whole > 0 else 0.0


def finished_syncs(database: Database, seconds: int = DAY) -> list[SyncRow]:
    """The recent syncs, and minutes of gateways, that have ended, oldest first."""
    return _ended(database, _LOG.started_at > utc_now(-seconds))


def count_answers(database: Database, days: int) -> int:
    """How many calls of the last days are in the log; each answer's status is compared with the contract, and a sample whole."""
    query = sa.select(sa.func.coalesce(sa.func.sum(_LOG.requests), 0))
    return int(database.scalar(query.where(_LOG.started_at > utc_now(-days * DAY))) or 0)


def large_pushes(database: Database, requests: int) -> list[SyncRow]:
    """The last twenty syncs of products or quantities in 30 days that made that many calls, oldest first."""
    large = sa.and_(_LOG.kind.in_(["products", "inventory"]), _LOG.requests >= requests)
    return _ended(database, large, _LOG.started_at > utc_now(-30 * DAY), most=20)


def _ended(database: Database, *which: sa.ColumnElement[bool], most: int | None = None) -> list[SyncRow]:
    measured = sa.func.coalesce(_LOG.requests, 0), sa.func.coalesce(_LOG.seconds, 0.0)
    query = sa.select(_LOG.kind, _LOG.outcome, *measured, _LOG.counts, _LOG.started_at)
    query = query.where(_LOG.outcome != "running", *which).order_by(_LOG.id.desc()).limit(most)
    with database.reading() as connection:
        return [SyncRow(*row) for row in reversed(connection.execute(query).all())]


@dataclass(frozen=True)
class StockMeasured:
    """The catalog and its queue now, and the day's changes of quantities; counts, and seconds."""

    items: int
    new_in_30_days: int  # at the pace since the first day, on which everything was new
    waiting: int
    oldest_seconds: float  # how long the oldest item waits
    changes: int
    changed_items: int


def stock_measured(database: Database) -> StockMeasured:
    """Counts the mappings, the queue by the database's own clock, and the day's ledger rows but opening quantities."""
    item, ledger = mappings.c, inventory_changes.c
    first = sa.func.min(item.created_at, type_=item.created_at.type)
    recent = sa.and_(ledger.created_at > utc_now(-DAY), ledger.cause != "opening")
    by_item = sa.select(sa.func.count().label("changes")).where(recent)
    by_item = by_item.group_by(ledger.product_id, LEDGER_KEY).select_from(inventory_changes)
    changed = by_item.subquery()
    total = sa.func.coalesce(sa.func.sum(changed.c.changes), 0)
    present = item.state != "removed"
    with database.reading() as connection:
        backlog = read_backlog(connection)
        catalog = sa.select(sa.func.count().filter(present), first, utc_now())
        items, begun, now = connection.execute(catalog).one()
        day = sa.select(total, sa.func.count()).select_from(changed)
        changes, changed_items = connection.execute(day).one()
        grown = 0
        if begun is not None and now - begun >= timedelta(days=2):
            since = max(begun + timedelta(days=1), now - timedelta(days=30))
            new = connection.scalar(sa.select(sa.func.count()).where(present, item.created_at > since)) or 0
            grown = round(new * 30 * DAY / (now - since).total_seconds())
    oldest = round(max(0.0, (now - (backlog.oldest_dirty or now)).total_seconds()), 1)
    return StockMeasured(items, grown, backlog.dirty, oldest, int(changes), changed_items)


def read_trends(database: Database, now: datetime) -> dict[str, Any]:
    """The last 24 hours, by the small indexes on dates: `channels` has orders, units and revenue by sales channel and
    currency; `orders` and `pushes` counts by the hour, the oldest first; `sums` those of `sum_up`; `p50` and `p99` the
    seconds from a change in the shop to 4Seller's confirmation. `consistency` is the share of items shown as they should
    be, by read-back, over 30 days."""
    since, rows = now - timedelta(hours=HOURS), finished_syncs(database)
    took: Counter[float] = Counter()
    for row in rows:
        within = (row.counts or {}).get("delivered_within") or {}
        took.update({float(bound): number for bound, number in within.items()})
    month = _LOG.started_at > utc_now(-CONSISTENCY_DAYS * DAY)
    share = _LOG.counts["consistency"].as_float()
    judged = sa.select(share).where(_LOG.kind == "reconcile", month, share.is_not(None)).order_by(_LOG.id)
    placed_at = marketplace_orders.c.placed_at
    with database.reading() as connection:
        placed = connection.scalars(sa.select(placed_at).where(placed_at > since)).all()
        shares = list(connection.scalars(judged))
        by_channel = sales_by_channel(connection, since)
    sums = sum_up(rows)
    return {
        "channels": by_channel,
        "orders": by_hour([(moment, 1) for moment in placed if moment], now),
        "pushes": by_hour([(row.started_at, row.written) for row in rows if row.started_at], now),
        "consistency": shares,
        "sums": sums,
        "p50": min(percentile(took, 0.5), sums["slowest_seconds"]),  # the slowest may be far below its bound
        "p99": min(percentile(took, 0.99), sums["slowest_seconds"]),
    }


def percentile(took: Mapping[float, int], share: float) -> float:
    """The seconds within which that share was done, by how many took up to each bound; between two, in proportion. Pure."""
    wanted, before, low = share * sum(took.values()), 0, 0.0
    for bound, number in sorted(took.items()):
        if before + number >= wanted:
            return low + (bound - low) * (wanted - before) / number if number else low
        before, low = before + number, bound
    return low


def by_hour(found: Iterable[tuple[datetime, int]], now: datetime) -> list[int]:
    """Sums over the last 24 hours, the oldest first. Pure."""
    sums = [0] * HOURS
    for moment, count in found:
        back = int((now - moment).total_seconds() // 3600)
        if 0 <= back < HOURS:
            sums[HOURS - 1 - back] += count
    return sums
