"""Lines that named no item of the shop's: given one later, by a person or by a new mapping, and their stock taken once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.database import Database
from midas_pipelines.store.ledger import StockMove, move_stock
from midas_pipelines.store.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import update_order_items
from midas_pipelines.sync.orders.clerk import Clerk, mark
from midas_pipelines.sync.orders.flaws import Flaw, explain_line
from midas_pipelines.sync.orders.lines import CHANNEL, items_named, reference

_LINES = marketplace_order_lines.c
AT_ONCE = 500


def map_known_lines(database: Database, run_id: str | None = None) -> int:
    """Ties every unmapped line whose item the shop has by now to it; returns how many."""
    mapped, after = 0, 0
    while True:
        with database.reading() as connection:
            lines = _unmapped(connection, after)
            named = items_named(connection, {(line.fourseller_product_id, line.sku) for line in lines})
        for line in lines:
            item = named.get((line.fourseller_product_id, line.sku))
            if item is not None:
                mapped += map_line(database, line.order_id, line.line, item, Clerk(run_id))
        if len(lines) < AT_ONCE:
            return mapped
        after = lines[-1].id


def _unmapped(connection: sa.Connection, after: int) -> Sequence[sa.Row[Any]]:
    query = sa.select(
        _LINES.id, _LINES.order_id, _LINES.line, _LINES.sku, _LINES.fourseller_product_id
    ).where(_LINES.exception == Flaw.UNMAPPED.value, _LINES.id > after)
    return connection.execute(query.order_by(_LINES.id).limit(AT_ONCE)).all()


def map_line(database: Database, order_row: int, number: int, item: ItemKey, clerk: Clerk) -> bool:
    """Ties one unmapped line to an item and takes its stock; False when it is mapped already.

    Args:
        database: the shop's.
        order_row: our row of the order.
        number: of the line.
        item: what was sold.
        clerk: writes the story.
    """
    orders = marketplace_orders.c
    with database.writing() as connection:
        order = connection.execute(
            sa.select(orders.id, orders.marketplace_order_id, orders.status)
            .where(orders.id == order_row)
            .with_for_update(key_share=True)
        ).one()
        query = sa.select(marketplace_order_lines).where(
            _LINES.order_id == order_row, _LINES.line == number, _LINES.product_id.is_(None)
        )
        line = connection.execute(query).first()
        if line is None:
            return False
        _tie(connection, order, line, item, clerk)
    return True


def _tie(
    connection: sa.Connection, order: sa.Row[Any], line: sa.Row[Any], item: ItemKey, clerk: Clerk
) -> None:
    gone = order.status in (OrderStatus.CANCELLED.value, OrderStatus.REFUNDED.value)
    wanted = 0 if gone else max(0, line.quantity)
    name = reference(order.marketplace_order_id, line.line)
    taken = -move_stock(connection, [StockMove(item, -wanted, CHANNEL, "sale", name)])[0]
    flaw = Flaw.OVERSOLD if taken < wanted else None
    values = {
        "product_id": item[0],
        "variant_id": item[1],
        "taken": taken,
        "owed": wanted - taken,
        "exception": flaw.value if flaw else None,
    }
    connection.execute(sa.update(marketplace_order_lines).where(_LINES.id == line.id).values(values))
    update_order_items(connection, [{"id": line.order_item_id, "product_id": item[0], "variant_id": item[1]}])
    detail = f"Line {line.line}, {line.sku or 'no SKU'}: mapped to an item, took {taken} from stock."
    clerk.log(connection, order.marketplace_order_id, "mapped", detail)
    if flaw:
        short = explain_line(line.line, line.sku, flaw, wanted=wanted, taken=taken, quantity=line.quantity)
        clerk.log(connection, order.marketplace_order_id, flaw.value, short)
        mark(connection, order.id, add=(flaw.value,))
    others = sa.select(_LINES.id).where(_LINES.order_id == order.id, _LINES.exception == Flaw.UNMAPPED.value)
    if connection.execute(others.limit(1)).first() is None:
        mark(connection, order.id, drop=(Flaw.UNMAPPED.value,))
