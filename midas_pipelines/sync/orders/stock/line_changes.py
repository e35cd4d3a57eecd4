"""What a person changes of a line: its item, the stock that was found or bought for it; and how that is taken back.

Each raises CannotChangeLine where the line does not allow it; `row` is our row of the order.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.status import ENDED
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import linked_items, unlink_sku
from midas_pipelines.store.schema.tables import inventory_changes, marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import update_order_items
from midas_pipelines.sync.orders.model.lines import OrderException, reference
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_rows
from midas_pipelines.sync.orders.stock import pending_lines, units

_LINES, _LEDGER = marketplace_order_lines.c, inventory_changes.c


class CannotChangeLine(WrongInput):
    """The line cannot be mapped, restocked or undone so; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; nothing was changed.")


def map_line(
    database: Database, row: int, number: int, item: ItemKey, context: OrderContext, remember: bool = True
) -> bool:
    """Maps one unmapped line to the item that was sold and allocates its stock, and with `remember` the next order with its
    SKU too; False when it is mapped to it already."""
    with pending_lines.served_first(database, row, item, context) as order:
        line = order.line(number)
        if line is None:
            raise CannotChangeLine(f"The order has no line {number} (`midas orders show` numbers them)")
        if line.product_id is not None and units.item_of(line) != item:
            raise CannotChangeLine(f"Line {number} is mapped to another item already")
        return pending_lines.tie(order, number, item, "operator", remember)


def substitute_item(database: Database, row: int, number: int, item: ItemKey, context: OrderContext) -> None:
    """Serves a line that waits for all of its units from another item, which has to have them."""
    with pending_lines.served_first(database, row, item, context) as order:
        line = order.line(number)
        if line is None or not line.backordered or line.allocated:
            raise CannotChangeLine(f"Line {number} does not wait for all of its units")
        units.set_backordered(order, line, 0, product_id=None, variant_id=None)
        pending_lines.tie(order, number, item, "operator")
        served = order.line(number)
        if served is None or served.backordered:
            raise CannotChangeLine(f"The other item has fewer than {line.quantity} units")


def restock_line(
    database: Database, row: int, number: int, count: int, context: OrderContext, once: str, first: bool
) -> int:
    """Adds units of the item that a line waits for, and allocates them, to orders that have waited longer first unless this one
    is to be `first`; returns how many the line still lacks. `once` names the click: it counts once however often sent."""
    mine = sa.and_(_LINES.order_id == row, _LINES.line == number)
    with database.writing() as connection:
        line = connection.execute(sa.select(marketplace_order_lines).where(mine)).first()
        if line is None or line.product_id is None or not line.backordered:
            raise CannotChangeLine(f"Line {number} waits for no stock any more")
        item = units.item_of(line)
        waiting = pending_lines.orders_backordered(connection, [item])
        held = lock_rows(connection, {row, *waiting}, context)
        _move_once(connection, item, count, "restock", f"restock:{once}"[:200])
        if first:
            pending_lines.allocate_backorder([order for order in held if order.id == row])
    pending_lines.allocate_backorders(database, context.run_id)
    return database.scalar(sa.select(_LINES.backordered).where(mine)) or 0


def _move_once(connection: sa.Connection, item: ItemKey, count: int, cause: str, click: str) -> int:
    """Moves stock for the click of that name; raises CannotChangeLine where it was moved before."""
    try:
        return move_stock(connection, [StockMove(item, count, "operator", cause, click)])[0]
    except sa.exc.IntegrityError:
        raise CannotChangeLine("This stock was booked or taken out again before") from None


def unmap_line(order: StoredOrder, number: int, *, forget: bool) -> None:
    """Unmaps a line of a locked order, and releases its stock; `forget` unlinks its SKU from the item too."""
    connection, line = order.connection, _live_line(order, number)
    item, gone = units.item_of(line), {"product_id": None, "variant_id": None}
    units.give_back(order, {number: units.on_shelf(line)}, "undo", "operator")
    units.set_backordered(order, line, 0, unmapped=True, **gone)
    order.set_exceptions(add=(OrderException.UNMAPPED,))
    update_order_items(connection, order.local_order_id, [{"id": line.order_item_id, **gone}])
    if forget and line.sku and linked_items(connection, {line.sku}).get(line.sku) == item:
        unlink_sku(connection, line.sku)
    order.log("undone", f"Line {number}, {line.sku}: an operator took its item back.")


def undo_restock(order: StoredOrder, number: int, *, once: str) -> None:
    """Takes booked stock out again, and what the line of a locked order got of it; `once` named the booking. Not where another
    order got it, or it was sold."""
    connection, line = order.connection, _live_line(order, number)
    item, click = units.item_of(line), f"restock:{once}"[:200]
    was = sa.select(inventory_changes).where(_LEDGER.cause == "restock", _LEDGER.reference == click)
    booked = connection.execute(was).first()
    if booked is None or units.item_of(booked) != item:
        raise CannotChangeLine(f"No stock was booked for line {number} so")
    base = reference(order.marketplace_order_id, number)
    mine = sa.or_(_LEDGER.reference == base, _LEDGER.reference.startswith(f"{base}+", autoescape=True))
    later = sa.and_(_LEDGER.cause == "backorder", _LEDGER.id > booked.id, mine)
    served = connection.scalar(sa.select(sa.func.sum(_LEDGER.delta)).where(later)) or 0
    got = min(-int(served), units.on_shelf(line))
    units.give_back(order, {number: got}, "undo", "operator")
    moved = _move_once(connection, item, -booked.delta, "undo", click)
    if moved != -booked.delta:
        raise CannotChangeLine("Other orders have this stock by now")
    units.set_backordered(order, line, line.backordered + got)
    order.log("undone", f"Line {number}, {line.sku}: an operator took {booked.delta} out of stock again.")


def _live_line(order: StoredOrder, number: int) -> sa.Row[Any]:
    line, shipped = order.line(number), units.has_shipped(order, order.shop_status())
    if line is None or line.product_id is None or order.status in ENDED or shipped:
        raise CannotChangeLine(f"Line {number} has no item, or its order has shipped or ended")
    return line
