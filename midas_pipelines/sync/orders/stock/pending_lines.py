"""Order lines that wait for an item or for stock: maps them, by a person or by a new mapping, allocates stock once, that which
a person has found or bought included, and takes back what a person did."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import link_sku, linked_items, unlink_sku
from midas_pipelines.store.orders.listing import UNMAPPED
from midas_pipelines.store.schema.tables import inventory_changes, marketplace_order_lines, marketplace_orders
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import update_order_items
from midas_pipelines.storefront.writing import any_of, set_aside
from midas_pipelines.sync.orders.model.lines import (
    CHANNEL,
    OrderException,
    Short,
    exception_text,
    explain_line,
    items_named,
    read_exceptions,
    reference,
)
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_rows
from midas_pipelines.sync.orders.model.sale import Named
from midas_pipelines.sync.orders.model.state_machine import ENDED
from midas_pipelines.sync.orders.stock.backorders import (
    ORDER_OF_SERVICE,
    allocate_backorder,
    allocate_backorders,
    clear_old_alerts,
    clear_oversold_alert,
    item_of,
    mark_backordered,
    orders_backordered,
    raise_oversold_alert,
    set_backordered,
)
from midas_pipelines.sync.orders.stock.units import (
    allocate_units,
    give_back,
    has_shipped,
    on_shelf,
    units_shipped,
)

_LINES, _LEDGER = marketplace_order_lines.c, inventory_changes.c
AT_ONCE = 500


class CannotChangeLine(WrongInput):
    """The line cannot be mapped, restocked or undone so; nothing was changed, and the message says why."""


def map_known_lines(database: Database, run_id: str | None = None) -> int:
    """Maps every unmapped line whose item the shop has now; returns how many."""
    mapped, after = 0, 0
    while True:
        query = sa.select(marketplace_order_lines).where(UNMAPPED, _LINES.id > after)
        with database.reading() as connection:
            lines = connection.execute(query.order_by(_LINES.id).limit(AT_ONCE)).all()
            named = items_named(connection, {(line.fourseller_product_id, line.sku) for line in lines})
        for line in lines:
            item = named.get((line.fourseller_product_id, line.sku))
            if item is not None:
                with set_aside(f"Line {line.line} of our order {line.order_id}"):
                    mapped += _map(
                        database, line.order_id, line.line, item, OrderContext(run_id), source=CHANNEL
                    )
        if len(lines) < AT_ONCE:
            return mapped
        after = lines[-1].id


def map_line(
    database: Database,
    order_row: int,
    number: int,
    item: ItemKey,
    order_context: OrderContext,
    *,
    remember: bool = True,
) -> bool:
    """Maps one unmapped line to the item that was sold and allocates its stock; False when it is mapped to it already.

    With `remember` the next order with the line's SKU is mapped to it too. Raises CannotChangeLine.
    """
    mine = sa.and_(_LINES.order_id == order_row, _LINES.line == number)
    with database.reading() as connection:
        line = connection.execute(sa.select(marketplace_order_lines).where(mine)).first()
    if line is None:
        raise CannotChangeLine(f"The order has no line {number}: `midas orders show` numbers them.")
    if line.product_id is not None and item_of(line) != item:
        raise CannotChangeLine(f"Line {number} is mapped to another item already; nothing was changed.")
    return _map(database, order_row, number, item, order_context, source="operator", remember=remember)


def substitute_item(
    database: Database, order_row: int, number: int, item: ItemKey, order_context: OrderContext
) -> None:
    """Serves a line that waits for all of its units from another item, which has to have them. Raises CannotChangeLine."""
    with database.writing() as connection:
        waiting = orders_backordered(connection, [item])
        held = {row.id: row for row in lock_rows(connection, {order_row, *waiting})}
        order = StoredOrder(connection, held[order_row], order_context)
        line = _line(order, number)
        if line is None or not line.backordered or line.allocated:
            raise CannotChangeLine(f"Line {number} does not wait for all of its units; nothing was changed.")
        set_backordered(connection, line, 0, product_id=None, variant_id=None)
        _tie(order, number, item, "operator")
        served = _line(order, number)
        if served is None or served.backordered:
            raise CannotChangeLine(
                f"The other item has fewer than {line.quantity} units; nothing was changed."
            )
        clear_oversold_alert(connection, [item_of(line)])


def _line(order: StoredOrder, number: int) -> sa.Row[Any] | None:
    return next((line for line in order.lines() if line.line == number), None)


def _map(
    database: Database,
    order_row: int,
    number: int,
    item: ItemKey,
    order_context: OrderContext,
    *,
    source: str,
    remember: bool = False,
) -> bool:
    with database.writing() as connection:
        waiting = orders_backordered(connection, [item])
        held = {row.id: row for row in lock_rows(connection, {order_row, *waiting})}
        allocate_backorder(connection, waiting, order_context)  # the longest wait comes first
        return _tie(StoredOrder(connection, held[order_row], order_context), number, item, source, remember)


def lines_naming(connection: sa.Connection, names: Collection[Named]) -> Sequence[sa.Row[Any]]:
    """The unmapped lines that share the SKU or 4Seller's product id with one of these names; nothing is locked."""
    if not names:
        return []
    product_ids, skus = ({name[place] for name in names if name[place]} for place in (0, 1))
    same = sa.or_(
        any_of(connection, _LINES.sku, skus), any_of(connection, _LINES.fourseller_product_id, product_ids)
    )
    query = sa.select(
        _LINES.order_id, _LINES.line, _LINES.sku, _LINES.fourseller_product_id, *ORDER_OF_SERVICE
    )
    joined = query.join(marketplace_orders, marketplace_orders.c.id == _LINES.order_id)
    return connection.execute(joined.where(UNMAPPED, same).order_by(*ORDER_OF_SERVICE)).all()


def tie_lines(
    connection: sa.Connection,
    held: Sequence[sa.Row[Any]],
    lines: Sequence[sa.Row[Any]],
    order_context: OrderContext,
) -> int:
    """Maps these lines of locked orders to items that the shop has now; returns how many."""
    by_id = {row.id: StoredOrder(connection, row, order_context) for row in held}
    named = items_named(connection, {(line.fourseller_product_id, line.sku) for line in lines})
    tied = 0
    for line in lines:
        item = named.get((line.fourseller_product_id, line.sku))
        if item is not None:
            tied += _tie(by_id[line.order_id], line.line, item, CHANNEL)
    return tied


def _tie(order: StoredOrder, number: int, item: ItemKey, source: str, remember: bool = False) -> bool:
    """Maps one line of a locked order to an item; False when it has one already."""
    line = _line(order, number)
    if line is None or line.product_id is not None or line.allocated != line.released:
        return False
    connection, sold = order.connection, max(0, line.quantity)
    gone = min(sold, units_shipped(order, order.shop_status())[number])
    wanted = gone if order.status in ENDED else sold
    got = allocate_units(order, line, item, missing=wanted, gone=gone, source=source)
    mapped = exception_text(read_exceptions(line.exception) - {OrderException.UNMAPPED})
    columns = {"product_id": item[0], "variant_id": item[1]}
    set_backordered(connection, line, got.backordered, exception=mapped, **columns)
    if order.local_order_id is not None:
        update_order_items(connection, order.local_order_id, [{"id": line.order_item_id, **columns}])
    if remember and line.sku:
        link_sku(connection, line.sku, item)
    where = f"product {item[0]}" + (f", variant {item[1]}" if item[1] else "")
    order.log("mapped", f"Line {number}, {line.sku or line.title or f'line {number}'}: it is {where}; {got}")
    if got.backordered:
        oversold, held = OrderException.OVERSOLD, wanted - got.backordered
        text = explain_line(number, line.sku, oversold, wanted=wanted, allocated=held, quantity=line.quantity)
        order.log(oversold, text)
    mark_backordered(connection, order.id)
    others = sa.exists().where(_LINES.order_id == order.id, UNMAPPED)
    if not connection.scalar(sa.select(others)):
        order.set_exceptions(drop=(OrderException.UNMAPPED,))
    return True


@dataclass(frozen=True)
class PendingLines:
    """Counts of lines mapped and of units allocated to backorders."""

    mapped: int
    allocated: int


def allocate_pending_lines(database: Database, run_id: str | None = None) -> PendingLines:
    """Maps lines to items that the shop has now, then allocates stock to backorders; safe at any time.

    Done before any quantity is published, since backordered units are not for sale.
    """
    opened = PendingLines(map_known_lines(database, run_id), allocate_backorders(database, run_id))
    clear_old_alerts(database)
    return opened


def restock_line(
    database: Database,
    order_row: int,
    number: int,
    units: int,
    order_context: OrderContext,
    *,
    once: str,
    this_order_first: bool,
) -> int:
    """Adds units of the item that a line waits for, and allocates them, to orders that have waited longer first unless
    `this_order_first`; returns how many the line still lacks.

    `once` names this click, so that it counts once however often it is sent. Raises CannotChangeLine.
    """
    mine = sa.and_(_LINES.order_id == order_row, _LINES.line == number)
    with database.writing() as connection:
        line = connection.execute(sa.select(marketplace_order_lines).where(mine)).first()
        if line is None or line.product_id is None or not line.backordered:
            raise CannotChangeLine(f"Line {number} waits for no stock any more; nothing was changed.")
        item = item_of(line)
        lock_rows(connection, {order_row, *orders_backordered(connection, [item])})
        try:
            move_stock(connection, [StockMove(item, units, "operator", "restock", f"restock:{once}"[:200])])
        except sa.exc.IntegrityError:
            raise CannotChangeLine("This stock is booked already; nothing was changed.") from None
        if this_order_first:
            allocate_backorder(connection, [order_row], order_context)
    allocate_backorders(database, order_context.run_id)
    with database.reading() as connection:
        return connection.scalar(sa.select(_LINES.backordered).where(mine)) or 0


_LEDGER = inventory_changes.c


def unmap_line(order: StoredOrder, number: int, *, forget: bool) -> None:
    """Unmaps a line of a locked order, and releases its stock; `forget` unlinks its SKU from the item too.

    Raises CannotChangeLine where goods of the order have shipped, it has ended, or the line has no item.
    """
    connection, line = order.connection, _live_line(order, number)
    item, gone = item_of(line), {"product_id": None, "variant_id": None}
    give_back(order, [line], {number: on_shelf(line)}, "undo", source="operator")
    unmapped = exception_text(read_exceptions(line.exception) | {OrderException.UNMAPPED})
    set_backordered(connection, line, 0, exception=unmapped, **gone)
    order.set_exceptions(add=(OrderException.UNMAPPED,))
    if order.local_order_id is not None:
        update_order_items(connection, order.local_order_id, [{"id": line.order_item_id, **gone}])
    if forget and line.sku and linked_items(connection, {line.sku}).get(line.sku) == item:
        unlink_sku(connection, line.sku)
    mark_backordered(connection, order.id)
    clear_oversold_alert(connection, [item])
    order.log("undone", f"Line {number}, {line.sku}: an operator took its item back.")


def undo_restock(order: StoredOrder, number: int, *, once: str) -> None:
    """Takes booked stock out again, and what the line of a locked order got of it; `once` named the booking.

    Raises CannotChangeLine where another order got it, it was sold, goods have shipped, or it was taken back before.
    """
    connection, line, name = order.connection, _live_line(order, number), f"restock:{once}"[:200]
    item, was = item_of(line), sa.and_(_LEDGER.cause == "restock", _LEDGER.reference == name)
    booked = connection.execute(sa.select(inventory_changes).where(was)).first()
    if booked is None or item_of(booked) != item:
        raise CannotChangeLine(f"No stock was booked for line {number} so; nothing was changed.")
    base = reference(order.marketplace_order_id, number)
    mine = sa.or_(_LEDGER.reference == base, _LEDGER.reference.startswith(f"{base}+", autoescape=True))
    later = sa.and_(_LEDGER.cause == "backorder", _LEDGER.id > booked.id, mine)
    served = connection.scalar(sa.select(sa.func.sum(_LEDGER.delta)).where(later)) or 0
    got = min(-int(served), on_shelf(line))
    give_back(order, [line], {number: got}, "undo", source="operator")
    try:
        (moved,) = move_stock(connection, [StockMove(item, -booked.delta, "operator", "undo", name)])
    except sa.exc.IntegrityError:
        raise CannotChangeLine("This stock was taken out again before; nothing was changed.") from None
    if moved != -booked.delta:
        raise CannotChangeLine("Other orders have this stock by now; nothing was changed.")
    short = line.backordered + got
    set_backordered(connection, line, short)
    mark_backordered(connection, order.id)
    named = line.sku or f"Product {item[0]}"
    raise_oversold_alert(connection, [Short(item, named, order.marketplace_order_id, short)])
    order.log("undone", f"Line {number}, {line.sku}: an operator took {booked.delta} out of stock again.")


def _live_line(order: StoredOrder, number: int) -> sa.Row[Any]:
    line, shipped = _line(order, number), has_shipped(order, order.shop_status())
    if line is None or line.product_id is None or order.status in ENDED or shipped:
        raise CannotChangeLine(
            f"Line {number} has no item, or its order has shipped or ended; nothing was changed."
        )
    return line
