"""The last day in numbers: sales by channel, orders and pushes by the hour, consistency, latency to the channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.operations.sync_metrics import DAY, GATEWAY
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders, sync_logs
from midas_pipelines.storefront.types import utc_now

HOURS = 24
CONSISTENCY_DAYS = 30


@dataclass(frozen=True)
class Trends:
    """Sums of the last 24 hours; `orders` and `pushes` by the hour, the oldest first.

    Args:
        channels: orders, units and revenue by sales channel and currency.
        consistency: the share of items shown as they should be, by read-back, over 30 days.
        delivered: changes that gateways pushed.
        average_seconds: from a change in the shop to 4Seller's confirmation; None without any.
        slowest_seconds: the slowest of them.
    """

    channels: list[dict[str, Any]]
    orders: list[int]
    pushes: list[int]
    consistency: list[float]
    delivered: int
    average_seconds: float | None
    slowest_seconds: float


def read_trends(connection: sa.Connection, now: datetime) -> Trends:
    """Reads all of it, by the small indexes on dates."""
    since = now - timedelta(hours=HOURS)
    order, log = marketplace_orders.c, sync_logs.c
    placed = connection.scalars(sa.select(order.placed_at).where(order.placed_at > since)).all()
    started = sa.select(log.kind, log.started_at, log.counts).where(
        log.kind.in_(["products", "inventory", GATEWAY]), log.started_at > utc_now(-DAY)
    )
    rows = connection.execute(started).all()
    pushes = [(row.started_at, _pushed(row.counts)) for row in rows]
    minutes = [row.counts or {} for row in rows if row.kind == GATEWAY]
    delivered = sum(counts.get("delivered") or 0 for counts in minutes)
    took = sum(counts.get("delivered_seconds") or 0 for counts in minutes)
    return Trends(
        _channels(connection, since),
        by_hour([(moment, 1) for moment in placed], now),
        by_hour(pushes, now),
        _consistency(connection),
        delivered,
        took / delivered if delivered else None,
        max((counts.get("slowest_seconds") or 0.0 for counts in minutes), default=0.0),
    )


def by_hour(found: Sequence[tuple[datetime, int]], now: datetime, hours: int = HOURS) -> list[int]:
    """Sums over the last hours, the oldest first. Pure."""
    sums = [0] * hours
    for moment, count in found:
        back = int((now - moment).total_seconds() // 3600)
        if 0 <= back < hours:
            sums[hours - 1 - back] += count
    return sums


def _pushed(counts: dict[str, Any] | None) -> int:
    return sum(int((counts or {}).get(name) or 0) for name in ("created", "updated", "pushed", "deleted"))


def _channels(connection: sa.Connection, since: datetime) -> list[dict[str, Any]]:
    order, line = marketplace_orders.c, marketplace_order_lines.c
    recent = order.placed_at > since
    names = (order.sales_channel, order.currency)
    count, newest = sa.func.count().label("orders"), sa.func.max(order.placed_at, type_=order.placed_at.type)
    revenue = sa.func.sum(order.total, type_=order.total.type).label("revenue")
    sales = sa.select(*names, count, revenue, newest.label("newest")).where(recent).group_by(*names)
    joined = marketplace_orders.join(marketplace_order_lines, line.order_id == order.id)
    sold = sa.select(*names, sa.func.sum(line.quantity)).select_from(joined).where(recent).group_by(*names)
    units = {(row[0], row[1]): row[2] for row in connection.execute(sold)}
    rows = [dict(row) for row in connection.execute(sales.order_by(count.desc())).mappings()]
    return [row | {"units": units.get((row["sales_channel"], row["currency"]), 0)} for row in rows]


def _consistency(connection: sa.Connection) -> list[float]:
    log = sync_logs.c
    recent = sa.and_(log.kind == "reconcile", log.started_at > utc_now(-CONSISTENCY_DAYS * DAY))
    found = connection.scalars(sa.select(log.counts).where(recent).order_by(log.id))
    return [counts["consistency"] for counts in found if counts and counts.get("consistency") is not None]
