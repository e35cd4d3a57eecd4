"""What was imported: orders by the day they were placed, those still open, and when orders were last read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import (
    ORDER_OPEN,
    marketplace_order_lines,
    marketplace_orders,
    sync_logs,
)

_ORDERS, _LINES = marketplace_orders.c, marketplace_order_lines.c

PLOTTED_CHANNELS = {"amazon", "ebay", "etsy", "shopify", "shein", "temu", "tiktok", "tiktok_shop", "walmart"}


@dataclass(slots=True)
class DayOfOrders:
    """The marketplace orders that were placed on one day."""

    orders: int = 0
    sales: dict[str, int | float] = field(default_factory=dict)
    """Units, orders and revenue by channel; cancelled orders, whose units and revenue do not count; those with an exception."""

    def add(self, row: sa.Row[Any]) -> None:
        """Adds the orders of one channel in one currency."""
        self.orders += row.orders
        named = (row.sales_channel or "").lower().replace(" ", "_")
        channel = named if named in PLOTTED_CHANNELS else "other"  # what a hub calls one may name a person
        currency = row.currency.lower() if len(row.currency or "") == 3 else "other"
        for name, value in (
            ("units", int(row.units)),
            (f"orders_{channel}", row.orders),
            (f"revenue_{currency}", float(row.revenue)),
            (f"revenue_{currency}_{channel}", float(row.revenue)),
            ("cancelled", row.cancelled),
            ("exceptions", row.exceptions),
        ):
            self.sales[name] = round(self.sales.get(name, 0) + value, 2)


def orders_by_day(
    database: Database, placed_from: datetime | None = None, placed_to: datetime | None = None
) -> dict[str, DayOfOrders]:
    """The imported orders by the day they were placed, in UTC; only days with orders. An order without
    a date counts on the day it was imported.

    Args:
        database: the shop's.
        placed_from: leaves out those placed earlier.
        placed_to: leaves out those placed then or later.
    """
    cancelled = _ORDERS.status == "cancelled"
    day = _day(database)
    units = sa.select(sa.func.sum(_LINES.quantity)).where(_LINES.order_id == _ORDERS.id).scalar_subquery()
    query = sa.select(
        day,
        _ORDERS.sales_channel,
        _ORDERS.currency,
        sa.func.count().label("orders"),
        sa.func.coalesce(sa.func.sum(units).filter(~cancelled), 0).label("units"),
        sa.func.coalesce(sa.func.sum(_ORDERS.total).filter(~cancelled), 0).label("revenue"),
        sa.func.count().filter(cancelled).label("cancelled"),
        sa.func.count().filter(_ORDERS.exception.is_not(None)).label("exceptions"),
    )
    query = query.where(_ORDERS.local_order_id.is_not(None)).group_by(
        day, _ORDERS.sales_channel, _ORDERS.currency
    )
    if placed_from is not None:
        query = query.where(placed(lambda moment: moment >= placed_from))
    if placed_to is not None:
        query = query.where(placed(lambda moment: moment < placed_to))
    days: dict[str, DayOfOrders] = {}
    with database.reading() as connection:
        for row in connection.execute(query):
            days.setdefault(str(row.day), DayOfOrders()).add(row)
    return days


def days_with_new_orders(database: Database, since: datetime | None) -> set[str]:
    """The days on which the orders were placed that were imported since then; None for all days with orders."""
    query = sa.select(_day(database)).where(_ORDERS.local_order_id.is_not(None)).distinct()
    if since is not None:
        query = query.where(_ORDERS.imported_at >= since)
    with database.reading() as connection:
        return {str(day) for day in connection.scalars(query)}


def _day(database: Database) -> sa.Label[Any]:
    placed = sa.func.coalesce(_ORDERS.placed_at, _ORDERS.imported_at)
    return sa.func.date(sa.func.timezone("UTC", placed) if database.is_postgresql else placed).label("day")


def placed(holds: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
    """The condition on when an order was placed; while that is unknown, on when it was imported. Each has its
    column bare, so that an index is of use."""
    return sa.or_(holds(_ORDERS.placed_at), sa.and_(_ORDERS.placed_at.is_(None), holds(_ORDERS.imported_at)))


def last_import(database: Database) -> datetime | None:
    """When orders were last read without failing; None when never."""
    log = sync_logs.c
    query = sa.select(log.started_at).where(
        log.kind == "orders",
        log.scope == "changed",  # not a backfill of some days
        log.outcome.in_(["done", "partial"]),
    )
    with database.reading() as connection:
        return connection.scalar(query.order_by(log.id.desc()).limit(1))


def open_orders(database: Database) -> int:
    """How many orders the shop still has to handle."""
    query = sa.select(sa.func.count()).where(ORDER_OPEN, _ORDERS.local_order_id.is_not(None))
    with database.reading() as connection:
        return connection.scalar(query) or 0
