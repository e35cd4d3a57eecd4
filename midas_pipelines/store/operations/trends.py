"""The trends of the console's first page: sales, pushes, consistency and speed of the last day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.sync_metrics import DAY, finished_syncs, sum_up
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders, sync_logs
from midas_pipelines.storefront.types import utc_now

_ROW = sync_logs.c
HOURS, CONSISTENCY_DAYS = 24, 30


@dataclass(frozen=True)
class Trends:
    """Sums of the last 24 hours; `orders` and `pushes` by the hour, the oldest first.

    Args:
        channels: orders, units and revenue by sales channel and currency.
        consistency: the share of items shown as they should be, by read-back, over 30 days.
        sums: of `sum_up`; how many changes gateways pushed.
        p50, p99: seconds from a change in the shop to 4Seller's confirmation, of half and of 99 % of them.
    """

    channels: list[dict[str, Any]]
    orders: list[int]
    pushes: list[int]
    consistency: list[float]
    sums: Mapping[str, int | float]
    p50: float
    p99: float


def read_trends(database: Database, now: datetime) -> Trends:
    """Reads all of it, by the small indexes on dates."""
    since = now - timedelta(hours=HOURS)
    rows = finished_syncs(database)
    took: Counter[float] = Counter()
    for row in rows:
        took.update({float(bound): n for bound, n in (row.counts.get("delivered_within") or {}).items()})
    reconciled = sa.select(_ROW.counts).where(
        _ROW.kind == "reconcile", _ROW.started_at > utc_now(-CONSISTENCY_DAYS * DAY)
    )
    order = marketplace_orders.c
    with database.reading() as connection:
        placed = connection.scalars(sa.select(order.placed_at).where(order.placed_at > since)).all()
        channels = _channels(connection, since)
        shares = [
            (counts or {}).get("consistency") for counts in connection.scalars(reconciled.order_by(_ROW.id))
        ]
    return Trends(
        channels,
        by_hour([(moment, 1) for moment in placed if moment], now),
        by_hour([(row.started_at, row.written) for row in rows if row.started_at], now),
        [share for share in shares if share is not None],
        sum_up(rows),
        percentile(took, 0.5),
        percentile(took, 0.99),
    )


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


def _channels(connection: sa.Connection, since: datetime) -> list[dict[str, Any]]:
    order, line = marketplace_orders.c, marketplace_order_lines.c
    units = sa.select(sa.func.sum(line.quantity)).where(line.order_id == order.id).scalar_subquery()
    count = sa.func.count().label("orders")
    query = sa.select(
        order.sales_channel,
        order.currency,
        count,
        sa.func.sum(order.total, type_=order.total.type).label("revenue"),
        sa.func.max(order.placed_at, type_=order.placed_at.type).label("newest"),
        sa.func.coalesce(sa.func.sum(units), 0).label("units"),
    )
    query = query.where(order.placed_at > since).group_by(order.sales_channel, order.currency)
    return [dict(row) for row in connection.execute(query.order_by(count.desc())).mappings()]
