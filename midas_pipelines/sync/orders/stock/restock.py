"""Stock that a person has found or bought for an oversold line: booked once, given to whom they say."""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_rows
from midas_pipelines.sync.orders.stock.backorders import (
    allocate_backorder,
    allocate_backorders,
    orders_backordered,
)


class CannotRestock(WrongInput):
    """The line does not wait for stock, or this stock is booked already."""


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
    lines = marketplace_order_lines.c
    mine = sa.and_(lines.order_id == order_row, lines.line == number)
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
        return connection.scalar(sa.select(lines.backordered).where(mine)) or 0
