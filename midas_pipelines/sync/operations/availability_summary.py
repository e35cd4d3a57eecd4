"""What the channel may show of the whole stock, counted in chunks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from midas_pipelines.store.database import Database
from midas_pipelines.store.stock.rules import NO_RULE, Rule, read_rules
from midas_pipelines.storefront.catalog import ShopItem, read_items
from midas_pipelines.storefront.schema import has_product_status
from midas_pipelines.sync.listings.scan import read_chunk
from midas_pipelines.sync.rules.arithmetic import available

SHOWN = 20


@dataclass
class AvailabilitySummary:
    """Counts over all active items; units."""

    items: int = 0
    units_on_hand: int = 0
    units_available: int = 0
    out_of_stock: int = 0  # items that the channel shows as out of stock
    excluded: int = 0
    ruled: int = 0  # items that any rule touches
    withheld_most: list[dict[str, Any]] = field(default_factory=list)


def availability_summary(database: Database) -> AvailabilitySummary:
    """Applies the rules to every active item; memory does not grow with the catalogue."""
    levels = AvailabilitySummary()
    after = 0
    while rows := read_chunk(database, after):
        after = rows[-1].id
        with database.reading() as connection:
            items = read_items(
                connection, [row.key for row in rows], has_status=has_product_status(connection)
            )
            rules = read_rules(connection, {key: item.category_id for key, item in items.items()})
        for key, item in items.items():
            if item.active:
                _add(levels, item, rules.get(key, NO_RULE))
    return levels


def _add(levels: AvailabilitySummary, item: ShopItem, rule: Rule) -> None:
    shown = available(item.on_hand, rule)
    levels.items += 1
    levels.units_on_hand += item.on_hand
    levels.units_available += shown
    levels.out_of_stock += shown == 0
    levels.excluded += bool(rule.exclude)
    levels.ruled += rule is not NO_RULE
    if rule is not NO_RULE:
        row = {
            "sku": item.sku or "",
            "on_hand": item.on_hand,
            "available": shown,
            "withheld": item.on_hand - shown,
            "rules": ", ".join(sorted(rule.origins)),
        }
        levels.withheld_most = sorted([*levels.withheld_most, row], key=lambda one: -one["withheld"])[:SHOWN]
