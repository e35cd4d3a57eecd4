"""Order lines that wait for an item or for stock. The one that has waited longest comes first, before any new order; a person
may map one, serve it from another item, or restock its item, and take that back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.status import ENDED
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import link_sku, linked_items, unlink_sku
from midas_pipelines.store.orders.listing import UNMAPPED
from midas_pipelines.store.schema.tables import inventory_changes, marketplace_order_lines, marketplace_orders
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import update_order_items
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.writing import NO_WAIT, any_of, set_aside
from midas_pipelines.sync.orders.model.lines import CHANNEL, OrderException, items_named, reference, shortage
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_rows
from midas_pipelines.sync.orders.model.sale import Named
from midas_pipelines.sync.orders.stock import units

_LINES, _ORDERS, _LEDGER = marketplace_order_lines.c, marketplace_orders.c, inventory_changes.c
ORDER_OF_SERVICE = (sa.func.coalesce(_ORDERS.placed_at, _ORDERS.imported_at), _ORDERS.id, _LINES.line)
"""The oldest order first; one without a date counts from its import."""


class CannotChangeLine(WrongInput):
    """The line cannot be mapped, restocked or undone so; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; nothing was changed.")


def allocate_pending_lines(database: Database, run_id: str | None = None) -> tuple[int, int]:
    """Maps lines to items that the shop has now, then allocates stock to backorders, whose units are not for sale, before
    quantities are published; returns the numbers of lines mapped and units allocated. Safe at any time."""
    return map_known_lines(database, run_id), allocate_backorders(database, run_id)


def map_known_lines(database: Database, run_id: str | None = None) -> int:
    """Maps every unmapped line whose item the shop has now; returns how many."""
    mapped, context = 0, OrderContext(run_id)
    with database.reading() as connection:
        lines = connection.execute(
            sa.select(marketplace_order_lines).where(UNMAPPED).order_by(_LINES.id)
        ).all()
        found = _with_items(connection, lines)
    for line, item in found:
        name = f"Line {line.line} of our order {line.order_id}"
        with set_aside(name), served_first(database, line.order_id, item, context) as order:
            mapped += tie(order, line.line, item, CHANNEL)
    return mapped


def _with_items(connection: sa.Connection, lines: Sequence[Any]) -> list[tuple[sa.Row[Any], ItemKey]]:
    """Those of the lines whose item the shop has now, with the item."""
    names = [(line.fourseller_product_id, line.sku) for line in lines]
    items = items_named(connection, names)
    return [(line, items[name]) for line, name in zip(lines, names, strict=True) if name in items]


def allocate_backorders(database: Database, run_id: str | None = None) -> int:
    """Allocates available stock to backordered lines, the oldest order first; returns the units allocated. Safe at any time;
    orders that cannot be served now are left for the next call."""
    given, context = 0, OrderContext(run_id)
    waiting = database.rows(_to_be_served(sa.true()).with_only_columns(_LINES.order_id))
    for order_row in dict.fromkeys(row["order_id"] for row in waiting):
        with set_aside(f"Stock for our order {order_row}"), database.writing() as connection:
            connection.execution_options(**{NO_WAIT: True})
            given += allocate_backorder(lock_rows(connection, [order_row], context))
    database.write(units.clear_oversold_alert)
    return given


def orders_backordered(connection: sa.Connection, items: Collection[ItemKey]) -> set[int]:
    """Our rows of the orders that wait for one of these items; lock them before `allocate_backorder`."""
    products_of = any_of(connection, _LINES.product_id, list({product for product, _ in items}))
    query = sa.select(_LINES.order_id).where(_LINES.backordered > 0, products_of)
    return set(connection.scalars(query)) if items else set()


def allocate_backorder(held: Sequence[StoredOrder]) -> int:
    """Allocates available stock to these locked orders, the oldest first; returns how many units."""
    if not held:
        return 0
    by_id, connection, moves, given = {order.id: order for order in held}, held[0].connection, [], 0
    lines = connection.execute(_to_be_served(_LINES.order_id.in_(by_id))).all()
    for line in lines:
        name = reference(line.marketplace_order_id, line.line, line.allocated)
        moves.append(StockMove(units.item_of(line), -line.backordered, CHANNEL, "backorder", name))
    for line, moved in zip(lines, move_stock(connection, moves), strict=True):
        if moved:
            given -= moved
            order, left = by_id[line.order_id], line.backordered + moved
            units.set_backordered(order, line, left, allocated=line.allocated - moved)
            still = f"; {left} still backordered" if left else ""
            order.log("allocated", f"Line {line.line}, {line.sku}: stock came back, took {-moved}{still}.")
    return given


def _to_be_served(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Those of these backordered lines of live orders whose item is in stock, the oldest order first."""
    of_variant = _LINES.variant_id.is_not(None)
    on_hand = sa.case((of_variant, product_variants.c.stock_quantity), else_=products.c.stock_quantity)
    joined = (
        marketplace_order_lines.join(marketplace_orders, _ORDERS.id == _LINES.order_id)
        .outerjoin(products, products.c.id == _LINES.product_id)
        .outerjoin(product_variants, product_variants.c.id == _LINES.variant_id)
    )
    query = sa.select(marketplace_order_lines, _ORDERS.marketplace_order_id).select_from(joined)
    waiting = query.where(which, _LINES.backordered > 0, on_hand > 0, _ORDERS.status.not_in(ENDED))
    return waiting.order_by(*ORDER_OF_SERVICE)


@contextmanager
def served_first(database: Database, row: int, item: ItemKey, context: OrderContext) -> Iterator[StoredOrder]:
    """The order, locked together with those that wait for the item; these are served first."""
    with database.writing() as connection:
        held = lock_rows(connection, {row, *orders_backordered(connection, [item])}, context)
        allocate_backorder(held)
        yield next(order for order in held if order.id == row)


def lines_naming(connection: sa.Connection, names: Collection[Named]) -> Sequence[sa.Row[Any]]:
    """The unmapped lines that share the SKU or 4Seller's product id with one of these names; nothing is locked."""
    if not names:
        return []
    columns = (_LINES.fourseller_product_id, _LINES.sku)
    same = [any_of(connection, one, {name[at] for name in names} - {None}) for at, one in enumerate(columns)]
    query = sa.select(marketplace_order_lines).join(marketplace_orders, _ORDERS.id == _LINES.order_id)
    return connection.execute(query.where(UNMAPPED, sa.or_(*same)).order_by(*ORDER_OF_SERVICE)).all()


def tie_lines(connection: sa.Connection, held: Sequence[StoredOrder], lines: Sequence[sa.Row[Any]]) -> int:
    """Maps these lines of locked orders to items that the shop has now; returns how many."""
    by_id, found = {order.id: order for order in held}, _with_items(connection, lines)
    return sum(tie(by_id[line.order_id], line.line, item, CHANNEL) for line, item in found)


def tie(order: StoredOrder, number: int, item: ItemKey, source: str, remember: bool = False) -> bool:
    """Maps one line of a locked order to an item; False when it has one already."""
    line = order.line(number)
    if line is None or line.product_id is not None or line.allocated != line.released:
        return False
    connection, sold = order.connection, max(0, line.quantity)
    gone = min(sold, units.units_shipped(order, order.shop_status())[number])
    over = order.status in ENDED or order.resolution == "cancelled"
    wanted, columns = gone if over else sold, {"product_id": item[0], "variant_id": item[1]}
    got, words = units.allocate_units(order, line, item, wanted, gone, source, unmapped=False, **columns)
    update_order_items(connection, order.local_order_id, [{"id": line.order_item_id, **columns}])
    if remember and line.sku:
        link_sku(connection, line.sku, item)
    where = f"product {item[0]}" + (f", variant {item[1]}" if item[1] else "")
    order.log("mapped", f"Line {number}, {line.sku or line.title or 'no SKU'}: it is {where}; {words}")
    if got < wanted:
        order.log(OrderException.OVERSOLD, shortage(f"Line {number}, {line.sku or 'no SKU'}", wanted, got))
    return True


def map_line(
    database: Database, row: int, number: int, item: ItemKey, context: OrderContext, remember: bool = True
) -> bool:
    """Maps one unmapped line to the item that was sold and allocates its stock, and with `remember` the next order with its
    SKU too; False when it is mapped to it already."""
    with served_first(database, row, item, context) as order:
        line = order.line(number)
        if line is None:
            raise CannotChangeLine(f"The order has no line {number} (`midas orders show` numbers them)")
        if line.product_id is not None and units.item_of(line) != item:
            raise CannotChangeLine(f"Line {number} is mapped to another item already")
        return tie(order, number, item, "operator", remember)


def substitute_item(database: Database, row: int, number: int, item: ItemKey, context: OrderContext) -> None:
    """Serves a line that waits for all of its units from another item, which has to have them."""
    with served_first(database, row, item, context) as order:
        line = order.line(number)
        if line is None or not line.backordered or line.allocated:
            raise CannotChangeLine(f"Line {number} does not wait for all of its units")
        units.set_backordered(order, line, 0, product_id=None, variant_id=None)
        tie(order, number, item, "operator")
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
        waiting = orders_backordered(connection, [item])
        held = lock_rows(connection, {row, *waiting}, context)
        _move_once(connection, item, count, "restock", f"restock:{once}"[:200])
        if first:
            allocate_backorder([order for order in held if order.id == row])
    allocate_backorders(database, context.run_id)
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
