"""Marks what needs a person: contradictions about an end, orders that cannot be imported, unknown statuses; and refunded orders."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OPEN, SHIPPED_STATES, TABLE, OrderStatus, StatusDecision
from midas_pipelines.notify.alerts import ENDED as ENDED_ALERT
from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.payload_vault import ERASED_PAYLOAD
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.writing import insert_new
from midas_pipelines.sync.orders.model.lines import CHANNEL, OrderException
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder
from midas_pipelines.sync.orders.model.sale import Sale, short_id
from midas_pipelines.sync.orders.stock import units
from midas_pipelines.text import writable_in

ALERT, QUARANTINED, UNKNOWN_WORD = "order_conflict", "order_quarantined", "unknown_status"
_ORDERS = marketplace_orders.c


def refund_shop_order(order: StoredOrder, shop: str, *, shipped_as: OrderStatus | None, notes: str) -> None:
    """Marks the shop's order, of that status, as refunded: cancelled if nothing has shipped, else `shipped_as`."""
    if shipped_as is not None:
        status = shipped_as.value if shop in OPEN else shop
    else:  # a shop may have a status of its own for it
        status = shop if shop == OrderStatus.REFUNDED else OrderStatus.CANCELLED.value
    order.move(status, notes, payment_status="refunded")


def ship_refunded_order(order: StoredOrder, status: OrderStatus) -> bool:
    """Takes the stock of a refunded order again, once, when a late report says that it had shipped; True when it did.

    Messages arrive in any order: the result is that of the report coming before the refund.
    """
    if order.resolution == "cancelled":  # a person decided that the goods are here
        return False
    shop = order.shop_status()
    current = OrderStatus(shop) if shop in SHIPPED_STATES else OrderStatus.PENDING
    changed = shop is not None and TABLE[current, status] is StatusDecision.FOLLOW
    if changed:
        order.move(status.value, f"4Seller: {status.value}, before the refund")
        order.set(shop_status_since=None)  # set by the trigger on the update above
    unmapped = [line.id for line in order.lines() if not line.product_id and line.quantity > 0]
    if changed and unmapped:
        lines = sa.update(marketplace_order_lines).where(marketplace_order_lines.c.id.in_(unmapped))
        order.connection.execute(lines.values(exception=OrderException.UNMAPPED))
        order.set_exceptions(add=(OrderException.UNMAPPED,))
    return units.allocate_again(order, status.value, whole=False) > 0 or changed


def find_conflict(order: StoredOrder, sale: Sale, step: str, detail: str) -> None:
    """Raises a conflict about what the marketplace reports, once for each report."""
    given, asked = sale.updated_at, order.disputed_at
    if given is None or (asked is not None and given <= asked):
        new = given is None and order.log_once(step, detail)
    else:
        order.log(step, detail)
        order.set(disputed_at=given)
        new = True
    if new:
        raise_conflict(order, detail)


def raise_conflict(order: StoredOrder, detail: str) -> None:
    """Marks the order and alerts staff, once for each conflict."""
    order.set_exceptions(add=(OrderException.CONFLICT,))
    order.set(resolution=None)
    order_id = order.marketplace_order_id
    clear_alert(order.connection, kind=ENDED_ALERT, subject=order.subject)  # superseded by this alert
    raise_alert(order.connection, kind=ALERT, subject=order.subject, text=f"Order {order_id}: {detail}")


def end_conflict(order: StoredOrder) -> None:
    """Ends the conflict: both sides agree again, or a person has decided."""
    order.set_exceptions(drop=(OrderException.CONFLICT,))
    clear_alert(order.connection, kind=ALERT, subject=order.subject)


def quarantine_order(
    database: Database, order_context: OrderContext, order_id: str, raw: Any, reason: str
) -> str | None:
    """Quarantines an order that cannot be imported, so that it is neither lost nor blocks others.

    Returns:
        `new` when it was not on record, `still` when it was quarantined before; None, with nothing written, when it is
        imported or dismissed.
    """
    name = short_id(order_id)
    row = {
        "channel": CHANNEL,
        "marketplace_order_id": name,
        "status": "pending",
        "outcome": "quarantined",
        "reason": reason,
        "payload": order_context.vault.seal(writable_in(raw)),
    }
    with database.writing() as connection:
        new = bool(insert_new(connection, marketplace_orders, [row], "id"))
        mine = (_ORDERS.channel == CHANNEL, _ORDERS.marketplace_order_id == name)
        kept = sa.case((_ORDERS.erased_at.is_not(None), ERASED_PAYLOAD), else_=row["payload"])
        renewed = sa.update(marketplace_orders).where(*mine, _ORDERS.outcome == "quarantined")
        if not new and connection.execute(renewed.values(reason=reason, payload=kept)).rowcount == 0:
            return None
        order_context.log_once(connection, name, "failed", reason)
        text = f"Order {name} is quarantined. {reason} Retry it with `midas orders retry` when the cause is fixed, or dismiss it."
        raise_alert(connection, kind=QUARANTINED, subject=f"order:{name}"[:200], text=text)
    return "new" if new else "still"


def end_quarantine(connection: sa.Connection, order_id: str) -> None:
    """Clears the alert of an order that is imported or dismissed."""
    clear_alert(connection, kind=QUARANTINED, subject=f"order:{order_id}"[:200])


def alert_unknown_status(connection: sa.Connection, word: str, order_id: str) -> None:
    """Alerts staff to a status word that is not in our table, once for each word."""
    text = (
        f"Order {order_id}: 4Seller calls its status '{word}', which is unknown, so it counts as pending. "
        "Look at it on 4Seller; end it with `midas orders dismiss` when you have."
    )
    raise_alert(connection, kind=UNKNOWN_WORD, subject=f"word:{word}"[:200], text=text)


def clear_unknown_status(connection: sa.Connection, word: str | None) -> None:
    """Closes the alert of a status word when no order with it has the exception `unknown_status`."""
    unseen = sa.select(_ORDERS.id).where(
        _ORDERS.exception.is_not(None),
        _ORDERS.exception.contains(OrderException.STATUS),
        _ORDERS.status_word == word,
    )
    if word is not None and connection.execute(unseen.limit(1)).first() is None:
        clear_alert(connection, kind=UNKNOWN_WORD, subject=f"word:{word}"[:200])
