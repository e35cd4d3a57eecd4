"""Order status as one state machine: forward only, late and illegal moves noted and ignored.

Marketplace and shop use the same five states; the shop writes a refund as a payment status.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.ledger import StockMove, move_stock
from midas_pipelines.store.tables import marketplace_order_lines, marketplace_orders, order_processing_logs
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import lock_orders, order_status, set_order_status
from midas_pipelines.storefront.stock import lock_stock
from midas_pipelines.sync.orders.sales import Sale

ORDER_OF_EVENTS = (OrderStatus.PENDING, OrderStatus.PROCESSING, OrderStatus.SHIPPED, OrderStatus.DELIVERED)


class Step(StrEnum):
    """What a reported status means for an order that stands somewhere already."""

    SAME = "same"
    FORWARD = "forward"
    LATE = "late"  # it was there before, or has passed it
    ILLEGAL = "illegal"  # no way leads there; a person decides


def step(standing: OrderStatus, reported: OrderStatus) -> Step:
    """How `reported` follows `standing`. Steps in between may have been missed: pending -> delivered is forward."""
    if reported is standing:
        return Step.SAME
    if standing is OrderStatus.REFUNDED:
        return Step.LATE
    if reported is OrderStatus.REFUNDED:
        return Step.FORWARD
    if standing is OrderStatus.CANCELLED:
        shipped = reported in (OrderStatus.SHIPPED, OrderStatus.DELIVERED)
        return Step.ILLEGAL if shipped else Step.LATE
    if reported is OrderStatus.CANCELLED:
        open_still = standing in (OrderStatus.PENDING, OrderStatus.PROCESSING)
        return Step.FORWARD if open_still else Step.ILLEGAL
    ahead = ORDER_OF_EVENTS.index(reported) > ORDER_OF_EVENTS.index(standing)
    return Step.FORWARD if ahead else Step.LATE


def local_status(status: OrderStatus) -> str:
    """The shop's word for a marketplace status; a refunded order counts as cancelled there."""
    return "cancelled" if status is OrderStatus.REFUNDED else status.value


def payment_status(status: OrderStatus, *, paid: bool) -> str:
    """The shop's payment status for a marketplace order."""
    if status is OrderStatus.REFUNDED:
        return "refunded"
    return "paid" if paid else "pending"


def follow_statuses(
    connection: sa.Connection,
    sales: Sequence[Sale],
    run_id: str | None,
    *,
    selling: Collection[ItemKey] = (),
) -> int:
    """Moves known orders to the status the marketplace reports, where that is forward; returns how many moved.

    Locks in one order, so that importers do not wait for one another in a ring: the shop's orders, ours, then the
    stock of all lines, together with that of the items that the caller is about to sell.
    """
    if not sales:
        return 0
    reported = {sale.order_id: sale for sale in sales}
    table = marketplace_orders.c
    query = (
        sa.select(table.id, table.marketplace_order_id, table.local_order_id, table.status)
        .where(table.marketplace_order_id.in_(reported), table.local_order_id.is_not(None))
        .order_by(table.id)
    )
    behind = [
        row for row in connection.execute(query) if reported[row.marketplace_order_id].status != row.status
    ]
    if not behind:
        return 0
    lock_orders(connection, [row.local_order_id for row in behind])
    ids = [row.id for row in behind]
    rows = connection.execute(query.where(table.id.in_(ids)).with_for_update()).all()
    lock_stock(connection, {*selling, *_items_taken(connection, ids)})
    return sum(_follow(connection, row, reported[row.marketplace_order_id], run_id) for row in rows)


def _items_taken(connection: sa.Connection, order_rows: Sequence[int]) -> list[ItemKey]:
    """The items that these orders have taken and may give back."""
    table = marketplace_order_lines.c
    query = sa.select(table.product_id, table.variant_id).where(
        table.order_id.in_(order_rows), table.taken > table.given_back
    )
    return [(row.product_id, row.variant_id) for row in connection.execute(query)]


def _follow(connection: sa.Connection, row: sa.Row[Any], sale: Sale, run_id: str | None) -> bool:
    standing = OrderStatus(row.status)
    match step(standing, sale.status):
        case Step.FORWARD:
            _advance(connection, row, standing, sale, run_id)
            return True
        case Step.ILLEGAL:
            _note_once(connection, row, standing, sale.status, run_id)
    return False


def _advance(
    connection: sa.Connection, row: sa.Row[Any], standing: OrderStatus, sale: Sale, run_id: str | None
) -> None:
    # Ours first: the trigger on the shop's order then sees that 4Seller knows this status already.
    values = {
        "status": sale.status.value,
        "status_word": sale.status_word,
        "source_updated_at": sale.updated_at,
    }
    connection.execute(sa.update(marketplace_orders).where(marketplace_orders.c.id == row.id).values(values))
    note = f"4Seller: {sale.status_word}"
    refunded = sale.status is OrderStatus.REFUNDED
    goods_left = sale.shipped or standing in (OrderStatus.SHIPPED, OrderStatus.DELIVERED)
    local = order_status(connection, row.local_order_id)
    if local is None:
        note += "; the shop has deleted its order"
    elif refunded and goods_left:  # the sale stands as it was, the money went back
        set_order_status(
            connection, row.local_order_id, status=standing.value, notes=note, payment_status="refunded"
        )
    elif local != local_status(sale.status):
        payment = "refunded" if refunded else None
        set_order_status(
            connection,
            row.local_order_id,
            status=local_status(sale.status),
            notes=note,
            payment_status=payment,
        )
    log_step(
        connection,
        row.marketplace_order_id,
        sale.status.value,
        f"{standing.value} → {sale.status.value}. {note}.",
        run_id,
    )
    if sale.status is OrderStatus.CANCELLED or (refunded and not goods_left):
        give_back(connection, row.id, row.marketplace_order_id, sale.status.value, run_id)


def give_back(
    connection: sa.Connection, order_row: int, order_id: str, cause: str, run_id: str | None
) -> None:
    """Returns to stock what each line took and has not given back yet; twice gives back once."""
    table = marketplace_order_lines.c
    query = sa.select(marketplace_order_lines).where(
        table.order_id == order_row, table.taken > table.given_back
    )
    lines = connection.execute(query.order_by(table.line).with_for_update()).all()
    moves = [
        StockMove(
            (line.product_id, line.variant_id),
            line.taken - line.given_back,
            "fourseller",
            cause,
            f"fourseller:{order_id}:{line.line}",
        )
        for line in lines
    ]
    for line, moved in zip(lines, move_stock(connection, moves), strict=True):
        statement = sa.update(marketplace_order_lines).where(table.id == line.id)
        connection.execute(statement.values(given_back=line.given_back + moved))
        log_step(
            connection,
            order_id,
            "given_back",
            f"Line {line.line}, {line.sku}: {moved} back in stock.",
            run_id,
        )


def log_step(connection: sa.Connection, order_id: str, name: str, detail: str, run_id: str | None) -> None:
    """Adds one step to the order's story."""
    row = {"marketplace_order_id": order_id, "step": name, "detail": detail, "run_id": run_id}
    connection.execute(sa.insert(order_processing_logs).values(row))


def _note_once(
    connection: sa.Connection,
    row: sa.Row[Any],
    standing: OrderStatus,
    reported: OrderStatus,
    run_id: str | None,
) -> None:
    detail = f"4Seller reports {reported.value}, but the order is {standing.value}: a person has to decide."
    logs = order_processing_logs.c
    known = sa.select(logs.id).where(
        logs.marketplace_order_id == row.marketplace_order_id, logs.detail == detail
    )
    if connection.execute(known.limit(1)).first() is None:
        log_step(connection, row.marketplace_order_id, "refused_transition", detail, run_id)
