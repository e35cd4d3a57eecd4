"""Sales velocity from the ledger: the rate of sale of each item, and the best sellers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import inventory_changes
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


def soonest_out(connection: sa.Connection, limit: int) -> list[dict[str, Any]]:
    """The items that sold in four weeks, those first whose stock lasts the shortest at that rate."""
    query, units, on_hand, sku = _sold(RATE_DAYS)
    query = query.add_columns(
        _ROW.product_id, _ROW.variant_id, units.label("units"), products.c.name, products.c.category_id
    ).group_by(_ROW.product_id, _ROW.variant_id, products.c.name, products.c.category_id)
    if has_product_status(connection):
        query = query.where(products.c.status == "active")
    lasts = sa.cast(on_hand, sa.Float) / units
    found = connection.execute(query.order_by(lasts, units.desc(), sku).limit(limit))
    return [dict(row) for row in found.mappings()]


def top_movers(database: Database, days: int = 7, limit: int = 10) -> list[dict[str, Any]]:
    """The items that sold most in the last `days`, with what is left of each."""
    query, units, _, sku = _sold(days)
    query = query.add_columns(units.label("sold")).order_by(units.desc(), sku).limit(limit)
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _sold(
    days: int,
) -> tuple[sa.Select[Any], sa.ColumnElement[int], sa.ColumnElement[int], sa.ColumnElement[str]]:
    """Selects SKU and stock of the items that sold in the last days; with the units, and the two columns."""
    of_variant = _ROW.variant_id.is_not(None)
    on_hand = sa.case((of_variant, product_variants.c.stock_quantity), else_=products.c.stock_quantity)
    sku = sa.case((of_variant, product_variants.c.sku), else_=products.c.sku)
    units: sa.ColumnElement[int] = sa.func.sum(-_ROW.delta)
    items = inventory_changes.join(products, products.c.id == _ROW.product_id)
    query = (
        sa.select(sku.label("sku"), on_hand.label("on_hand"))
        .select_from(items.outerjoin(product_variants, product_variants.c.id == _ROW.variant_id))
        .where(_GONE_OUT, _ROW.created_at > utc_now(-DAY_SECONDS * days), on_hand.is_not(None))
        .group_by(sku, on_hand)
        .having(units > 0)
    )
    return query, units, on_hand, sku
