"""Sales velocity from the ledger: the rate of sale of each item, and the best sellers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import inventory_changes, marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import has_product_status, product_variants, products
from midas_pipelines.storefront.types import utc_now

RATE_DAYS = 28
"""The span that a rate of sale is taken over: four whole weeks, so that weekends weigh as they should."""

DAY_SECONDS = 86_400
_ROW = inventory_changes.c
_GONE_OUT = sa.or_(_ROW.source == "fourseller", sa.and_(_ROW.cause == "changed", _ROW.delta < 0))
"""What counts as sold: marketplace sales less returns, and reductions by the shop's own code."""


def units_sold(
    connection: sa.Connection, product_ids: Collection[int], days: int = RATE_DAYS
) -> dict[ItemKey, int]:
    """Units that these products' items sold in the last `days`, returns allocated off; items that sold nothing are missing."""
    if not product_ids:
        return {}
    query = (
        sa.select(_ROW.product_id, _ROW.variant_id, sa.func.sum(-_ROW.delta).label("units"))
        .where(_ROW.product_id.in_(product_ids), _GONE_OUT, _ROW.created_at > utc_now(-DAY_SECONDS * days))
        .group_by(_ROW.product_id, _ROW.variant_id)
    )
    rows = connection.execute(query)
    return {(row.product_id, row.variant_id): int(row.units) for row in rows if row.units > 0}


def soonest_out(connection: sa.Connection, limit: int, days: int = RATE_DAYS) -> list[dict[str, Any]]:
    """The items that sold in the last `days`, those first whose stock lasts the shortest at that rate."""
    units = sa.func.sum(-_ROW.delta)
    sold = (
        sa.select(_ROW.product_id, _ROW.variant_id, units.label("units"))
        .where(_GONE_OUT, _ROW.created_at > utc_now(-DAY_SECONDS * days))
        .group_by(_ROW.product_id, _ROW.variant_id)
        .having(units > 0)
        .subquery()
    )
    on_hand = sa.case(
        (sold.c.variant_id.is_not(None), product_variants.c.stock_quantity), else_=products.c.stock_quantity
    )
    sku = sa.case((sold.c.variant_id.is_not(None), product_variants.c.sku), else_=products.c.sku)
    query = (
        sa.select(
            *sold.c, on_hand.label("on_hand"), sku.label("sku"), products.c.name, products.c.category_id
        )
        .select_from(
            sold.join(products, products.c.id == sold.c.product_id).outerjoin(
                product_variants, product_variants.c.id == sold.c.variant_id
            )
        )
        .where(on_hand.is_not(None))
        .order_by(sa.cast(on_hand, sa.Float) / sold.c.units, sold.c.units.desc(), sku)
        .limit(limit)
    )
    if has_product_status(connection):
        query = query.where(products.c.status == "active")
    return [dict(row) for row in connection.execute(query).mappings()]


def oversold_lines(database: Database, limit: int = 20) -> list[dict[str, Any]]:
    """The marketplace lines that stock could not cover, the newest first, with the units backordered."""
    line = marketplace_order_lines.c
    query = (
        sa.select(
            marketplace_orders.c.marketplace_order_id.label("order"),
            line.sku,
            line.quantity.label("sold"),
            line.allocated,
            line.backordered,
        )
        .join(marketplace_orders, marketplace_orders.c.id == line.order_id)
        .where(line.backordered > 0)
        .order_by(line.id.desc())
        .limit(limit)
    )
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def top_movers(database: Database, days: int = 7, limit: int = 10) -> list[dict[str, Any]]:
    """The items that sold most in the last `days`, with what is left of each."""
    sku = sa.func.coalesce(product_variants.c.sku, products.c.sku)
    left = sa.func.coalesce(product_variants.c.stock_quantity, products.c.stock_quantity)
    units = sa.func.sum(-_ROW.delta)
    query = (
        sa.select(sku.label("sku"), units.label("sold"), left.label("on_hand"))
        .select_from(
            inventory_changes.join(products, products.c.id == _ROW.product_id).outerjoin(
                product_variants, product_variants.c.id == _ROW.variant_id
            )
        )
        .where(_GONE_OUT, _ROW.created_at > utc_now(-DAY_SECONDS * days))
        .group_by(sku, left)
        .having(units > 0)
        .order_by(units.desc(), sku)
        .limit(limit)
    )
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
