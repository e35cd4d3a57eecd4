"""The catalog for people who look at it: summed up under the rules, and its duplicate SKUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.store.stock.rules import NO_RULE, Rule, available, read_rules
from midas_pipelines.storefront.catalog import ShopItem, read_items
from midas_pipelines.storefront.schema import has_product_status, product_variants, products
from midas_pipelines.sync.listings.scan import read_chunk

MOST_SHOWN = 20
ActiveItem = tuple[Mapping, ShopItem, Rule]


def active_items(database: Database) -> Iterator[list[ActiveItem]]:
    """Every active item with its mapping and rule, a thousand mappings at a time."""
    after = 0
    while rows := read_chunk(database, after):
        after = rows[-1].id
        with database.reading() as connection:
            has_status = has_product_status(connection)
            items = read_items(connection, [row.key for row in rows], has_status=has_status)
            rules = read_rules(connection, {key: item.category_id for key, item in items.items()})
        found = ((row, items.get(row.key)) for row in rows)
        yield [(row, item, rules.get(row.key, NO_RULE)) for row, item in found if item and item.active]


@dataclass
class AvailabilitySummary:
    """What the channel may show of all active items; counts of items and units."""

    items: int = 0
    units_on_hand: int = 0
    units_available: int = 0
    out_of_stock: int = 0  # items that the channel shows as out of stock
    excluded: int = 0
    ruled: int = 0  # items that any rule touches
    withheld_most: list[dict[str, Any]] = field(default_factory=list)


def availability_summary(database: Database) -> AvailabilitySummary:
    """Applies the rules to every active item; memory does not grow with the catalog."""
    summary = AvailabilitySummary()
    for chunk in active_items(database):
        for _, item, rule in chunk:
            shown = available(item.on_hand, rule)
            summary.items += 1
            summary.units_on_hand += item.on_hand
            summary.units_available += shown
            summary.out_of_stock += shown == 0
            summary.excluded += bool(rule.exclude)
            summary.ruled += rule is not NO_RULE
        ruled = [
            {
                "sku": item.sku or "",
                "on_hand": item.on_hand,
                "available": available(item.on_hand, rule),
                "withheld": item.on_hand - available(item.on_hand, rule),
                "rules": ", ".join(sorted(rule.origins)),
            }
            for _, item, rule in chunk
            if rule is not NO_RULE
        ]
        rows = sorted([*summary.withheld_most, *ruled], key=lambda row: -row["withheld"])
        summary.withheld_most = rows[:MOST_SHOWN]
    return summary


def duplicate_skus(database: Database) -> list[dict[str, Any]]:
    """SKUs that more than one sellable item has, with how many have it and two of their products' ids."""
    has_variants = sa.exists().where(product_variants.c.product_id == products.c.id)
    skus = sa.union_all(
        sa.select(products.c.sku, products.c.id.label("product")).where(~has_variants),
        sa.select(product_variants.c.sku, product_variants.c.product_id),
    ).subquery()
    count = sa.func.count().label("items")
    first, last = sa.func.min(skus.c.product), sa.func.max(skus.c.product)
    query = (
        sa.select(skus.c.sku, count, first.label("first_product"), last.label("last_product"))
        .where(skus.c.sku.is_not(None))
        .group_by(skus.c.sku)
        .having(count > 1)
        .order_by(count.desc(), skus.c.sku)
    )
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
