"""Sold and not there: staff are told, the channel is set to zero at once, and returning stock goes to the oldest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.database import Database
from midas_pipelines.store.ledger import StockMove, move_stock
from midas_pipelines.store.mappings import unlocked
from midas_pipelines.store.tables import ITEM_KEY, mappings, marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.clerk import Clerk, mark
from midas_pipelines.sync.orders.flaws import Flaw
from midas_pipelines.sync.orders.lines import CHANNEL, SoldLine, reference

ALERT = "oversold"
AT_ONCE = 200
"""Lines given stock in one transaction."""

_LINES = marketplace_order_lines.c


def sound_alarm(connection: sa.Connection, lines: Sequence[SoldLine]) -> None:
    """Tells staff of the items that these lines oversold, and has their zero pushed even where it was pushed before:
    whoever sold what is not there shows a quantity that we do not know of."""
    short = {line.item: line for line in lines if line.owed and line.item is not None}
    for item, line in short.items():
        text = (
            f"{line.line.sku or line.line.title} is oversold: order {line.sale.order_id} waits for {line.owed}. "
            "Restock it, or cancel on the marketplace. `midas orders list --exception oversold` shows all."
        )
        raise_alert(connection, kind=ALERT, subject=subject(item), text=text)
        push_anew(connection, item)


def push_anew(connection: sa.Connection, item: ItemKey) -> None:
    """Has the item's quantity sent again whatever 4Seller confirmed last; one being pushed now marks itself."""
    product_id, variant_id = item
    query = sa.select(mappings.c.id).where(
        mappings.c.product_id == product_id, ITEM_KEY.in_([variant_id or 0])
    )
    free = unlocked(connection, list(connection.scalars(query)))
    values = {
        "acked_quantity": None,
        "version": mappings.c.version + 1,
        "dirty_since": sa.func.coalesce(mappings.c.dirty_since, utc_now()),
        "next_attempt_at": None,
    }
    connection.execute(sa.update(mappings).where(mappings.c.id.in_(free)).values(values))


def subject(item: ItemKey) -> str:
    """The alert's name for an item."""
    return f"item:{item[0]}:{item[1] or 0}"


def allocate_backorders(database: Database, run_id: str | None = None) -> int:
    """Gives stock that is there to lines that wait for it, the oldest order first; returns the units given.

    Safe to call at any time, from any process: each unit is taken under the item's lock and has its ledger row.
    """
    given = 0
    clerk = Clerk(run_id)
    while True:
        with database.writing() as connection:
            waiting = _waiting(connection)
            units = _allocate(connection, waiting, clerk) if waiting else 0
        given += units
        if not units:
            return given


def _waiting(connection: sa.Connection) -> Sequence[sa.Row[Any]]:
    """Lines that wait for an item that is there, the oldest first; their orders locked."""
    orders = marketplace_orders.c
    on_hand = sa.func.coalesce(product_variants.c.stock_quantity, products.c.stock_quantity)
    joined = (
        marketplace_order_lines.join(marketplace_orders, orders.id == _LINES.order_id)
        .join(products, products.c.id == _LINES.product_id)
        .outerjoin(product_variants, product_variants.c.id == _LINES.variant_id)
    )
    query = (
        sa.select(
            _LINES.id,
            _LINES.order_id,
            _LINES.line,
            _LINES.sku,
            _LINES.product_id,
            _LINES.variant_id,
            _LINES.taken,
            _LINES.owed,
            orders.marketplace_order_id,
        )
        .select_from(joined)
        .where(_LINES.owed > 0, on_hand > 0)
        .order_by(orders.placed_at, orders.id, _LINES.line)
        .limit(AT_ONCE)
    )
    found = connection.execute(query).all()
    if not found or connection.dialect.name != "postgresql":
        return found
    rows = sorted({row.order_id for row in found})
    lock = sa.select(orders.id).where(orders.id.in_(rows)).order_by(orders.id)
    connection.execute(lock.with_for_update(key_share=True)).all()
    query = query.where(orders.id.in_(rows))
    return connection.execute(query).all()  # as it stands now that nobody else can change it


def _allocate(connection: sa.Connection, lines: Sequence[sa.Row[Any]], clerk: Clerk) -> int:
    moves = [
        StockMove(
            (line.product_id, line.variant_id),
            -line.owed,
            CHANNEL,
            "backorder",
            reference(line.marketplace_order_id, line.line, line.taken),
        )
        for line in lines
    ]
    units = 0
    for line, moved in zip(lines, move_stock(connection, moves), strict=True):
        if moved:
            units -= moved
            _book(connection, line, -moved, clerk)
    for item in {(line.product_id, line.variant_id) for line in lines}:
        _all_clear(connection, item)
    return units


def _book(connection: sa.Connection, line: sa.Row[Any], units: int, clerk: Clerk) -> None:
    left = line.owed - units
    values: dict[str, Any] = {"taken": line.taken + units, "owed": left}
    if not left:
        values["exception"] = None
    connection.execute(sa.update(marketplace_order_lines).where(_LINES.id == line.id).values(values))
    still = f"; {left} still owed" if left else ""
    detail = f"Line {line.line}, {line.sku}: stock came back, took {units}{still}."
    clerk.log(connection, line.marketplace_order_id, "allocated", detail)
    owing = sa.select(_LINES.id).where(_LINES.order_id == line.order_id, _LINES.owed > 0)
    if connection.execute(owing.limit(1)).first() is None:
        mark(connection, line.order_id, drop=(Flaw.OVERSOLD.value,))


def _all_clear(connection: sa.Connection, item: ItemKey) -> None:
    product_id, variant_id = item
    owing = sa.select(_LINES.id).where(
        _LINES.product_id == product_id,
        sa.func.coalesce(_LINES.variant_id, 0) == (variant_id or 0),
        _LINES.owed > 0,
    )
    if connection.execute(owing.limit(1)).first() is None:
        clear_alert(connection, kind=ALERT, subject=subject(item))
