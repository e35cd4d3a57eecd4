"""The catalogue as rows, for people who look at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.claims import COLUMNS, Mapping
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.store.stock.rules import NO_RULE, read_rules
from midas_pipelines.storefront.catalog import read_items
from midas_pipelines.storefront.schema import has_product_status, product_variants, products
from midas_pipelines.sync.listings.content import title, unlistable
from midas_pipelines.sync.rules.arithmetic import available

CHUNK = 1000


def snapshot_rows(
    database: Database, title_limit: int, shards: Shards | None = None
) -> Iterator[dict[str, Any]]:
    """One row per sellable item, of those shards or of all.

    `reason` says why it cannot be listed, None where it can; `mapping` is the id that its shard follows from.
    """
    after = 0
    while True:
        query = sa.select(*COLUMNS).where(mappings.c.id > after).order_by(mappings.c.id).limit(CHUNK)
        if shards is not None:
            query = query.where(shards.condition)
        with database.reading() as connection:
            rows = [Mapping(*row) for row in connection.execute(query)]
            has_status = has_product_status(connection)
            items = read_items(connection, [row.key for row in rows], has_status=has_status)
            rules = read_rules(connection, {key: item.category_id for key, item in items.items()})
        if not rows:
            return
        after = rows[-1].id
        for row in rows:
            item = items.get(row.key)
            if item is None or not item.active:
                continue
            yield {
                "mapping": row.id,
                "sku": item.sku,
                "title": title(item),
                "price": item.price,
                "on_hand": item.on_hand,
                "available": available(item.on_hand, rules.get(row.key, NO_RULE)),
                "category": item.category,
                "brand": item.brand,
                "state": row.state,
                "reason": unlistable(item, title_limit)
                or (row.reason if row.state == "quarantined" else None),
            }


def duplicate_skus(database: Database) -> list[dict[str, Any]]:
    """SKUs that more than one sellable item has, with how many have it and two of their products' ids."""
    has_variants = sa.exists().where(product_variants.c.product_id == products.c.id)
    skus = sa.union_all(
        sa.select(products.c.sku, products.c.id.label("product")).where(
            products.c.sku.is_not(None), ~has_variants
        ),
        sa.select(product_variants.c.sku, product_variants.c.product_id).where(
            product_variants.c.sku.is_not(None)
        ),
    ).subquery()
    count = sa.func.count().label("items")
    first, last = sa.func.min(skus.c.product), sa.func.max(skus.c.product)
    query = (
        sa.select(skus.c.sku, count, first.label("first_product"), last.label("last_product"))
        .group_by(skus.c.sku)
        .having(count > 1)
        .order_by(count.desc(), skus.c.sku)
    )
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
