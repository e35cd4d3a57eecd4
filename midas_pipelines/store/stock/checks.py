"""Queries that check the whole stock: totals, counts below zero, counts the ledger does not explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import inventory_changes
from midas_pipelines.storefront.schema import product_variants, products

_HAS_VARIANTS = sa.exists().where(product_variants.c.product_id == products.c.id)

_STOCK = sa.union_all(
    sa.select(
        products.c.id.label("product_id"),
        sa.cast(sa.null(), sa.Integer).label("variant_id"),
        products.c.sku,
        products.c.stock_quantity.label("on_hand"),
        _HAS_VARIANTS.label("by_variant"),
    ),
    sa.select(
        product_variants.c.product_id,
        product_variants.c.id,
        product_variants.c.sku,
        product_variants.c.stock_quantity,
        sa.false(),
    ).where(product_variants.c.product_id.is_not(None)),
).subquery("stock")


@dataclass(frozen=True)
class StockTotals:
    """Counts of sellable items, units on hand, and items without stock."""

    items: int
    units: int
    out_of_stock: int


def stock_totals(database: Database) -> StockTotals:
    """Counts over every sellable item, archived ones included."""
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(_STOCK.c.on_hand), 0),
        sa.func.coalesce(sa.func.sum(sa.case((_STOCK.c.on_hand <= 0, 1), else_=0)), 0),
    ).where(~_STOCK.c.by_variant)
    with database.reading() as connection:
        items, units, empty = connection.execute(query).one()
    return StockTotals(int(items), int(units), int(empty))


def negative_stock(database: Database) -> list[dict[str, Any]]:
    """Items with less than nothing on hand, the worst first."""
    query = sa.select(_STOCK.c.sku, _STOCK.c.on_hand).where(_STOCK.c.on_hand < 0).order_by(_STOCK.c.on_hand)
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def unexplained_stock(database: Database) -> list[dict[str, Any]]:
    """Items whose ledger does not add up to their stock, with both numbers, the largest gap first."""
    rows = inventory_changes.c
    key = sa.func.coalesce(rows.variant_id, 0)
    explained = (
        sa.select(rows.product_id, key.label("variant"), sa.func.sum(rows.delta).label("total"))
        .group_by(rows.product_id, key)
        .subquery("explained")
    )
    total = sa.func.coalesce(explained.c.total, 0)
    query = (
        sa.select(_STOCK.c.sku, _STOCK.c.on_hand, total.label("ledger"))
        .select_from(
            _STOCK.outerjoin(
                explained,
                sa.and_(
                    explained.c.product_id == _STOCK.c.product_id,
                    explained.c.variant == sa.func.coalesce(_STOCK.c.variant_id, 0),
                ),
            )
        )
        .where(total != _STOCK.c.on_hand)
        .order_by(sa.func.abs(total - _STOCK.c.on_hand).desc(), _STOCK.c.sku)
    )
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
