"""Lists marketplace orders and the lines that wait for a person; nothing that says who bought."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.items.mappings import ON_HAND, SKU
from midas_pipelines.store.schema.tables import (
    ORDER_QUARANTINED,
    mappings,
    marketplace_order_lines,
    marketplace_orders,
)
from midas_pipelines.storefront.schema import orders, product_variants, products

SHOWN = (
    "id",
    "marketplace_order_id",
    "local_order_id",
    "sales_channel",
    "status",
    "outcome",
    "exception",
    "reason",
    "currency",
    "total",
    "placed_at",
    "imported_at",
)
_LINE, _ORDER = marketplace_order_lines.c, marketplace_orders.c
QUARANTINED = "quarantined"
NEEDS_A_PERSON = sa.or_(_ORDER.exception.is_not(None), ORDER_QUARANTINED)
"""The order has an exception or is quarantined; two small indexes serve it."""

UNMAPPED = sa.and_(
    _LINE.exception.is_not(None),
    _LINE.product_id.is_(None),
    sa.or_(
        _LINE.allocated == 0,
        sa.and_(_LINE.allocated == _LINE.released, _LINE.exception.contains("unmapped")),
    ),
    _LINE.quantity > 0,
)
"""A line without an item; the condition on `exception` uses its small index."""

LINE_ID = _LINE.id
OVERSOLD = _LINE.backordered > sa.literal_column("0")


@dataclass(frozen=True)
class Filters:
    """A filter on orders; None for any.

    `exception` is True for all that need a person, False for the others, or the names of exceptions, of which
    `quarantined` is one.
    """

    status: str | None = None
    sales_channel: str | None = None
    exception: bool | Collection[str] | None = None
    placed_from: datetime | None = None
    placed_to: datetime | None = None


def list_orders(
    connection: sa.Connection,
    filters: Filters,
    *,
    before: int | None = None,
    after: int | None = None,
    skip: int | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Orders that fit, with the shop's number and status: the newest first, or the oldest behind the row `after`.

    `before` leaves out that row and all newer ones. With `skip`, those with the most money at stake first, but for so many.
    """
    shop = (orders.c.order_number, orders.c.status.label("shop_status"))
    query = sa.select(*(_ORDER[name] for name in SHOWN), *shop)
    query = query.outerjoin_from(marketplace_orders, orders, orders.c.id == _ORDER.local_order_id)
    for value, column in ((filters.status, _ORDER.status), (filters.sales_channel, _ORDER.sales_channel)):
        if value is not None:
            query = query.where(column == value)
    if isinstance(filters.exception, bool):
        query = query.where(NEEDS_A_PERSON if filters.exception else ~NEEDS_A_PERSON)
    elif filters.exception is not None:
        query = query.where(sa.or_(*map(_has_exception, filters.exception)))
    if filters.placed_from is not None:
        query = query.where(_ORDER.placed_at >= filters.placed_from)
    if filters.placed_to is not None:
        query = query.where(_ORDER.placed_at < filters.placed_to)
    if before is not None:
        query = query.where(_ORDER.id < before)
    if after is not None:
        query = query.where(_ORDER.id > after)
    if skip is not None:
        stake = sa.func.coalesce(sa.cast(_ORDER.total, sa.Float), 0.0)
        query = query.add_columns(stake.label("stake")).order_by(stake.desc()).offset(skip)
    query = query.order_by(_ORDER.id.desc() if after is None else _ORDER.id).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def _has_exception(name: str) -> sa.ColumnElement[bool]:
    if name == QUARANTINED:
        return ORDER_QUARANTINED
    listed = (sa.literal(",") + _ORDER.exception + ",").contains(f",{name},", autoescape=True)
    return sa.and_(_ORDER.exception.is_not(None), listed)


def waiting_lines(
    connection: sa.Connection, which: sa.ColumnElement[bool], *, skip: int = 0, limit: int = 50
) -> list[dict[str, Any]]:
    """Lines that are `UNMAPPED` or `OVERSOLD`, the most money at stake first, each with its order and its item's stock.

    `skip` leaves out so many of the first.
    """
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
