"""Order lines that wait for an item or for stock: the one that has waited longest comes first, before any new order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import ENDED
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import link_sku
from midas_pipelines.store.orders.listing import UNMAPPED
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import update_order_items
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.writing import NO_WAIT, any_of, set_aside
from midas_pipelines.sync.orders.model.lines import CHANNEL, OrderException, items_named, reference, shortage
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_rows
from midas_pipelines.sync.orders.model.sale import Named
from midas_pipelines.sync.orders.stock import units

_LINES, _ORDERS = marketplace_order_lines.c, marketplace_orders.c
ORDER_OF_SERVICE = (sa.func.coalesce(_ORDERS.placed_at, _ORDERS.imported_at), _ORDERS.id, _LINES.line)
"""The oldest order first; one without a date counts from its import."""


def allocate_pending_lines(database: Database, run_id: str | None = None) -> tuple[int, int]:
    """Maps lines to items that the shop has now, then allocates stock to backorders, whose units are not for sale, before
    quantities are published; returns the numbers of lines mapped and units allocated. Safe at any time."""
    return map_known_lines(database, run_id), allocate_backorders(database, run_id)


def map_known_lines(database: Database, run_id: str | None = None) -> int:
    """Maps every unmapped line whose item the shop has now; returns how many."""
    mapped, context = 0, OrderContext(run_id)
    with database.reading() as connection:
        columns = (_LINES.order_id, _LINES.line, _LINES.sku, _LINES.fourseller_product_id)
        lines = connection.execute(sa.select(*columns).where(UNMAPPED).order_by(_LINES.id)).all()
        found = _with_items(connection, lines)
    for line, item in found:
        name = f"Line {line.line} of our order {line.order_id}"
        with set_aside(name), served_first(database, line.order_id, item, context) as order:
            mapped += tie(order, line.line, item, CHANNEL)
    return mapped


def _with_items(connection: sa.Connection, lines: Sequence[Any]) -> list[tuple[sa.Row[Any], ItemKey]]:
    """Those of the lines whose item the shop has now, with the item."""
    items = items_named(connection, {(line.fourseller_product_id, line.sku) for line in lines})
    found = [(line, items.get((line.fourseller_product_id, line.sku))) for line in lines]
    return [(line, item) for line, item in found if item is not None]


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
    by_id = {order.id: order for order in held}
    found = _with_items(connection, lines)
    return sum(tie(by_id[line.order_id], line.line, item, CHANNEL) for line, item in found)


def tie(order: StoredOrder, number: int, item: ItemKey, source: str, remember: bool = False) -> bool:
    """Maps one line of a locked order to an item; False when it has one already."""
    line = order.line(number)
    if line is None or line.product_id is not None or line.allocated != line.released:
        return False
    connection, sold = order.connection, max(0, line.quantity)
    gone = min(sold, units.units_shipped(order, order.shop_status())[number])
    wanted, columns = gone if order.status in ENDED else sold, {"product_id": item[0], "variant_id": item[1]}
    got, words = units.allocate_units(order, line, item, wanted, gone, source, unmapped=False, **columns)
    update_order_items(connection, order.local_order_id, [{"id": line.order_item_id, **columns}])
    if remember and line.sku:
        link_sku(connection, line.sku, item)
    where = f"product {item[0]}" + (f", variant {item[1]}" if item[1] else "")
    order.log("mapped", f"Line {number}, {line.sku or line.title or 'no SKU'}: it is {where}; {words}")
    if got < wanted:
        order.log(OrderException.OVERSOLD, shortage(f"Line {number}, {line.sku or 'no SKU'}", wanted, got))
    if not connection.scalar(sa.select(sa.exists().where(_LINES.order_id == order.id, UNMAPPED))):
        order.set_exceptions(drop=(OrderException.UNMAPPED,))
    return True
