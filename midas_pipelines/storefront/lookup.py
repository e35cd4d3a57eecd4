"""Finds items by SKU, and checks whether an item still exists."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from midas_pipelines.storefront.bulk import any_of
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import product_variants, products


def items_by_sku(connection: sa.Connection, skus: Collection[str]) -> dict[str, ItemKey]:
    """The items with these SKUs; a product with variants is not an item, so its own SKU finds nothing."""
    if not skus:
        return {}
    has_variants = sa.exists().where(product_variants.c.product_id == products.c.id)
    plain = sa.select(products.c.sku, products.c.id).where(
        any_of(connection, products.c.sku, skus), ~has_variants
    )
    found: dict[str, ItemKey] = {row.sku: (row.id, None) for row in connection.execute(plain)}
    columns = product_variants.c
    by_variant = sa.select(columns.sku, columns.product_id, columns.id).where(
        any_of(connection, columns.sku, skus), columns.product_id.is_not(None)
    )
    for row in connection.execute(by_variant):
        found.setdefault(row.sku, (row.product_id, row.id))
    return found


def present_items(connection: sa.Connection, keys: Collection[ItemKey]) -> set[ItemKey]:
    """The keys of items that still exist in the shop, archived or not."""
    product_ids = {product for product, variant in keys if variant is None}
    variant_ids = {variant for _, variant in keys if variant is not None}
    columns = product_variants.c
    found: set[ItemKey] = set()
    if product_ids:
        has_variants = sa.exists().where(columns.product_id == products.c.id)
        plain = sa.select(products.c.id).where(any_of(connection, products.c.id, product_ids), ~has_variants)
        found |= {(product, None) for product in connection.scalars(plain)}
    if variant_ids:
        by_variant = sa.select(columns.product_id, columns.id).where(
            any_of(connection, columns.id, variant_ids)
        )
        found |= {(row.product_id, row.id) for row in connection.execute(by_variant)}
    return found & set(keys)
