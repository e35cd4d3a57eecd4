"""Allocates stock to lines of imported orders, releases it, and restocks returned goods: once for each unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.writing import update_rows
from midas_pipelines.sync.orders.model.lines import CHANNEL, Short, backordered_only, reference
from midas_pipelines.sync.orders.model.order_log import StoredOrder, set_line
from midas_pipelines.sync.orders.stock.backorders import (
    clear_oversold_alert,
    mark_backordered,
    raise_oversold_alert,
)
from midas_pipelines.sync.orders.stock.units import accounted, away, on_shelf, units_shipped


@dataclass(frozen=True, slots=True)
class Allocated:
    """The units allocated to a line."""

    from_shelf: int
    uncounted: int  # shipped, but not in the counted stock
    backordered: int  # by the line, now

    def __str__(self) -> str:
        words = f"took {self.from_shelf} from stock."
        if self.uncounted:
            words += f" {self.uncounted} more have shipped than the counted stock had: count the item."
        return words


def allocate_units(
    order: StoredOrder, line: sa.Row[Any], item: ItemKey, *, missing: int, gone: int, source: str = CHANNEL
) -> Allocated:
    """Allocates stock to a line and alerts staff to a shortage; does not write the order log.

    Args:
        item: what it sold.
        missing: units to take.
        gone: how many of them have shipped. Where there is less stock, its count was wrong and is corrected first, so
            that the ledger explains both.
        source: of the movement, for the ledger.
    """
    order_id = order.marketplace_order_id
    name = reference(order_id, line.line, line.allocated)
    took = -move_stock(order.connection, [StockMove(item, -missing, source, "sale", name)])[0]
    uncounted = min(missing - took, max(0, gone - took))
    if uncounted:
        moves = [
            StockMove(item, uncounted, "operator", "uncounted", f"settled:{name}"),
            StockMove(
                item, -uncounted, source, "sale", reference(order_id, line.line, line.allocated + took)
            ),
        ]
        uncounted = -move_stock(order.connection, moves)[1]
    backordered = line.backordered + missing - took - uncounted
    values = {
        "allocated": line.allocated + took + uncounted,
        "backordered": backordered,
        "exception": backordered_only(line.exception, backordered),
    }
    set_line(order.connection, line.id, **values)
    if backordered > line.backordered:
        named = line.sku or f"Product {item[0]}"
        raise_oversold_alert(order.connection, [Short(item, named, order_id, backordered)])
    return Allocated(took, uncounted, backordered)


def allocate_again(order: StoredOrder, shop: str | None, *, whole: bool) -> int:
    """Allocates again the units that were released although they shipped, or are to ship; returns how many.

    Args:
        shop: the status of the shop's order.
        whole: whether to allocate all units sold; else only those that shipped.
    """
    again, shipped_units = 0, units_shipped(order, shop)
    for line in order.lines():
        wanted = line.quantity if whole else shipped_units[line.line]
        missing = wanted - accounted(line) - line.backordered
        if line.product_id is not None and missing > 0:
            gone = max(0, shipped_units[line.line] - accounted(line))
            item = (line.product_id, line.variant_id)
            got = allocate_units(order, line, item, missing=missing, gone=gone)
            again += got.from_shelf + got.uncounted
            order.log("deducted", f"Line {line.line}, {line.sku}, again: {got}")
    mark_backordered(order.connection, order.id)
    return again


def release_units(order: StoredOrder, cause: str, *, all_shipped: bool = False) -> int:
    """Releases the units of an order that have not shipped, and drops its backorders. Idempotent.

    Args:
        cause: `cancelled` or `refunded`; the ledger's word for it.
        all_shipped: whether everything has shipped, with or without a shipment on record.

    Returns:
        The units released.
    """
    lines = order.lines()
    units = {line.line: on_shelf(line, all_shipped=all_shipped) for line in lines}
    given = give_back(order, lines, units, cause, source=CHANNEL)
    if owing := [line for line in lines if line.backordered]:
        for line in owing:
            without = backordered_only(line.exception, 0)
            set_line(order.connection, line.id, backordered=0, exception=without)
        mark_backordered(order.connection, order.id)
        clear_oversold_alert(order.connection, {(line.product_id, line.variant_id) for line in owing})
    return given


def restock_units(
    order: StoredOrder, cause: str, *, units: Mapping[int, int] | None = None, all_shipped: bool = False
) -> int:
    """Restocks returned goods: never more than were shipped and not returned yet.

    Args:
        cause: `returned` or `cancelled`; the ledger's word for it.
        units: the most by line number; None for all that shipped.
        all_shipped: whether everything has shipped, with or without a shipment on record.

    Returns:
        The units restocked.
    """
    lines = order.lines()
    away_units = {line.line: away(line, all_shipped=all_shipped) for line in lines}
    wanted = (
        away_units
        if units is None
        else {number: min(away_units.get(number, 0), units[number]) for number in units}
    )
    return give_back(order, lines, wanted, cause, source="operator", had_shipped=True)


def give_back(
    order: StoredOrder,
    lines: Sequence[sa.Row[Any]],
    units: Mapping[int, int],
    cause: str,
    *,
    source: str,
    had_shipped: bool = False,
) -> int:
    """Puts units of lines of a locked order back in stock, by line number; returns how many."""
    giving = [line for line in lines if units.get(line.line, 0) > 0 and line.product_id is not None]
    moves = [
        StockMove(
            (line.product_id, line.variant_id),
            units[line.line],
            source,
            cause,
            reference(order.marketplace_order_id, line.line, line.released),
        )
        for line in giving
    ]
    moved = move_stock(order.connection, moves)
    changes = [
        {
            "id": line.id,
            "released": line.released + count,
            "returned": line.returned + (count if had_shipped else 0),
        }
        for line, count in zip(giving, moved, strict=True)
    ]
    update_rows(order.connection, marketplace_order_lines, changes)
    for line, count in zip(giving, moved, strict=True):
        outcome = f"{count} back in stock" if count else "nothing restocked, the shop no longer has the item"
        order.log("released", f"Line {line.line}, {line.sku}: {outcome}.")
    return sum(moved)
