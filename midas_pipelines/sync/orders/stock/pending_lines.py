"""Order lines that wait for an item or for stock: maps them, by a person or by a new mapping, and allocates stock once, that
which a person has found or bought included."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import link_sku
from midas_pipelines.store.orders.listing import OVERSOLD, UNMAPPED
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import update_order_items
from midas_pipelines.storefront.writing import any_of, set_aside
from midas_pipelines.sync.orders.model.lines import (
    CHANNEL,
    OrderException,
    backordered_only,
    exception_text,
    explain_line,
    items_named,
    read_exceptions,
)
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_rows, set_line
from midas_pipelines.sync.orders.model.sale import Named
from midas_pipelines.sync.orders.model.state_machine import ENDED
from midas_pipelines.sync.orders.stock.allocate import allocate_units
from midas_pipelines.sync.orders.stock.backorders import (
    ORDER_OF_SERVICE,
    allocate_backorder,
    allocate_backorders,
    clear_old_alerts,
    clear_oversold_alert,
    mark_backordered,
    orders_backordered,
)
from midas_pipelines.sync.orders.stock.units import units_shipped

_LINES = marketplace_order_lines.c
AT_ONCE = 500


class CannotMap(WrongInput):
    """The line cannot be mapped to the item; the message says why."""


class CannotRestock(WrongInput):
    """The line does not wait for stock, or this stock is booked already."""


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
    """Maps one unmapped line to an item and allocates its stock; False when it is mapped to that item already.

    Args:
        item: what was sold.
        remember: whether the next order with the line's SKU is mapped to this item too.

    Raises:
        CannotMap: the order has no such line, or it is mapped to another item.
    """
    with database.reading() as connection:
        query = sa.select(marketplace_order_lines).where(_LINES.order_id == order_row, _LINES.line == number)
        line = connection.execute(query).first()
    if line is None:
        raise CannotMap(f"The order has no line {number}: `midas orders show` numbers them.")
    if line.product_id is not None and (line.product_id, line.variant_id) != item:
        raise CannotMap(f"Line {number} is mapped to another item already; nothing was changed.")
    return _map(database, order_row, number, item, order_context, source="operator", remember=remember)


def substitute_item(
    database: Database, order_row: int, number: int, item: ItemKey, order_context: OrderContext
) -> None:
    """Serves a line that waits for all of its units from another item, which has to have them.

    Raises:
        CannotMap: the line does not wait so, or the item has too few; nothing was changed.
    """
    with database.writing() as connection:
        waiting = orders_backordered(connection, [item])
        held = {row.id: row for row in lock_rows(connection, {order_row, *waiting})}
        order = StoredOrder(connection, held[order_row], order_context)
        line = next((one for one in order.lines() if one.line == number), None)
        if line is None or not line.backordered or line.allocated:
            raise CannotMap(f"Line {number} does not wait for all of its units; nothing was changed.")
        own = backordered_only(line.exception, 0)
        set_line(connection, line.id, product_id=None, variant_id=None, backordered=0, exception=own)
        _tie(order, number, item, "operator")
        if any(one.backordered for one in order.lines() if one.line == number):
            raise CannotMap(f"The other item has fewer than {line.quantity} units; nothing was changed.")
        clear_oversold_alert(connection, [(line.product_id, line.variant_id)])


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
    query = sa.select(marketplace_order_lines).where(
        _LINES.order_id == order.id,
        _LINES.line == number,
        _LINES.product_id.is_(None),
        _LINES.allocated == _LINES.released,
    )
    line = order.connection.execute(query).first()
    if line is None:
        return False
    sold = max(0, line.quantity)
    shop = order.shop_status()
    gone = min(sold, units_shipped(order, shop)[line.line])
    wanted = gone if order.status in ENDED else sold
    got = allocate_units(order, line, item, missing=wanted, gone=gone, source=source)
    mapped = exception_text(read_exceptions(line.exception) - {OrderException.UNMAPPED})
    values = {
        "product_id": item[0],
        "variant_id": item[1],
        "exception": backordered_only(mapped, got.backordered),
    }
    set_line(order.connection, line.id, **values)
    if order.local_order_id is not None:
        tied = {"id": line.order_item_id, "product_id": item[0], "variant_id": item[1]}
        update_order_items(order.connection, order.local_order_id, [tied])
    if remember and line.sku:
        link_sku(order.connection, line.sku, item)
    where = f"product {item[0]}" + (f", variant {item[1]}" if item[1] else "")
    named = line.sku or line.title or f"line {line.line}"
    detail = f"Line {line.line}, {named}: it is {where}; {got}"
    order.log("mapped", detail)
    if got.backordered:
        allocated, quantity = wanted - got.backordered, line.quantity
        short = explain_line(
            line.line,
            line.sku,
            OrderException.OVERSOLD,
            wanted=wanted,
            allocated=allocated,
            quantity=quantity,
        )
        order.log(OrderException.OVERSOLD, short)
    mark_backordered(order.connection, order.id)
    others = sa.select(_LINES.id).where(_LINES.order_id == order.id, UNMAPPED)
    if order.connection.execute(others.limit(1)).first() is None:
        order.set_exceptions(drop=(OrderException.UNMAPPED,))
    return True


def serve_before_push(database: Database, run_id: str | None = None) -> None:
    """Gives stock that came back to those who wait for it, before anyone can buy it again.

    A push does not depend on it: where our rows of orders are locked, the push goes on without.
    """
    waits = sa.or_(sa.exists().where(OVERSOLD), sa.exists().where(UNMAPPED))  # by two small indexes
    with set_aside("Lines that wait for stock"):
        with database.reading() as connection:
            any_waits = connection.scalar(sa.select(waits))
        if any_waits:
            allocate_pending_lines(database, run_id)


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
    """Adds units of the item that a line waits for, and allocates them; returns how many the line still lacks.

    Args:
        database: the shop's.
        order_row: our row of the order.
        number: of the line.
        units: from 1 on.
        order_context: writes the order log.
        once: names this click, so that it counts once however often it is sent.
        this_order_first: whether it comes before orders that have waited longer.

    Raises:
        CannotRestock: nothing was changed.
    """
    mine = sa.and_(_LINES.order_id == order_row, _LINES.line == number)
    with database.writing() as connection:
        line = connection.execute(sa.select(marketplace_order_lines).where(mine)).first()
        if line is None or line.product_id is None or not line.backordered:
            raise CannotRestock(f"Line {number} waits for no stock any more; nothing was changed.")
        item = (line.product_id, line.variant_id)
        lock_rows(connection, {order_row, *orders_backordered(connection, [item])})
        try:
            move_stock(connection, [StockMove(item, units, "operator", "restock", f"restock:{once}"[:200])])
        except sa.exc.IntegrityError:
            raise CannotRestock("This stock is booked already; nothing was changed.") from None
        if this_order_first:
            allocate_backorder(connection, [order_row], order_context)
    allocate_backorders(database, order_context.run_id)
    with database.reading() as connection:
        return connection.scalar(sa.select(_LINES.backordered).where(mine)) or 0
