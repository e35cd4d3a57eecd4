"""What a changed rule would have done: the ledger's past run again, with what the channel would have shown.

Two sales can meet one unit because the channel shows a moment later what the shop has. So for an oversold line the
channel is taken to have shown what was right before the last change of the stock, for a covered one what was right. A
line is avoided, or turned away, where the changed rule would have shown fewer units than it asked for.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import (
    inventory_changes,
    mappings,
    marketplace_order_lines,
    marketplace_orders,
)
from midas_pipelines.store.stock.rules import Rule, Scope, available, within
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import any_of
from midas_pipelines.sync.listings.scan import planners
from midas_pipelines.sync.orders.model.lines import reference as line_reference
from midas_pipelines.sync.rules.edit import find_scope, sound

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Sold:
    """One marketplace sale of an item: what it asked for, what it got, and the stock that the channel's number was of."""

    wanted: int
    allocated: int
    shown_of: int


@dataclass
class Simulated:
    """What would have been different; units, unless named otherwise."""

    days: int
    sales: int = 0
    oversold: int = 0
    oversells_avoided: int = 0
    sales_turned_away: int = 0
    units_withheld: int = 0  # on hand and not shown, as things stand now
    units_withheld_before: int = 0
    items: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, sales: list[Sold], on_hand: int, rule: Rule, changed: Rule) -> None:
        """Adds an item, with its sales, under the rule of today and the changed one."""
        avoided = turned_away = 0
        for sold in sales:
            saved, lost = outcome(sold, changed)
            already_saved, already_lost = outcome(sold, rule)
            avoided += max(0, saved - already_saved)
            turned_away += max(0, lost - already_lost)
            self.sales += sold.wanted
            self.oversold += sold.wanted - sold.allocated
        self.oversells_avoided += avoided
        self.sales_turned_away += turned_away
        self.units_withheld += max(0, on_hand - available(on_hand, changed))
        self.units_withheld_before += max(0, on_hand - available(on_hand, rule))
        if avoided or turned_away:
            counts = {"avoided": avoided, "turned_away": turned_away, "on_hand": on_hand}
            self.items.append({"sku": name} | counts)

    def sentences(self) -> list[str]:
        """For people."""
        return [
            f"Over the last {self.days} days {self.sales} units were sold through the channel, "
            f"{self.oversold} of them oversold.",
            f"With this rule {self.oversells_avoided} oversold units would have been avoided and "
            f"{self.sales_turned_away} good ones turned away.",
            f"Of what is on hand now it withholds {self.units_withheld} units; the rules today withhold "
            f"{self.units_withheld_before}.",
        ]


def simulate(
    database: Database,
    values: dict[str, Any],
    *,
    sku: str | None = None,
    category: str | None = None,
    days: int = 30,
) -> Simulated:
    """Runs a changed rule over the ledger of the last `days`; nothing is written. Raises WrongInput."""
    given = sound(values)
    if "fixed" not in given and {"buffer", "cap", "allocation"} & given.keys():
        given["fixed"] = None  # these take its place
    result = Simulated(days)
    table = mappings.c
    with database.reading() as connection:
        scope = find_scope(connection, sku=sku, category=category)
        sales = _sales(connection, scope, days)
        mine = within(connection, scope, table.product_id, table.variant_id)
    for planner, rows in planners(database, mine, title_limit=0):
        for row in rows:  # what is withheld is withheld of items that sold nothing too
            item, rule = planner.item(row), planner.rule(row)
            if item is not None and (item.active or item.key in sales):
                sold = sales.get(item.key, [])
                result.add(item.sku or "", sold, item.on_hand, rule, replace(rule, **given))
    worst = sorted(result.items, key=lambda row: -row["avoided"] - row["turned_away"])
    return replace(result, items=worst[:SHOWN])


def outcome(sold: Sold, rule: Rule) -> tuple[int, int]:
    """Units oversold that the rule would have avoided, and covered units it would have turned away. Pure."""
    refused = max(0, sold.wanted - available(sold.shown_of, rule))
    short = sold.wanted - sold.allocated
    return min(short, refused), max(0, min(refused - short, sold.allocated))


def _sales(connection: sa.Connection, scope: Scope, days: int) -> dict[ItemKey, list[Sold]]:
    """The marketplace's sales in the scope with the stock that was shown for each, from order lines and the ledger."""
    line, order = marketplace_order_lines.c, marketplace_orders.c
    query = (
        sa.select(marketplace_order_lines, order.marketplace_order_id, order.imported_at)
        .join(marketplace_orders, order.id == line.order_id)
        .where(line.product_id.is_not(None), line.quantity > 0, order.imported_at > utc_now(-86_400 * days))
        .where(within(connection, scope, line.product_id, line.variant_id))
        .order_by(line.id)
    )
    lines = connection.execute(query).all()
    ledger = _ledger(connection, sorted({one.product_id for one in lines}))
    found: dict[ItemKey, list[Sold]] = defaultdict(list)
    for one in lines:
        key = (one.product_id, one.variant_id)
        found[key].append(Sold(one.quantity, one.allocated, _shown_of(one, ledger.get(key, []))))
    return found


def _ledger(connection: sa.Connection, product_ids: list[int]) -> dict[ItemKey, list[sa.Row[Any]]]:
    found: dict[ItemKey, list[sa.Row[Any]]] = defaultdict(list)
    query = sa.select(inventory_changes).where(
        any_of(connection, inventory_changes.c.product_id, product_ids)
    )
    for row in connection.execute(query.order_by(inventory_changes.c.id)):
        found[row.product_id, row.variant_id].append(row)
    return found


def _shown_of(line: sa.Row[Any], ledger: list[sa.Row[Any]]) -> int:
    """The stock on hand that the channel's number was made of when the line was sold."""
    reference = line_reference(line.marketplace_order_id, line.line)
    own = [place for place, row in enumerate(ledger) if row.cause == "sale" and row.reference == reference]
    end = own[0] if own else sum(1 for row in ledger if row.created_at <= line.imported_at)
    if not end:
        return int(line.allocated)
    before, delta = ledger[end - 1].quantity_after, ledger[end - 1].delta
    return int(before if line.allocated == line.quantity else max(before, before - delta))
