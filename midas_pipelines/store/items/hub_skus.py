"""Hub SKUs, which no item of the shop has: linked to an item by a person, or another spelling of an item's SKU."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import SPELLING, hub_skus, mappings
from midas_pipelines.storefront.bulk import any_of, upsert
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.text import spellings

table = hub_skus.c


def link(connection: sa.Connection, hub_sku: str, item: ItemKey) -> None:
    """Links the SKU to the item, in place of any earlier link."""
    upsert(connection, hub_skus, {"hub_sku": hub_sku}, {"product_id": item[0], "variant_id": item[1]})


def unlink(connection: sa.Connection, hub_sku: str) -> bool:
    """Deletes the SKU's link; False if there was none."""
    return connection.execute(sa.delete(hub_skus).where(table.hub_sku == hub_sku)).rowcount > 0


def links(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every linked SKU with its item."""
    return [dict(row) for row in connection.execute(sa.select(hub_skus).order_by(table.hub_sku)).mappings()]


def linked_items(connection: sa.Connection, skus: set[str]) -> dict[str, ItemKey]:
    """The items that a person has linked these SKUs to."""
    query = sa.select(hub_skus).where(any_of(connection, table.hub_sku, skus))
    return {row.hub_sku: (row.product_id, row.variant_id) for row in connection.execute(query)}


def respelled_items(connection: sa.Connection, skus: set[str]) -> dict[str, ItemKey]:
    """The listed items whose SKU these may be another spelling of, where that can be one item only."""
    spelled = {sku: spellings(sku) for sku in skus}
    wanted = set().union(*spelled.values()) if spelled else set()
    query = sa.select(mappings.c.sku, mappings.c.product_id, mappings.c.variant_id)
    found: dict[str, set[ItemKey]] = {}
    for row in connection.execute(query.where(any_of(connection, SPELLING, wanted))):
        for spelling in spellings(row.sku):
            found.setdefault(spelling, set()).add((row.product_id, row.variant_id))
    meant = {sku: set().union(*(found.get(one, set()) for one in spelled[sku])) for sku in skus}
    return {sku: next(iter(items)) for sku, items in meant.items() if len(items) == 1}
