"""Where the units of an order are, and what moves them: allocated, shipped, released or returned, each unit once.

Of a line's quantity, `allocated` units were allocated and `released` went back to stock, `returned` of these after shipping;
`shipped` units left. A line without an item allocates nothing, but can be shipped. A `line` is a row of
`marketplace_order_lines`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.writing import update_rows
from midas_pipelines.sync.orders.model.lines import CHANNEL, Short, reference
from midas_pipelines.sync.orders.model.order_log import StoredOrder
from midas_pipelines.sync.orders.model.state_machine import ENDED, SHIPPED_STATES
from midas_pipelines.sync.orders.stock.backorders import (
    clear_oversold_alert,
    item_of,
    line_move,
    mark_backordered,
    raise_oversold_alert,
    set_backordered,
)


def on_order(line: Any) -> int:
    """The units that the line holds: allocated on the shelf, or with the customer."""
    return int(line.allocated - line.released)


def on_shelf(line: Any, *, all_shipped: bool = False) -> int:
    """The units allocated to the line that have not shipped; none where the whole order has, on record or not."""
    if all_shipped:
        return 0
    return max(0, min(on_order(line), int(line.allocated - (line.released - line.returned) - line.shipped)))


def accounted(line: Any) -> int:
    """The units that came from stock: held now, or returned after shipping."""
    return on_order(line) + int(line.returned)


def away(line: Any, *, all_shipped: bool = False) -> int:
    """The allocated units that shipped and have not been returned."""
    return max(0, on_order(line) - on_shelf(line, all_shipped=all_shipped))


def left_to_ship(line: Any) -> int:
    """The units that can still be shipped."""
    if line.product_id is None and not line.allocated:
        return max(0, int(line.quantity - line.shipped))
    return on_shelf(line)


def shipments_on_record(order: StoredOrder) -> bool:
    """Whether a shipment of the shop's order is on record, booked or not."""
    shipped = sa.exists().where(order_shipments.c.order_id == order.local_order_id)
    return bool(order.connection.scalar(sa.select(shipped)))


def _says_shipped(order: StoredOrder, shop: str | None) -> bool:
    return shop in SHIPPED_STATES or order.status in SHIPPED_STATES


def units_shipped(order: StoredOrder, shop: str | None) -> dict[int, int]:
    """The shipped units by line: from the shipments, or all of them where there are none and a status says shipped."""
    everything = _says_shipped(order, shop) and not shipments_on_record(order)
    return {line.line: line.quantity if everything else line.shipped for line in order.lines()}


def shipped_after_end(order: StoredOrder, shop: str | None) -> bool:
    """Whether more units have shipped than the order holds stock for."""
    shipped = units_shipped(order, shop)
    return any(shipped[line.line] > accounted(line) for line in order.lines())


def has_shipped(order: StoredOrder, shop: str | None) -> bool:
    """Whether goods have shipped, by either side's status or by a shipment on record."""
    return _says_shipped(order, shop) or shipments_on_record(order)


def is_fully_shipped(order: StoredOrder, shop: str | None) -> bool:
    """Whether everything has shipped without a shipment on record: by either side's status, or because the order has
    ended and what it still holds can only have shipped."""
    return (_says_shipped(order, shop) or order.status in ENDED) and not shipments_on_record(order)


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
    """Allocates `missing` units to a line and alerts staff to a shortage; does not write the order log.

    `gone` of them have shipped. Where there is less stock, its count was wrong and is corrected first, so that the ledger
    explains both.
    """
    connection, order_id = order.connection, order.marketplace_order_id
    name = reference(order_id, line.line, line.allocated)
    took = -move_stock(connection, [StockMove(item, -missing, source, "sale", name)])[0]
    uncounted = min(missing - took, max(0, gone - took))
    if uncounted:
        later = reference(order_id, line.line, line.allocated + took)
        correction = StockMove(item, uncounted, "operator", "uncounted", f"settled:{name}")
        uncounted = -move_stock(connection, [correction, StockMove(item, -uncounted, source, "sale", later)])[
            1
        ]
    backordered = line.backordered + missing - took - uncounted
    set_backordered(connection, line, backordered, allocated=line.allocated + took + uncounted)
    if backordered > line.backordered:
        named = line.sku or f"Product {item[0]}"
        raise_oversold_alert(connection, [Short(item, named, order_id, backordered)])
    return Allocated(took, uncounted, backordered)


def allocate_again(order: StoredOrder, shop: str | None, *, whole: bool) -> int:
    """Allocates again the released units that shipped, or with `whole` all units sold; returns how many."""
    again, shipped = 0, units_shipped(order, shop)
    for line in order.lines():
        gone = shipped[line.line]
        missing = (line.quantity if whole else gone) - accounted(line) - line.backordered
        if line.product_id is not None and missing > 0:
            got = allocate_units(
                order, line, item_of(line), missing=missing, gone=max(0, gone - accounted(line))
            )
            again += got.from_shelf + got.uncounted
            order.log("deducted", f"Line {line.line}, {line.sku}, again: {got}")
    mark_backordered(order.connection, order.id)
    return again


def release_units(order: StoredOrder, cause: str, *, all_shipped: bool = False) -> int:
    """Releases the units of an order that have not shipped, and drops its backorders; returns how many. Idempotent.

    `cause` is the ledger's word, cancelled or refunded; `all_shipped` says that everything has shipped, on record or not.
    """
    lines = order.lines()
    units = {line.line: on_shelf(line, all_shipped=all_shipped) for line in lines}
    given = give_back(order, lines, units, cause, source=CHANNEL)
    if owing := [line for line in lines if line.backordered]:
        for line in owing:
            set_backordered(order.connection, line, 0)
        mark_backordered(order.connection, order.id)
        clear_oversold_alert(order.connection, {item_of(line) for line in owing})
    return given


def restock_units(
    order: StoredOrder, cause: str, *, units: Mapping[int, int] | None = None, all_shipped: bool = False
) -> int:
    """Restocks returned goods, never more than were shipped and not returned yet; returns how many.

    `cause` is the ledger's word, returned or cancelled; `units` the most by line number, None for all that shipped;
    `all_shipped` says that everything has shipped, on record or not.
    """
    lines = order.lines()
    left = {line.line: away(line, all_shipped=all_shipped) for line in lines}
    wanted = left if units is None else {line: min(left.get(line, 0), units[line]) for line in units}
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
    name = order.marketplace_order_id
    moves = [line_move(name, line, units[line.line], source, cause, line.released) for line in giving]
    moved = move_stock(order.connection, moves)
    changes = []
    for line, count in zip(giving, moved, strict=True):
        returned = line.returned + (count if had_shipped else 0)
        changes.append({"id": line.id, "released": line.released + count, "returned": returned})
        outcome = f"{count} back in stock" if count else "nothing restocked, the shop no longer has the item"
        order.log("released", f"Line {line.line}, {line.sku}: {outcome}.")
    update_rows(order.connection, marketplace_order_lines, changes)
    return sum(moved)
