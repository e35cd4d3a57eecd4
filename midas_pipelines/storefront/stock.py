"""Reads and sets the shop's stock under a lock, always in one order: products by id, then variants."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlalchemy as sa

from midas_pipelines.storefront.bulk import update_rows
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.row_locks import lock
from midas_pipelines.storefront.schema import product_variants, products


def lock_stock(connection: sa.Connection, keys: Collection[ItemKey]) -> dict[ItemKey, int]:
    """The stock on hand of these items, locked until the transaction ends; items that are gone are left out.

    Locked as an UPDATE would (FOR NO KEY UPDATE): two sales of one item may both have written their order lines,
    which hold the item's key, and must not wait for one another.

    Raises:
        RowsBusy: others hold some of them.
    """
    found: dict[ItemKey, int] = {}
    product_ids = sorted(product for product, variant in keys if variant is None)
    variant_ids = sorted(variant for _, variant in keys if variant is not None)
    query = sa.select(products.c.id, products.c.stock_quantity)
    for row in lock(connection, query, products.c.id, product_ids):
        found[(row.id, None)] = row.stock_quantity
    columns = product_variants.c
    of_variants = sa.select(columns.id, columns.product_id, columns.stock_quantity)
    for row in lock(connection, of_variants, columns.id, variant_ids):
        found[(row.product_id, row.id)] = row.stock_quantity
    return found


def set_stock(connection: sa.Connection, quantities: Mapping[ItemKey, int]) -> None:
    """Sets the stock on hand of items that `lock_stock` has locked; their ledger rows must be written before."""
    plain = [{"id": p, "stock_quantity": q} for (p, v), q in quantities.items() if v is None]
    variants = [{"id": v, "stock_quantity": q} for (_, v), q in quantities.items() if v is not None]
    update_rows(connection, products, plain)
    update_rows(connection, product_variants, variants)
