"""Order lines and orders that wait for a person, oldest first, with what a card about each shows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.items.listing import ON_HAND
from midas_pipelines.store.items.quarantined import SKU
from midas_pipelines.store.schema.tables import (
    ORDER_QUARANTINED,
    mappings,
    marketplace_order_lines,
    marketplace_orders,
)
from midas_pipelines.storefront.schema import orders, product_variants, products

_LINE, _ORDER = marketplace_order_lines.c, marketplace_orders.c
UNMAPPED = sa.and_(
    _LINE.exception.is_not(None), _LINE.product_id.is_(None), _LINE.allocated == 0, _LINE.quantity > 0
)
"""A line without an item; the condition on `exception` uses its small index."""

OVERSOLD = _LINE.backordered > sa.literal_column("0")


def waiting_lines(
    connection: sa.Connection, which: sa.ColumnElement[bool], *, after: int = 0, limit: int = 50
) -> list[dict[str, Any]]:
    """Lines that are `UNMAPPED` or `OVERSOLD`, behind an id, each with its order and its item's stock."""
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
        _LINE.id,
        _LINE.line,
        _LINE.sku.label("hub_sku"),
        _LINE.title,
        _LINE.quantity,
        _LINE.price,
        _LINE.backordered,
        _ORDER.marketplace_order_id,
        _ORDER.sales_channel,
        _ORDER.currency,
        _ORDER.imported_at,
        SKU,
        products.c.name,
        ON_HAND.label("on_hand"),
    ).select_from(joined)
    found = connection.execute(query.where(which, _LINE.id > after).order_by(_LINE.id).limit(limit))
    return [dict(row) for row in found.mappings()]


def waiting_orders(
    connection: sa.Connection, exceptions: list[str] | None, *, after: int = 0, limit: int = 50
) -> list[dict[str, Any]]:
    """Orders with one of these exceptions, or the quarantined ones, behind an id; nothing that says who bought."""
    which: sa.ColumnElement[bool] = ORDER_QUARANTINED
    if exceptions is not None:
        listed = sa.literal(",") + _ORDER.exception + ","
        which = sa.and_(
            _ORDER.exception.is_not(None), sa.or_(*(listed.contains(f",{word},") for word in exceptions))
        )
    names = [
        "id",
        "marketplace_order_id",
        "sales_channel",
        "status",
        "exception",
        "reason",
        "currency",
        "total",
        "imported_at",
    ]
    query = sa.select(*(_ORDER[name] for name in names), orders.c.status.label("shop_status"))
    query = query.select_from(marketplace_orders.outerjoin(orders, orders.c.id == _ORDER.local_order_id))
    found = connection.execute(query.where(which, _ORDER.id > after).order_by(_ORDER.id).limit(limit))
    return [dict(row) for row in found.mappings()]
