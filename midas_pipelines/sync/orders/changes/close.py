"""Ends an order after a cancellation or a refund: by the marketplace, by the shop, or by resolving a conflict."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.status import OrderStatus, read_status
from midas_pipelines.notify.alerts import ENDED as ENDED_ALERT
from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.orders import order_payment, order_status, set_order_status
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.customer_mail.queue import queue_mail
from midas_pipelines.sync.orders.model.lines import OrderException, read_exceptions
from midas_pipelines.sync.orders.model.order_log import OrderContext, set_exceptions, set_order
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.model.state_machine import ENDED, OPEN, SHIPPED_STATES, TABLE, StatusDecision
from midas_pipelines.sync.orders.stock.allocate import allocate_again, release_units, restock_units
from midas_pipelines.sync.orders.stock.units import is_fully_shipped, left_to_ship, order_lines


def end_order(
    connection: sa.Connection,
    row: sa.Row[Any],
    status: OrderStatus,
    order_context: OrderContext,
    *,
    all_shipped: bool,
) -> None:
    """Releases the units that have not shipped, and drops the exceptions of lines that will not ship.

    Args:
        connection: holds the order's rows, and the stock of its items.
        row: our row of the order.
        status: cancelled or refunded.
        order_context: writes the order log.
        all_shipped: whether everything has shipped, with or without a shipment on record.
    """
    if row.resolution != "cancelled":  # which has released the units already
        release_units(connection, row, status.value, order_context, all_shipped=all_shipped)
    if not all_shipped:
        of_order = sa.update(marketplace_order_lines).where(marketplace_order_lines.c.order_id == row.id)
        connection.execute(of_order.values(exception=None))
        set_exceptions(
            connection, row.id, drop=(OrderException.UNMAPPED.value, OrderException.QUANTITY.value)
        )
    if status is OrderStatus.CANCELLED:
        queue_mail(connection, row, "cancelled", order_context.settings)


def warn_packers(connection: sa.Connection, row: sa.Row[Any], status: OrderStatus, shop: str | None) -> None:
    """Alerts staff that the marketplace ended an order that somebody may be packing.

    Args:
        connection: holds the order's rows, not updated yet.
        row: our row of the order.
        status: cancelled or refunded.
        shop: the status of the shop's order.
    """
    payment = order_payment(connection, row.local_order_id)
    if shop not in OPEN or payment == "refunded" or (shop == OrderStatus.PENDING and payment != "paid"):
        return
    if not any(left_to_ship(line) for line in order_lines(connection, row.id)):
        return
    name = row.marketplace_order_id
    text = f"Order {name} is {status.value} on the marketplace, and was {shop} and {payment} here: do not ship it."
    raise_alert(connection, kind=ENDED_ALERT, subject=f"order:{name}"[:200], text=text)


def refund_shop_order(
    connection: sa.Connection, row: sa.Row[Any], shop: str, *, shipped_as: OrderStatus | None, notes: str
) -> None:
    """Marks the shop's order as refunded: cancelled if nothing has shipped, else shipped.

    Args:
        connection: holds the order's rows; our row is `refunded` already, so that the trigger marks nothing to push.
        row: our row of the order.
        shop: the status of the shop's order.
        shipped_as: the status that says that goods of it have left; None when they have not.
        notes: for the shop's status history.
    """
    if shipped_as is not None:
        status = shipped_as.value if shop in OPEN else shop
    else:  # a shop may have a status of its own for it
        status = shop if shop == OrderStatus.REFUNDED else OrderStatus.CANCELLED.value
    set_order_status(connection, row.local_order_id, status=status, notes=notes, payment_status="refunded")


def ship_refunded_order(
    connection: sa.Connection, row: sa.Row[Any], status: OrderStatus, order_context: OrderContext
) -> bool:
    """Takes the stock of a refunded order again, once, when a late report says that it had shipped; True when it did.

    Messages arrive in any order: the result is that of the report coming before the refund.

    Args:
        connection: holds the order's rows, and the stock of its items.
        row: our row of the order, which is refunded.
        status: the late one, shipped or delivered.
        order_context: writes the order log.
    """
    if row.resolution == "cancelled":  # a person decided that the goods are here
        return False
    shop = order_status(connection, row.local_order_id)
    current = OrderStatus(shop) if shop in SHIPPED_STATES else OrderStatus.PENDING
    changed = shop is not None and TABLE[current, status] is StatusDecision.FOLLOW
    if changed:
        notes = f"4Seller: {status.value}, before the refund"
        set_order_status(connection, row.local_order_id, status=status.value, notes=notes)
        set_order(connection, row.id, shop_status_since=None)  # set by the trigger on the update above
    unmapped = [
        line.id for line in order_lines(connection, row.id) if not line.product_id and line.quantity > 0
    ]
    if changed and unmapped:
        lines = sa.update(marketplace_order_lines).where(marketplace_order_lines.c.id.in_(unmapped))
        connection.execute(lines.values(exception=OrderException.UNMAPPED.value))
        set_exceptions(connection, row.id, add=(OrderException.UNMAPPED.value,))
    return allocate_again(connection, row, order_context, status.value, whole=False) > 0 or changed


ALERT = "order_conflict"
_ORDERS = marketplace_orders.c


class NoConflict(WrongInput):
    """The order is in no conflict; the message says what to do instead."""


def find_conflict(
    connection: sa.Connection,
    row: sa.Row[Any],
    sale: Sale,
    step: str,
    detail: str,
    order_context: OrderContext,
) -> None:
    """Raises a conflict about what the marketplace reports, once for each report."""
    given, asked = sale.updated_at, row.disputed_at
    if given is None or (asked is not None and given <= asked):
        new = given is None and order_context.log_once(connection, row.marketplace_order_id, step, detail)
    else:
        order_context.log(connection, row.marketplace_order_id, step, detail)
        set_order(connection, row.id, disputed_at=given)
        new = True
    if new:
        raise_conflict(connection, row, detail)


def raise_conflict(connection: sa.Connection, order: sa.Row[Any], detail: str) -> None:
    """Marks the order and alerts staff, once for each conflict."""
    set_exceptions(connection, order.id, add=(OrderException.CONFLICT.value,))
    set_order(connection, order.id, resolution=None)
    order_id = order.marketplace_order_id
    clear_alert(connection, kind=ENDED_ALERT, subject=_subject(order_id))  # superseded by this alert
    raise_alert(connection, kind=ALERT, subject=_subject(order_id), text=f"Order {order_id}: {detail}")


def end_conflict(connection: sa.Connection, order: sa.Row[Any]) -> None:
    """Ends the conflict: both sides agree again, or a person has decided."""
    set_exceptions(connection, order.id, drop=(OrderException.CONFLICT.value,))
    clear_alert(connection, kind=ALERT, subject=_subject(order.marketplace_order_id))


def resolve_conflict(
    connection: sa.Connection,
    order: sa.Row[Any],
    decision: str,
    order_context: OrderContext,
    *,
    restock: bool,
) -> None:
    """Resolves a conflict as a person decided.

    Args:
        connection: a writing transaction.
        order: our row, locked.
        decision: `shipped` (the sale is valid) or `cancelled` (it is not).
        order_context: writes the order log.
        restock: for `cancelled`: whether the shipped goods are back in stock.

    Raises:
        NoConflict: the order is in no conflict.
    """
    if OrderException.CONFLICT.value not in read_exceptions(order.exception):
        raise NoConflict(
            f"Order {order.marketplace_order_id} is in no conflict: nothing was changed. "
            "`midas orders dismiss` ends other exceptions that a person has looked at."
        )
    goods = ", with the goods back in stock" if restock else ""
    detail = f"An operator resolved the conflict: the order counts as {decision}{goods}."
    order_context.log(connection, order.marketplace_order_id, "settled", detail)
    if decision == "cancelled":
        _cancel(connection, order, order_context, restock=restock)
    else:
        _uphold(connection, order, order_context)
    # The decision covers all reports so far; a later one raises a new conflict.
    set_order(
        connection, order.id, resolution=decision, disputed_at=order.source_updated_at or order.disputed_at
    )
    end_conflict(connection, order)


def _cancel(
    connection: sa.Connection, order: sa.Row[Any], order_context: OrderContext, *, restock: bool
) -> None:
    """Cancels the sale: releases units that have not shipped, and restocks shipped ones only if they are back."""
    shop = order_status(connection, order.local_order_id)
    allocate_again(connection, order, order_context, shop, whole=False)
    all_shipped = order.status in ENDED or is_fully_shipped(connection, order, shop)
    word = read_status(order.status_word)
    there = word.status if word.known else OrderStatus(order.status)
    pending = (
        shop is not None and there in OPEN and order.status not in (*SHIPPED_STATES, OrderStatus.REFUNDED)
    )
    if pending:
        set_order(connection, order.id, status=there.value)
    elif order.status in OPEN:
        set_order(connection, order.id, status=OrderStatus.CANCELLED.value)
    if shop not in (None, "cancelled"):
        set_order_status(
            connection, order.local_order_id, status="cancelled", notes="Resolved by the operator"
        )
    set_order(
        connection,
        order.id,
        shop_status_since=utc_now() if pending else None,
        push_after=None,
        push_attempts=0,
    )
    end_order(connection, order, OrderStatus.CANCELLED, order_context, all_shipped=all_shipped)
    if restock:
        restock_units(connection, order, "cancelled", order_context, all_shipped=all_shipped)


def _uphold(connection: sa.Connection, order: sa.Row[Any], order_context: OrderContext) -> None:
    """Upholds the sale: allocates its stock again, and has the shop's status pushed to 4Seller."""
    if order.status == OrderStatus.CANCELLED:
        set_order(connection, order.id, status=OrderStatus.PROCESSING.value)
    shop = order_status(connection, order.local_order_id)
    refunded = order.status == OrderStatus.REFUNDED  # a refunded order ships no more
    allocate_again(connection, order, order_context, shop, whole=not refunded)
    lines = order_lines(connection, order.id)
    everything_shipped = not any(left_to_ship(line) or line.backordered for line in lines)
    wanted = "shipped" if everything_shipped or refunded else "processing"
    if order.status in SHIPPED_STATES:
        wanted = order.status
    if shop is not None and shop not in SHIPPED_STATES and shop != wanted:
        set_order_status(connection, order.local_order_id, status=wanted, notes="Resolved by the operator")
    since = None if refunded else utc_now()
    set_order(connection, order.id, shop_status_since=since, push_after=None, push_attempts=0)


def _subject(order_id: str) -> str:
    return f"order:{order_id}"[:200]
