"""The stock ledger: changes of stock with their source and cause, and what shop and ledger say of each item's stock."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import LEDGER_KEY, inventory_changes
from midas_pipelines.store.schema.triggers import explain_stock, mark_together
from midas_pipelines.storefront.catalog import STOCK, ItemKey, has_product_status, lock_stock, set_stock
from midas_pipelines.storefront.schema import products
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert_columns

MANY = 20
"""From so many changed items on, the triggers run once for all of them."""


@dataclass(slots=True)
class StockMove:
    """A requested change of one item's stock.

    `delta` is negative to take. A take that stock cannot cover takes what is there: stock never falls below zero.
    `reference` names what it was for; one (cause, reference) moves stock once, by constraint.
    """

    item: ItemKey
    delta: int
    source: str
    cause: str
    reference: str


def move_stock(connection: sa.Connection, moves: Sequence[StockMove]) -> list[int]:
    """Applies the changes in order and returns what each really moved: 0, without a ledger row, where there was
    nothing to take or the item is gone. Raises sqlalchemy.exc.IntegrityError where a (cause, reference) has moved
    stock before."""
    stock = lock_stock(connection, {move.item for move in moves})
    before = dict(stock)
    variants: dict[int | None, ItemKey] = {key[1]: key for key in stock if key[1] is not None}
    moved: list[int] = []
    rows: list[tuple[object, ...]] = []
    for move in moves:
        item = variants.get(move.item[1], move.item)  # a variant may have moved to another product
        on_hand = stock.get(item)
        delta = 0 if on_hand is None else max(move.delta, -max(0, on_hand))
        moved.append(delta)
        if on_hand is None or delta == 0:
            continue
        stock[item] = on_hand + delta
        rows.append((*item, move.source, move.cause, move.reference, delta, on_hand + delta))
    if rows:
        names = ("product_id", "variant_id", "source", "cause", "reference", "delta", "quantity_after")
        insert_columns(connection, inventory_changes, dict(zip(names, zip(*rows, strict=True), strict=True)))
        changed = {item: units for item, units in stock.items() if units != before[item]}
        if len(changed) >= MANY:
            mark_together(connection)
        if set_stock(connection, changed) < len(changed):
            _record_skipped(connection, changed)
    return moved


def _record_skipped(connection: sa.Connection, items: Collection[ItemKey]) -> None:
    """Writes ledger rows that take back what a trigger of the shop's kept from its tables."""
    plain = [product for product, variant in items if variant is None]
    variants = [variant for _, variant in items if variant is not None]
    for table, ids in (("products", plain), ("product_variants", variants)):
        if ids:
            connection.exec_driver_sql(explain_stock(table, f"s.id IN ({', '.join(map(str, ids))})"))


RATE_DAYS = 28
"""The span that a rate of sale is taken over: four whole weeks, so that weekends weigh as they should."""

_ROW = inventory_changes.c


@dataclass(frozen=True)
class StockTotals:
    """Counts of sellable items, units on hand, and items without stock."""

    items: int
    units: int
    out_of_stock: int


def count_quantities(database: Database) -> int:
    """The number of quantities that the shop keeps, those of products sold by variant too."""
    return database.scalar(sa.select(sa.func.count()).select_from(STOCK)) or 0


def stock_totals(connection: sa.Connection, *, active: bool = False) -> StockTotals:
    """Counts over every sellable item, archived ones included, or over those of `active` products."""
    every = sa.select(STOCK).where(~STOCK.c.by_variant).subquery()
    items = active_items(connection) if active else every
    units = sa.func.coalesce(sa.func.sum(items.c.on_hand), 0)
    empty = sa.func.count().filter(items.c.on_hand <= 0)
    counts = connection.execute(sa.select(sa.func.count(), units, empty).select_from(items)).one()
    return StockTotals(*map(int, counts))


def active_items(connection: sa.Connection) -> sa.Subquery:
    """The sellable items of active products: `product_id`, `variant_id`, `key` (0 without a variant), `sku`, `name`,
    `category_id` and `on_hand`, which is a whole number whatever SQLite keeps."""
    whole = sa.func.coalesce(sa.cast(STOCK.c.on_hand, sa.Integer), 0).label("on_hand")
    names = (STOCK.c.product_id, STOCK.c.variant_id, STOCK.c.key, STOCK.c.sku)
    query = sa.select(*names, whole, products.c.name, products.c.category_id)
    query = query.join_from(STOCK, products, products.c.id == STOCK.c.product_id)
    query = query.where(~STOCK.c.by_variant)
    if has_product_status(connection):
        query = query.where(products.c.status == "active")
    return query.subquery("active")


def negative_stock(database: Database) -> list[dict[str, Any]]:
    """Items with less than nothing on hand, the worst first."""
    query = sa.select(STOCK.c.sku, STOCK.c.on_hand).where(STOCK.c.on_hand < 0)
    return database.rows(query.order_by(STOCK.c.on_hand))


def unexplained_stock(database: Database, days: int | None = None) -> list[dict[str, Any]]:
    """Finds the items whose ledger does not add up to their stock, with both numbers, the largest gap first.

    A row's `quantity_after` is that of the item's row before it, and its own delta. So with `days` the ledger of an item is
    the quantity after its last older row and the deltas since; without, all its deltas.
    """
    item = (_ROW.product_id == STOCK.c.product_id, STOCK.c.key == LEDGER_KEY)
    last = sa.select(_ROW.quantity_after).where(*item).order_by(_ROW.id.desc()).limit(1).correlate(STOCK)
    recent = sa.select(_ROW.product_id, LEDGER_KEY.label("key"), sa.func.sum(_ROW.delta).label("moved"))
    with database.reading() as connection:
        first = _first_since(connection, days)
        moves = recent.where(_ROW.id >= first).group_by(_ROW.product_id, LEDGER_KEY).subquery("moves")
        before = sa.func.coalesce(last.where(_ROW.id < first).scalar_subquery(), 0)
        total = (before + sa.func.coalesce(moves.c.moved, 0)).label("ledger")
        same = sa.and_(moves.c.product_id == STOCK.c.product_id, moves.c.key == STOCK.c.key)
        each = sa.select(STOCK.c.sku, STOCK.c.on_hand, total).outerjoin_from(STOCK, moves, same).subquery()
        gap = sa.func.abs(each.c.ledger - each.c.on_hand)
        uneven = sa.select(each).where(each.c.ledger != each.c.on_hand).order_by(gap.desc(), each.c.sku)
        found = connection.execute(uneven)
        return [dict(row) for row in found.mappings()]


def _first_since(connection: sa.Connection, days: int | None) -> int:
    """The first row of the ledger in the last days, 0 for all. Read before, so that the plan knows how few follow it."""
    if days is None:
        return 0
    query = sa.select(_ROW.id).where(_ROW.created_at >= utc_now(-86_400 * days))
    return connection.scalar(query.order_by(_ROW.created_at, _ROW.id).limit(1)) or 2**62  # all are older


def duplicate_skus(database: Database) -> list[dict[str, Any]]:
    """SKUs that more than one sellable item has, with how many have it and two of their products' ids."""
    count = sa.func.count().label("items")
    first, last = sa.func.min(STOCK.c.product_id), sa.func.max(STOCK.c.product_id)
    query = sa.select(STOCK.c.sku, count, first.label("first_product"), last.label("last_product"))
    query = query.where(STOCK.c.sku.is_not(None), ~STOCK.c.by_variant).group_by(STOCK.c.sku)
    return database.rows(query.having(count > 1).order_by(count.desc(), STOCK.c.sku))


def _sales(days: int) -> sa.Select[Any]:
    """Selects the items that sold in the last `days`, with their units: marketplace sales less returns, and reductions by
    the shop's own code."""
    sold = sa.or_(_ROW.source == "fourseller", sa.and_(_ROW.cause == "changed", _ROW.delta < 0))
    units = sa.func.sum(-_ROW.delta)
    query = sa.select(_ROW.product_id, LEDGER_KEY.label("key"), units.label("units"))
    query = query.where(sold, _ROW.created_at > utc_now(-86_400 * days))
    return query.group_by(_ROW.product_id, LEDGER_KEY).having(units > 0)


def units_sold(connection: sa.Connection, product_ids: Collection[int]) -> dict[ItemKey, int]:
    """Units that these products' items sold in four weeks; those that sold nothing are missing."""
    query = _sales(RATE_DAYS).where(_ROW.product_id.in_(product_ids))
    return {(row.product_id, row.key or None): int(row.units) for row in connection.execute(query)}


def sales_of(items: sa.FromClause, days: int = RATE_DAYS) -> tuple[sa.Subquery, sa.ColumnElement[bool]]:
    """The `units` that each item sold in the last `days`, and the condition that joins them to these items."""
    sales = _sales(days).subquery("sales")
    return sales, sa.and_(sales.c.product_id == items.c.product_id, sales.c.key == items.c.key)


def soonest_out(connection: sa.Connection, limit: int) -> list[sa.Row[Any]]:
    """The active items that sold in four weeks, with their `units`, those first whose stock lasts the shortest."""
    items = active_items(connection)
    sales, same = sales_of(items)
    query = sa.select(items, sales.c.units).join_from(items, sales, same)
    lasts = sa.cast(items.c.on_hand, sa.Float) / sales.c.units
    return list(connection.execute(query.order_by(lasts, sales.c.units.desc(), items.c.sku).limit(limit)))


def top_movers(database: Database, days: int = 7, limit: int = 10) -> list[dict[str, Any]]:
    """The items that sold most in the last `days`, with what is left of each."""
    sales, same = sales_of(STOCK, days)
    query = sa.select(STOCK.c.sku, STOCK.c.on_hand, sales.c.units.label("sold"))
    query = query.join_from(STOCK, sales, same)
    return database.rows(query.order_by(sales.c.units.desc(), STOCK.c.sku).limit(limit))
