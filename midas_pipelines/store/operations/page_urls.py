"""The ids in the URLs of items and orders, in the shop and at 4Seller."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import mappings, marketplace_orders
from midas_pipelines.storefront.schema import orders, products

Names = dict[str, str]  # the values that a URL template may use; "" for a missing one
_ITEM, _ORDER = mappings.c, marketplace_orders.c
_QUERIES: dict[str, sa.Select[Any]] = {
    "sku": sa.select(
        _ITEM.sku,
        products.c.name.label("title"),
        products.c.slug,
        _ITEM.product_id,
        _ITEM.fourseller_product_id.label("fourseller_id"),
    ).outerjoin_from(mappings, products, products.c.id == _ITEM.product_id),
    "order": sa.select(
        _ORDER.marketplace_order_id.label("order"),
        orders.c.order_number.label("number"),
        orders.c.id.label("order_id"),
    ).outerjoin_from(marketplace_orders, orders, orders.c.id == _ORDER.local_order_id),
}
"""By the column that names an item or an order, the ids of both sides: the first column is that one."""


def page_names(database: Database, column: str, values: Collection[str]) -> dict[str, Names]:
    """The names of each item (`sku`) or imported order (`order`) that is known by one of these values, by its value."""
    query = _QUERIES[column]
    rows = database.rows(query.where(query.selected_columns[0].in_(values)))
    named = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    return {names[column]: names for names in named}
