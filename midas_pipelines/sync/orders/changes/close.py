"""Ends an order after a cancellation or a refund: by the marketplace, by the shop, or by resolving a conflict."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.notify.alerts import ENDED, raise_alert
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.storefront.orders import order_payment, order_status, set_order_status
from midas_pipelines.sync.orders.customer_mail.queue import queue_mail
from midas_pipelines.sync.orders.model.exceptions import OrderException
from midas_pipelines.sync.orders.model.order_log import OrderContext, set_exceptions, set_order
from midas_pipelines.sync.orders.model.state_machine import OPEN, SHIPPED_STATES, TABLE, StatusDecision
from midas_pipelines.sync.orders.model.units import left_to_ship
from midas_pipelines.sync.orders.stock.allocate import allocate_again
from midas_pipelines.sync.orders.stock.release import order_lines, release_units


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
    raise_alert(connection, kind=ENDED, subject=f"order:{name}"[:200], text=text)


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
