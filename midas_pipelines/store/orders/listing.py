"""Lists marketplace orders, the lines that wait for a person, and what was placed by day; nothing that says who bought."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import ON_HAND, SKU
from midas_pipelines.store.schema.tables import (
    ORDER_OPEN,
    ORDER_QUARANTINED,
    mappings,
    marketplace_order_lines,
    marketplace_orders,
    order_processing_logs,
    sync_logs,
)
from midas_pipelines.storefront.schema import orders, product_variants, products

SHOWN = (
    *("id", "marketplace_order_id", "local_order_id", "sales_channel", "status", "outcome"),
    *("exception", "reason", "currency", "total", "placed_at", "imported_at"),
)
PLOTTED_CHANNELS = {"amazon", "ebay", "etsy", "shopify", "shein", "temu", "tiktok", "tiktok_shop", "walmart"}
_LINE, _ORDER = marketplace_order_lines.c, marketplace_orders.c
QUARANTINED = "quarantined"
NEEDS_A_PERSON = sa.or_(_ORDER.exception.is_not(None), ORDER_QUARANTINED)
"""The order has an exception or is quarantined; two small indexes serve it."""

_BACK = sa.and_(_LINE.allocated == _LINE.released, _LINE.exception.contains("unmapped"))
UNMAPPED = sa.and_(
    *(_LINE.exception.is_not(None), _LINE.product_id.is_(None), _LINE.quantity > 0),
    sa.or_(_LINE.allocated == 0, _BACK),
)
"""A line without an item; the condition on `exception` uses its small index."""

LINE_ID = _LINE.id
OVERSOLD = _LINE.backordered > sa.literal_column("0")


@dataclass(frozen=True)
class Filters:
    """A filter on orders; None for any. `exception` is True for all that need a person, False for the others, or the names
    of exceptions, of which `quarantined` is one."""

    status: str | None = None
    sales_channel: str | None = None
    exception: bool | Collection[str] | None = None
    placed_from: datetime | None = None
    placed_to: datetime | None = None


def list_orders(
    connection: sa.Connection,
    filters: Filters,
    *,
    limit: int,
    before: int | None = None,
    skip: int | None = None,
) -> list[dict[str, Any]]:
    """Orders that fit, with the shop's number and status, the newest first, `before` a row of ours; with `skip`, the most
    money at stake first, but for so many."""
    shop = (orders.c.order_number, orders.c.status.label("shop_status"))
    query = sa.select(*(_ORDER[name] for name in SHOWN), *shop)
    query = query.outerjoin_from(marketplace_orders, orders, orders.c.id == _ORDER.local_order_id)
    for value, column, compare in (
        (filters.status, _ORDER.status, operator.eq),
        (filters.sales_channel, _ORDER.sales_channel, operator.eq),
        (filters.placed_from, _ORDER.placed_at, operator.ge),
        (filters.placed_to, _ORDER.placed_at, operator.lt),
        (before, _ORDER.id, operator.lt),
    ):
        if value is not None:
            query = query.where(compare(column, value))
    if isinstance(filters.exception, bool):
        query = query.where(NEEDS_A_PERSON if filters.exception else ~NEEDS_A_PERSON)
    elif filters.exception is not None:
        listed = sa.literal(",") + _ORDER.exception + ","
        named = [listed.contains(f",{name},", autoescape=True) for name in filters.exception]
        some = sa.and_(_ORDER.exception.is_not(None), sa.or_(sa.false(), *named))
        query = query.where(sa.or_(some, ORDER_QUARANTINED) if QUARANTINED in filters.exception else some)
    if skip is not None:
        stake = sa.func.coalesce(sa.cast(_ORDER.total, sa.Float), 0.0)
        query = query.add_columns(stake.label("stake")).order_by(stake.desc()).offset(skip)
    query = query.order_by(_ORDER.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def waiting_lines(
    connection: sa.Connection, which: sa.ColumnElement[bool], *, skip: int = 0, limit: int = 50
) -> list[dict[str, Any]]:
    """Lines that are `UNMAPPED` or `OVERSOLD`, the most money at stake first, each with its order and its item's stock."""
    units = sa.case((_LINE.backordered > 0, _LINE.backordered), else_=_LINE.quantity)
    stake = sa.func.coalesce(sa.cast(_LINE.price, sa.Float) * units, 0.0)
    item = sa.and_(
        mappings.c.product_id == _LINE.product_id,
        sa.func.coalesce(mappings.c.variant_id, 0) == sa.func.coalesce(_LINE.variant_id, 0),
    )
    joined = (
        marketplace_order_lines.join(marketplace_orders, _ORDER.id == _LINE.order_id)
        .outerjoin(mappings, item)
        .outerjoin(products, products.c.id == mappings.c.product_id)
        .outerjoin(product_variants, product_variants.c.id == mappings.c.variant_id)
    )
    query = sa.select(
        *(_LINE[name] for name in ("id", "line", "title", "quantity", "price", "allocated", "backordered")),
        *(_ORDER[name] for name in ("marketplace_order_id", "sales_channel", "currency", "imported_at")),
        _LINE.sku.label("hub_sku"),
        SKU,
        products.c.name,
        ON_HAND.label("on_hand"),
        stake.label("stake"),
    ).select_from(joined)
    query = query.where(which).order_by(stake.desc(), _LINE.id)
    found = connection.execute(query.offset(skip).limit(limit))
    return [dict(row) for row in found.mappings()]


def sales_by_channel(
    connection: sa.Connection, placed_from: datetime, placed_to: datetime | None = None
) -> list[dict[str, Any]]:
    """Imported orders placed, or without a date imported, from one moment until before another, by sales channel and
    currency, most orders first: their number, units and revenue, to which cancelled ones add nothing, how many of them are
    cancelled or have an exception, and when the newest was placed."""
    cancelled, moment = _ORDER.status == "cancelled", sa.func.coalesce(_ORDER.placed_at, _ORDER.imported_at)
    units = sa.select(sa.func.sum(_LINE.quantity)).where(_LINE.order_id == _ORDER.id).scalar_subquery()
    count, total = sa.func.count().label("orders"), sa.func.sum(_ORDER.total, type_=_ORDER.total.type)
    query = sa.select(
        _ORDER.sales_channel,
        _ORDER.currency,
        count,
        sa.cast(sa.func.coalesce(sa.func.sum(units).filter(~cancelled), 0), sa.Integer).label("units"),
        sa.func.coalesce(total.filter(~cancelled), 0).label("revenue"),
        sa.func.count().filter(cancelled).label("cancelled"),
        sa.func.count().filter(_ORDER.exception.is_not(None)).label("exceptions"),
        sa.func.max(moment, type_=_ORDER.placed_at.type).label("newest"),
    )
    query = query.where(
        _ORDER.local_order_id.is_not(None),
        placed(lambda at: sa.and_(at >= placed_from, sa.true() if placed_to is None else at < placed_to)),
    )
    query = query.group_by(_ORDER.sales_channel, _ORDER.currency).order_by(count.desc())
    return [dict(row) for row in connection.execute(query).mappings()]


def sales_between(database: Database, placed_from: datetime, placed_to: datetime) -> dict[str, int | float]:
    """The same as numbers that plot: sums, and orders and revenue also by channel, of those known by name, and currency."""
    sales: dict[str, int | float] = {"orders": 0}
    for row in database.read(sales_by_channel, placed_from, placed_to):
        named = (row["sales_channel"] or "").lower().replace(" ", "_")
        channel = named if named in PLOTTED_CHANNELS else "other"  # what a hub calls one may name a person
        currency = row["currency"].lower() if len(row["currency"] or "") == 3 else "other"
        revenue = float(row["revenue"])
        figures = {name: row[name] for name in ("orders", "units", "cancelled", "exceptions")}
        figures |= {f"orders_{channel}": row["orders"], f"revenue_{currency}": revenue}
        for name, value in (figures | {f"revenue_{currency}_{channel}": revenue}).items():
            sales[name] = round(sales.get(name, 0) + value, 2)
    return sales


UNCOUNTED = ("processing", "shipped", "delivered", "tracking_pushed", "confirmed", "erased")
"""Steps of an order that change nothing which `sales_by_channel` counts."""


def days_with_changed_orders(
    database: Database, day_of: Callable[[datetime], date], since: datetime | None
) -> set[date]:
    """The days on which the orders were placed that were imported, cancelled or edited since then, or whose exception
    changed; None for all days with orders."""
    query = sa.select(*QUARTER).where(_ORDER.local_order_id.is_not(None)).distinct()
    if since is not None:
        log = order_processing_logs.c
        steps = sa.select(log.channel, log.marketplace_order_id).distinct()
        steps = steps.where(log.created_at >= since, log.step.not_in(UNCOUNTED))
        changed = steps.subquery()
        its_step = _ORDER.marketplace_order_id == changed.c.marketplace_order_id
        query = query.join(changed, sa.and_(_ORDER.channel == changed.c.channel, its_step))
    return {day_of(_moment(**row)) for row in database.rows(query)}


_TEXT = sa.cast(sa.func.coalesce(_ORDER.placed_at, _ORDER.imported_at), sa.String)
"""As every session has it: in UTC."""
QUARTER = (
    sa.func.substr(_TEXT, 1, 13).label("hour"),
    (sa.cast(sa.func.substr(_TEXT, 15, 2), sa.Integer) // 15).label("quarter"),
)
"""The quarter of an hour in which an order was placed: in each time zone a day begins with one."""


def _moment(hour: str, quarter: int) -> datetime:
    return datetime.fromisoformat(f"{hour}:{quarter * 15:02}+00:00")


def placed(holds: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
    """The condition on when an order was placed; while that is unknown, on when it was imported. Each has its
    column bare, so that an index is of use."""
    return sa.or_(holds(_ORDER.placed_at), sa.and_(_ORDER.placed_at.is_(None), holds(_ORDER.imported_at)))


def last_import(database: Database) -> datetime | None:
    """When orders were last read without failing; None when never."""
    log = sync_logs.c
    imported = sa.and_(log.kind == "orders", log.scope == "changed")  # not a backfill of some days
    query = sa.select(log.started_at).where(imported, log.outcome.in_(["done", "partial"]))
    return database.scalar(query.order_by(log.id.desc()).limit(1))


def open_orders(database: Database) -> int:
    """How many orders the shop still has to handle."""
    query = sa.select(sa.func.count()).where(ORDER_OPEN, _ORDER.local_order_id.is_not(None))
    return database.scalar(query) or 0
