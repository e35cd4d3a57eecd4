"""Takes back what a person did to a line: the item that it was mapped to, or the stock that was booked for it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.items.mappings import linked_items, unlink_sku
from midas_pipelines.store.schema.tables import inventory_changes
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.orders import update_order_items
from midas_pipelines.sync.orders.model.lines import (
    OrderException,
    Short,
    backordered_only,
    exception_text,
    read_exceptions,
    reference,
)
from midas_pipelines.sync.orders.model.order_log import StoredOrder, set_line
from midas_pipelines.sync.orders.model.state_machine import ENDED
from midas_pipelines.sync.orders.stock.allocate import give_back
from midas_pipelines.sync.orders.stock.backorders import (
    clear_oversold_alert,
    mark_backordered,
    raise_oversold_alert,
)
from midas_pipelines.sync.orders.stock.units import has_shipped, on_shelf

_LEDGER = inventory_changes.c


class CannotUndo(WrongInput):
    """Something depends on it by now; nothing was changed."""


def unmap_line(order: StoredOrder, number: int, *, forget: bool) -> None:
    """Unmaps a line of a locked order, and releases its stock; `forget` unlinks its SKU from the item too.

    Raises:
        CannotUndo: goods of the order have shipped, it has ended, or the line has no item.
    """
    line = _live_line(order, number)
    item = (line.product_id, line.variant_id)
    give_back(order, [line], {number: on_shelf(line)}, "undo", source="operator")
    flaws = read_exceptions(backordered_only(line.exception, 0)) | {OrderException.UNMAPPED}
    gone = {"product_id": None, "variant_id": None}
    set_line(order.connection, line.id, **gone, backordered=0, exception=exception_text(flaws))
    order.set_exceptions(add=(OrderException.UNMAPPED,))
    if order.local_order_id is not None:
        update_order_items(order.connection, order.local_order_id, [{"id": line.order_item_id, **gone}])
    if forget and line.sku and linked_items(order.connection, {line.sku}).get(line.sku) == item:
        unlink_sku(order.connection, line.sku)
    mark_backordered(order.connection, order.id)
    clear_oversold_alert(order.connection, [item])
    order.log("undone", f"Line {number}, {line.sku}: an operator took its item back.")


def undo_restock(order: StoredOrder, number: int, *, once: str) -> None:
    """Takes booked stock out again, and what the line of a locked order got of it; `once` named the booking.

    Raises:
        CannotUndo: another order got it, it was sold, goods have shipped, or it was taken back before.
    """
    line, name = _live_line(order, number), f"restock:{once}"[:200]
    booked = order.connection.execute(
        sa.select(inventory_changes).where(_LEDGER.cause == "restock", _LEDGER.reference == name)
    ).first()
    item = (line.product_id, line.variant_id)
    if booked is None or (booked.product_id, booked.variant_id) != item:
        raise CannotUndo(f"No stock was booked for line {number} so; nothing was changed.")
    base = reference(order.marketplace_order_id, number)
    mine = sa.or_(_LEDGER.reference == base, _LEDGER.reference.startswith(f"{base}+", autoescape=True))
    later = sa.and_(_LEDGER.cause == "backorder", _LEDGER.id > booked.id, mine)
    served = order.connection.scalar(sa.select(sa.func.sum(_LEDGER.delta)).where(later)) or 0
    got = min(-int(served), on_shelf(line))
    give_back(order, [line], {number: got}, "undo", source="operator")
    try:
        (moved,) = move_stock(order.connection, [StockMove(item, -booked.delta, "operator", "undo", name)])
    except sa.exc.IntegrityError:
        raise CannotUndo("This stock was taken out again before; nothing was changed.") from None
    if moved != -booked.delta:
        raise CannotUndo("Other orders have this stock by now; nothing was changed.")
    short = line.backordered + got
    set_line(order.connection, line.id, backordered=short, exception=backordered_only(line.exception, short))
    mark_backordered(order.connection, order.id)
    named = line.sku or f"Product {item[0]}"
    raise_oversold_alert(order.connection, [Short(item, named, order.marketplace_order_id, short)])
    order.log("undone", f"Line {number}, {line.sku}: an operator took {booked.delta} out of stock again.")


def _live_line(order: StoredOrder, number: int) -> sa.Row[Any]:
    line = next((one for one in order.lines() if one.line == number and one.product_id is not None), None)
    if line is None or order.status in ENDED or has_shipped(order, order.shop_status()):
        raise CannotUndo(
            f"Line {number} has no item, or its order has shipped or ended; nothing was changed."
        )
    return line
