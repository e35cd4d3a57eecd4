"""Lines that named no item of the shop's: given one later, by a person or by a new mapping, and their stock taken once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.ledger import StockMove, move_stock
from midas_pipelines.store.tables import marketplace_order_lines
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import order_status, update_order_items
from midas_pipelines.sync.orders import flaws
from midas_pipelines.sync.orders.backorders import mark_owing, orders_waiting, serve
from midas_pipelines.sync.orders.clerk import Clerk, mark
from midas_pipelines.sync.orders.flaws import Flaw, explain_line
from midas_pipelines.sync.orders.lines import CHANNEL, items_named, reference
from midas_pipelines.sync.orders.locking import lock_rows
from midas_pipelines.sync.orders.oversold import Short, sound_alarm
from midas_pipelines.sync.orders.statuses import ENDED, GOODS_LEFT

_LINES = marketplace_order_lines.c
UNMAPPED = sa.and_(
    _LINES.exception.is_not(None), _LINES.product_id.is_(None), _LINES.taken == 0, _LINES.quantity > 0
)
"""A line that waits for its item; the exception is there so that the small index on it is enough."""
AT_ONCE = 500


class CannotMap(Exception):
    """The line cannot be tied to the item; the message says why."""


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
                mapped += _map(database, line.order_id, line.line, item, Clerk(run_id), source=CHANNEL)
        if len(lines) < AT_ONCE:
            return mapped
        after = lines[-1].id


def _unmapped(connection: sa.Connection, after: int) -> Sequence[sa.Row[Any]]:
    query = sa.select(
        _LINES.id, _LINES.order_id, _LINES.line, _LINES.sku, _LINES.fourseller_product_id
    ).where(UNMAPPED, _LINES.id > after)
    return connection.execute(query.order_by(_LINES.id).limit(AT_ONCE)).all()


def map_line(database: Database, order_row: int, number: int, item: ItemKey, clerk: Clerk) -> bool:
    """Ties one unmapped line to an item and takes its stock; False when it is tied to that item already.

    Args:
        database: the shop's.
        order_row: our row of the order.
        number: of the line.
        item: what was sold.
        clerk: writes the story.

    Raises:
        CannotMap: the order has no such line, or it sold another item.
    """
    with database.reading() as connection:
        query = sa.select(marketplace_order_lines).where(_LINES.order_id == order_row, _LINES.line == number)
        line = connection.execute(query).first()
    if line is None:
        raise CannotMap(f"The order has no line {number}: `midas orders show` numbers them.")
    if line.product_id is not None and (line.product_id, line.variant_id) != item:
        raise CannotMap(f"Line {number} is tied to another item already; nothing was changed.")
    return _map(database, order_row, number, item, clerk, source="operator")


def _map(
    database: Database, order_row: int, number: int, item: ItemKey, clerk: Clerk, *, source: str
) -> bool:
    with database.writing() as connection:
        waiting = orders_waiting(connection, [item])
        held = {row.id: row for row in lock_rows(connection, {order_row, *waiting})}
        query = sa.select(marketplace_order_lines).where(
            _LINES.order_id == order_row,
            _LINES.line == number,
            _LINES.product_id.is_(None),
            _LINES.taken == 0,
        )
        line = connection.execute(query).first()
        if line is None:
            return False
        serve(connection, waiting, clerk)  # who waits longer comes first
        _tie(connection, held[order_row], line, item, clerk, source)
    return True


def _tie(
    connection: sa.Connection,
    order: sa.Row[Any],
    line: sa.Row[Any],
    item: ItemKey,
    clerk: Clerk,
    source: str,
) -> None:
    off = order.status in ENDED and not _left(connection, order)
    wanted = 0 if off else max(0, line.quantity)
    name = reference(order.marketplace_order_id, line.line)
    taken = -move_stock(connection, [StockMove(item, -wanted, source, "sale", name)])[0]
    owed = wanted - taken
    named = line.sku or line.title or f"line {line.line}"
    values = {
        "product_id": item[0],
        "variant_id": item[1],
        "taken": taken,
        "owed": owed,
        "exception": flaws.owing(flaws.written(flaws.read(line.exception) - {Flaw.UNMAPPED.value}), owed),
    }
    connection.execute(sa.update(marketplace_order_lines).where(_LINES.id == line.id).values(values))
    if order.local_order_id is not None:
        tied = {"id": line.order_item_id, "product_id": item[0], "variant_id": item[1]}
        update_order_items(connection, order.local_order_id, [tied])
    where = f"product {item[0]}" + (f", variant {item[1]}" if item[1] else "")
    detail = f"Line {line.line}, {named}: it is {where}; took {taken} from stock."
    clerk.log(connection, order.marketplace_order_id, "mapped", detail)
    if owed:
        short = explain_line(
            line.line, line.sku, Flaw.OVERSOLD, wanted=wanted, taken=taken, quantity=line.quantity
        )
        clerk.log(connection, order.marketplace_order_id, Flaw.OVERSOLD.value, short)
        sound_alarm(connection, [Short(item, named, order.marketplace_order_id, owed)])
    mark_owing(connection, order.id)
    others = sa.select(_LINES.id).where(_LINES.order_id == order.id, UNMAPPED)
    if connection.execute(others.limit(1)).first() is None:
        mark(connection, order.id, drop=(Flaw.UNMAPPED.value,))


def _left(connection: sa.Connection, order: sa.Row[Any]) -> bool:
    """Whether the goods of an order that ended left before: then what it sold was taken all the same."""
    shipped = sa.select(_LINES.id).where(_LINES.order_id == order.id, _LINES.shipped > 0)
    if connection.execute(shipped.limit(1)).first() is not None:
        return True
    return order_status(connection, order.local_order_id) in GOODS_LEFT
