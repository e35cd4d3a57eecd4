"""The ids in the URLs of items and orders, in the shop and at 4Seller."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import mappings, marketplace_orders
from midas_pipelines.storefront.schema import orders, products

Names = dict[str, str]
"""The values that a URL template may use; "" for a missing one."""
_ITEM, _ORDER = mappings.c, marketplace_orders.c
_NAMES = (_ITEM.sku, products.c.name.label("title"), products.c.slug, _ITEM.product_id)
_ITEMS = sa.select(*_NAMES, _ITEM.fourseller_product_id.label("fourseller_id")).outerjoin_from(
    mappings, products, products.c.id == _ITEM.product_id
)
_ORDERS = sa.select(
    _ORDER.marketplace_order_id.label("order"),
    orders.c.order_number.label("number"),
    orders.c.id.label("order_id"),
).outerjoin_from(marketplace_orders, orders, orders.c.id == _ORDER.local_order_id)


def item_names(database: Database, skus: Collection[str]) -> dict[str, Names]:
    """`sku`, `title`, `slug`, `product_id` (the shop's) and `fourseller_id` of each item that is known by one of those SKUs."""
    return _by_first(database, _ITEMS.where(_ITEM.sku.in_(skus)))


def order_names(database: Database, order_ids: Collection[str]) -> dict[str, Names]:
    """`order` (the marketplace's), `number` and `order_id` (the shop's) of each imported order with such an id."""
    return _by_first(database, _ORDERS.where(_ORDER.marketplace_order_id.in_(order_ids)))


def _by_first(database: Database, query: sa.Select[Any]) -> dict[str, Names]:
    with database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    named = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    return {next(iter(names.values())): names for names in named}
