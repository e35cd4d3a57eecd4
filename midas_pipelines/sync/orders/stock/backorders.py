"""Backorders and the alerts about them: new stock goes to the order that has waited longest, before any new order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.alerts import clear_alerts, open_subjects, raise_alert
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import mark_dirty
from midas_pipelines.store.schema.tables import (
    ITEM_KEY,
    mappings,
    marketplace_order_lines,
    marketplace_orders,
)
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.writing import NO_WAIT, any_of, blame
from midas_pipelines.sync.orders.model.lines import (
    CHANNEL,
    OrderException,
    Short,
    backordered_only,
    reference,
)
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_rows, set_exceptions, set_line
from midas_pipelines.sync.orders.model.state_machine import ENDED

ALERT = "oversold"
AT_ONCE = 200
"""Lines allocated in one transaction."""

_LINES, _ORDERS = marketplace_order_lines.c, marketplace_orders.c
ORDER_OF_SERVICE = (
    sa.func.coalesce(_ORDERS.placed_at, _ORDERS.imported_at).label("waits_since"),
    _ORDERS.id,
    _LINES.line,
)
"""The oldest order first; one without a date counts from its import."""


def allocate_backorders(database: Database, run_id: str | None = None) -> int:
    """Allocates available stock to backordered lines, the oldest order first; returns the units allocated.

    Safe to call at any time, from any process: each unit is taken under the item's lock and has its ledger row.
    """
    given, at_once, busy = 0, AT_ONCE, set[int]()
    while True:
        found: list[int] = []
        try:
            with database.writing() as connection:
                connection.execution_options(**{NO_WAIT: True})
                waiting = _to_be_served().where(_LINES.id.not_in(busy)).limit(at_once)
                lines = connection.execute(waiting).all()
                found = [line.id for line in lines]
                lock_rows(connection, {line.order_id for line in lines})
                units = _serve(connection, found, OrderContext(run_id))
        except sa.exc.DBAPIError as error:  # leave lines that cannot be served now, continue with the others
            if blame(error).of_all:
                raise
            busy |= set(found) if at_once == 1 else set()
            at_once = 1
            continue
        given += units
        if not units:
            return given


def orders_backordered(connection: sa.Connection, items: Collection[ItemKey]) -> set[int]:
    """Our rows of the orders that wait for one of these items; lock them before `allocate_backorder`."""
    if not items:
        return set()
    products_of = any_of(connection, _LINES.product_id, list({product for product, _ in items}))
    query = sa.select(_LINES.order_id).where(_LINES.backordered > 0, products_of)
    return set(connection.scalars(query))


def allocate_backorder(
    connection: sa.Connection, order_rows: Collection[int], order_context: OrderContext
) -> int:
    """Allocates available stock to these locked orders; returns the units allocated."""
    if not order_rows:
        return 0
    query = _to_be_served().where(_LINES.order_id.in_(order_rows))
    return _serve(connection, [line.id for line in connection.execute(query)], order_context)


def _to_be_served() -> sa.Select[Any]:
    """Backordered lines of live orders whose item is in stock, the oldest order first."""
    of_variant = _LINES.variant_id.is_not(None)
    on_hand = sa.case((of_variant, product_variants.c.stock_quantity), else_=products.c.stock_quantity)
    joined = (
        marketplace_order_lines.join(marketplace_orders, _ORDERS.id == _LINES.order_id)
        .outerjoin(products, products.c.id == _LINES.product_id)
        .outerjoin(product_variants, product_variants.c.id == _LINES.variant_id)
    )
    return (
        sa.select(marketplace_order_lines, _ORDERS.marketplace_order_id)
        .select_from(joined)
        .where(_LINES.backordered > 0, on_hand > 0, _ORDERS.status.not_in(ENDED))
        .order_by(*ORDER_OF_SERVICE)
    )


def _serve(connection: sa.Connection, line_ids: Sequence[int], order_context: OrderContext) -> int:
    """Allocates stock to these lines of locked orders, read again under the lock."""
    if not line_ids:
        return 0
    lines = connection.execute(_to_be_served().where(_LINES.id.in_(line_ids))).all()
    moves = [
        line_move(line.marketplace_order_id, line, -line.backordered, CHANNEL, "backorder", line.allocated)
        for line in lines
    ]
    units = 0
    for line, moved in zip(lines, move_stock(connection, moves), strict=True):
        if moved:
            units -= moved
            left = line.backordered + moved
            set_backordered(connection, line, left, allocated=line.allocated - moved)
            still = f"; {left} still backordered" if left else ""
            detail = f"Line {line.line}, {line.sku}: stock came back, took {-moved}{still}."
            order_context.log(connection, line.marketplace_order_id, "allocated", detail)
            mark_backordered(connection, line.order_id)
    clear_oversold_alert(connection, {item_of(line) for line in lines})
    return units


def item_of(line: Any) -> ItemKey:
    """The item that a line sold."""
    return (line.product_id, line.variant_id)


def line_move(
    order_id: str, line: sa.Row[Any], delta: int, source: str, cause: str, already: int
) -> StockMove:
    """A movement of the item of a line; `already` units of it moved so before (`reference`)."""
    return StockMove(item_of(line), delta, source, cause, reference(order_id, line.line, already))


def set_backordered(connection: sa.Connection, line: sa.Row[Any], backordered: int, **columns: Any) -> None:
    """Writes how many units a line is backordered now, its exception with them, and other columns."""
    exception = backordered_only(columns.pop("exception", line.exception), backordered)
    set_line(connection, line.id, backordered=backordered, exception=exception, **columns)


def mark_backordered(connection: sa.Connection, order_row: int) -> None:
    """Marks the order `oversold` while one of its lines is backordered, and only then."""
    owing = sa.exists().where(_LINES.order_id == order_row, _LINES.backordered > 0)
    waits, word = connection.scalar(sa.select(owing)), (OrderException.OVERSOLD,)
    set_exceptions(connection, order_row, add=word if waits else (), drop=() if waits else word)


def subject(item: ItemKey) -> str:
    """The alert's name for an item."""
    return f"item:{item[0]}:{item[1] or 0}"


def raise_oversold_alert(connection: sa.Connection, found: Iterable[Short]) -> None:
    """Alerts staff to the items that these lines oversold, and pushes their quantity again even if it was pushed
    before: the channel that oversold may show an outdated one."""
    for short in {one.item: one for one in found}.values():
        text = (
            f"{short.name} is oversold: order {short.order_id} waits for {short.backordered}. "
            "Restock it, or cancel on the marketplace. `midas orders list --exception oversold` shows all."
        )
        raise_alert(connection, kind=ALERT, subject=subject(short.item), text=text)
        product_id, variant_id = short.item
        item = sa.and_(mappings.c.product_id == product_id, ITEM_KEY.in_([variant_id or 0]))
        rows = list(connection.scalars(sa.select(mappings.c.id).where(item)))
        mark_dirty(connection, rows, acked_quantity=None, next_attempt_at=None)  # not one being pushed now


def clear_oversold_alert(connection: sa.Connection, items: Collection[ItemKey]) -> None:
    """Closes the alerts of those of these items that no order waits for."""
    wanted = {subject(item): item for item in items}
    if not wanted:
        return
    quiet = []
    for name in sorted(wanted.keys() & open_subjects(connection, ALERT)):
        product_id, variant_id = wanted[name]
        same = sa.and_(_LINES.product_id == product_id, _LINES.variant_id.is_not_distinct_from(variant_id))
        if not connection.scalar(sa.select(sa.exists().where(same, _LINES.backordered > 0))):
            quiet.append(name)
    clear_alerts(connection, kind=ALERT, subjects=quiet)


def clear_old_alerts(database: Database) -> None:
    """Closes every alert of an item that no order waits for, such as one whose id the shop has reused."""
    with database.reading() as connection:
        subjects = open_subjects(connection, ALERT)
    if subjects:
        with database.writing() as connection:
            named = [one.split(":") for one in subjects]
            items = {(int(product), int(variant) or None) for _, product, variant in named}
            clear_oversold_alert(connection, items)
