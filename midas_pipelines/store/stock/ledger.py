"""Changes stock: locks the item, writes its ledger row with source and cause, sets the quantity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import inventory_changes
from midas_pipelines.storefront.catalog import ItemKey, lock_stock, set_stock
from midas_pipelines.storefront.writing import insert_rows

Stock = dict[ItemKey, int]
"""Units on hand of locked items."""


@dataclass(frozen=True, slots=True)
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
    """Applies the changes in order, in the caller's transaction; returns what each really moved.

    A move that found nothing to take, or whose item is gone, moved 0 and has no ledger row.

    Raises:
        sqlalchemy.exc.IntegrityError: a (cause, reference) has moved stock before.
    """
    return book_moves(connection, moves, lock_stock(connection, {move.item for move in moves}))


def book_moves(connection: sa.Connection, moves: Sequence[StockMove], stock: Stock) -> list[int]:
    """As `move_stock`, for items that are locked: it reads nothing. `stock`, of `lock_stock`, is moved along."""
    before = dict(stock)
    variants: dict[int | None, ItemKey] = {key[1]: key for key in stock if key[1] is not None}
    moved: list[int] = []
    rows: list[dict[str, object]] = []
    for move in moves:
        item = variants.get(move.item[1], move.item)  # a variant may have moved to another product
        on_hand = stock.get(item)
        delta = 0 if on_hand is None else max(move.delta, -max(0, on_hand))
        moved.append(delta)
        if on_hand is None or delta == 0:
            continue
        stock[item] = on_hand + delta
        row = {name: getattr(move, name) for name in ("source", "cause", "reference")}
        key = {"product_id": item[0], "variant_id": item[1]}
        rows.append(key | row | {"delta": delta, "quantity_after": on_hand + delta})
    if rows:
        insert_rows(connection, inventory_changes, rows)
        set_stock(connection, {item: units for item, units in stock.items() if units != before[item]})
    return moved
