"""Finding the item that a SKU names."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import product_variants, products


def items_by_sku(connection: sa.Connection, skus: Collection[str]) -> dict[str, ItemKey]:
    """The items with these SKUs; a product that is sold by variant is no item, so its own SKU finds nothing."""
    if not skus:
        return {}
    has_variants = sa.exists().where(product_variants.c.product_id == products.c.id)
    plain = sa.select(products.c.sku, products.c.id).where(products.c.sku.in_(skus), ~has_variants)
    found: dict[str, ItemKey] = {row.sku: (row.id, None) for row in connection.execute(plain)}
    columns = product_variants.c
    by_variant = sa.select(columns.sku, columns.product_id, columns.id).where(
        columns.sku.in_(skus), columns.product_id.is_not(None)
    )
    for row in connection.execute(by_variant):
        found.setdefault(row.sku, (row.product_id, row.id))
    return found
