"""What needs a person: conflicts of the two sides and their resolution, quarantined orders, unknown status words, exceptions that
are dismissed; and the refunds that one side reports late."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller import status as statuses
from midas_pipelines.fourseller.status import ENDED, OPEN, SHIPPED_STATES, OrderStatus
from midas_pipelines.notify import alerts
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.payload_vault import ERASED_PAYLOAD
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import Cause, blame, insert_new
from midas_pipelines.sync.orders.customer_mail import queue_status_mail
from midas_pipelines.sync.orders.model.lines import CHANNEL, SEEN_BY_A_PERSON, OrderException, read_exceptions
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder
from midas_pipelines.sync.orders.model.sale import Sale, short_id
from midas_pipelines.sync.orders.stock import units
from midas_pipelines.text import writable_in

ALERT, QUARANTINED, UNKNOWN_WORD = "order_conflict", "order_quarantined", "unknown_status"
_ORDERS, _LINES = marketplace_orders.c, marketplace_order_lines.c


def refund_shop_order(order: StoredOrder, shop: str, *, shipped_as: OrderStatus | None, notes: str) -> None:
    """Marks the shop's order, of that status, as refunded: cancelled if nothing has shipped, else `shipped_as`."""
    if shipped_as is not None:
        status = shipped_as.value if shop in OPEN else shop
    else:  # a shop may have a status of its own for it
        status = shop if shop == OrderStatus.REFUNDED else OrderStatus.CANCELLED.value
    order.move(status, notes, payment="refunded")


def ship_refunded_order(order: StoredOrder, status: OrderStatus) -> bool:
    """Takes the stock of a refunded order again, once, when a late report says that it had shipped, as if the report had come
    before the refund; True when it did."""
    if order.resolution == "cancelled":  # a person decided that the goods are here
        return False
    shop = order.shop_status()
    current = OrderStatus(shop) if shop in SHIPPED_STATES else OrderStatus.PENDING
    changed = shop is not None and statuses.TABLE[current, status] is statuses.StatusDecision.FOLLOW
    if changed:
        order.move(status.value, f"4Seller: {status.value}, before the refund")
        order.set(shop_status_since=None)  # set by the trigger on the update above
        unmapped = (_LINES.order_id == order.id, _LINES.product_id.is_(None), _LINES.quantity > 0)
        lines = sa.update(marketplace_order_lines).where(*unmapped)
        order.connection.execute(lines.values(exception=OrderException.UNMAPPED))
        order.match_exceptions()
    return units.allocate_again(order, status.value, whole=False) > 0 or changed


def find_conflict(order: StoredOrder, sale: Sale, step: str, detail: str) -> None:
    """Raises a conflict about what the marketplace reports, once for each report."""
    given, asked = sale.updated_at, order.disputed_at
    if given is not None and (asked is None or given > asked):
        order.log(step, detail)
        order.set(disputed_at=given)
    elif given is not None or not order.log(step, detail, once=True):
        return
    raise_conflict(order, detail)


def raise_conflict(order: StoredOrder, detail: str) -> None:
    """Marks the order and alerts staff, once for each conflict."""
    order.set_exceptions(add=(OrderException.CONFLICT,))
    order.set(resolution=None)
    text = f"Order {order.marketplace_order_id}: {detail}"
    alerts.clear_alert(order.connection, kind=alerts.ENDED, subject=order.subject)  # superseded by this alert
    alerts.raise_alert(order.connection, kind=ALERT, subject=order.subject, text=text)


def end_conflict(order: StoredOrder) -> None:
    """Ends the conflict: both sides agree again, or a person has decided."""
    order.set_exceptions(drop=(OrderException.CONFLICT,))
    alerts.clear_alert(order.connection, kind=ALERT, subject=order.subject)


def resolve_conflict(order: StoredOrder, decision: str, *, restock: bool) -> None:
    """Resolves a conflict as a person decided: `shipped` (the sale is valid) or `cancelled` (it is not), where `restock` says
    whether the shipped goods are back. Raises WrongInput where the order is in no conflict."""
    if not order.has(OrderException.CONFLICT):
        why = "nothing was changed. `midas orders dismiss` ends other exceptions that a person has looked at."
        raise WrongInput(f"Order {order.marketplace_order_id} is in no conflict: {why}")
    goods = ", with the goods back in stock" if restock else ""
    order.log("resolved", f"An operator resolved the conflict: the order counts as {decision}{goods}.")
    if decision == "cancelled":
        _cancel(order, restock=restock)
    else:
        _uphold(order)
    # The decision covers all reports so far; a later one raises a new conflict.
    order.set(resolution=decision, disputed_at=order.source_updated_at or order.disputed_at)
    end_conflict(order)


def _cancel(order: StoredOrder, *, restock: bool) -> None:
    """Cancels the sale: releases units that have not shipped, and restocks shipped ones only if they are back."""
    shop, word = order.shop_status(), statuses.read_status(order.status_word)
    units.allocate_again(order, shop, whole=False)
    all_shipped = order.status in ENDED or units.is_fully_shipped(order, shop)
    there = word.status if word.known else OrderStatus(order.status)
    pending = shop is not None and there in OPEN and order.status in (*OPEN, OrderStatus.CANCELLED)
    if pending or order.status in OPEN:
        order.set(status=there.value if pending else OrderStatus.CANCELLED.value)
    if shop not in (None, "cancelled"):
        order.move("cancelled", "Resolved by the operator")
    order.mark_for_push(utc_now() if pending else None)
    units.release_units(order, OrderStatus.CANCELLED, all_shipped=all_shipped)
    queue_status_mail(order, OrderStatus.CANCELLED)
    if restock:
        left = units.returnable(order, all_shipped=all_shipped)
        units.give_back(order, left, "cancelled", "operator", had_shipped=True)


def _uphold(order: StoredOrder) -> None:
    """Upholds the sale: allocates its stock again, and has the shop's status pushed to 4Seller."""
    if order.status == OrderStatus.CANCELLED:
        order.set(status=OrderStatus.PROCESSING.value)
    shop, refunded = order.shop_status(), order.status == OrderStatus.REFUNDED
    units.allocate_again(order, shop, whole=not refunded)  # a refunded order ships no more
    open_lines = any(units.left_to_ship(line) or line.backordered for line in order.lines())
    wanted = "processing" if open_lines and not refunded else "shipped"
    if order.status in SHIPPED_STATES:
        wanted = order.status
    if shop not in (None, *SHIPPED_STATES, wanted):
        order.move(wanted, "Resolved by the operator")
    order.mark_for_push(None if refunded else utc_now())


def undo_dismissal(order: StoredOrder, seen: Collection[str]) -> None:
    """Shows these exceptions of a locked order again, or quarantines it again."""
    if order.outcome == "dismissed":
        order.set(outcome="quarantined")
    else:
        order.set_exceptions(add=SEEN_BY_A_PERSON.intersection(seen))
    order.log("undone", f"An operator took a dismissal back: {', '.join(seen)}.")


def dismiss(order: StoredOrder) -> list[str]:
    """Dismisses the exceptions of an order that a person has looked at; returns them. Raises WrongInput where none can be."""
    name, current = order.marketplace_order_id, read_exceptions(order.exception)
    seen = ["quarantined"] if order.outcome == "quarantined" else sorted(current & SEEN_BY_A_PERSON)
    if not seen:
        rest = ", ".join(sorted(current)) or "nothing"
        raise WrongInput(
            f"Order {name}: {rest} waits on it. An unmapped line ends with `midas orders map`, a conflict with "
            "`midas orders resolve`, an oversold one when stock comes back."
        )
    if order.outcome == "quarantined":
        order.set(outcome="dismissed")
        end_quarantine(order.connection, name)
    order.set_exceptions(drop=seen)
    if OrderException.STATUS in seen:
        match_unknown_word(order.connection, order.status_word)
    order.log("dismissed", f"An operator has looked at it: {', '.join(seen)}.")
    return seen


def quarantine_order(
    database: Database, order_context: OrderContext, order_id: str, raw: Any, reason: str
) -> str | None:
    """Quarantines an order that cannot be imported, so that it is neither lost nor blocks others; returns `new` or `still`,
    or `busy` where its row is locked. One that is imported or dismissed stays as it is: None."""
    name, payload = short_id(order_id), order_context.vault.seal(writable_in(raw))
    row = {"channel": CHANNEL, "marketplace_order_id": name, "status": "pending", "outcome": "quarantined"}
    row |= {"reason": reason, "payload": payload}
    try:
        with database.writing() as connection:
            new = insert_new(connection, marketplace_orders, [row], "id")
            mine = (_ORDERS.channel == CHANNEL, _ORDERS.marketplace_order_id == name)
            kept = sa.case((_ORDERS.erased_at.is_not(None), ERASED_PAYLOAD), else_=payload)
            renewed = sa.update(marketplace_orders).where(*mine, _ORDERS.outcome == "quarantined")
            if not new and connection.execute(renewed.values(reason=reason, payload=kept)).rowcount == 0:
                return None
            order_context.log(connection, name, "failed", reason, once=True)
            text = f"Order {name} is quarantined. {reason} Retry it with `midas orders retry` when the cause is fixed, or dismiss it."
            alerts.raise_alert(connection, kind=QUARANTINED, subject=f"order:{name}"[:200], text=text)
    except sa.exc.DBAPIError as error:
        if blame(error) is not Cause.BUSY:
            raise
        return "busy"
    return "new" if new else "still"


def end_quarantine(connection: sa.Connection, order_id: str) -> None:
    """Clears the alert of an order that is imported or dismissed."""
    alerts.clear_alert(connection, kind=QUARANTINED, subject=f"order:{order_id}"[:200])


def alert_unknown_word(connection: sa.Connection, word: str, order_id: str) -> None:
    """Alerts staff to an order's status word that is not in our table, once for each word."""
    text = _unknown_word(word, order_id)
    alerts.raise_alert(connection, kind=UNKNOWN_WORD, subject=f"word:{word}", text=text)


def match_unknown_word(connection: sa.Connection, word: str | None) -> None:
    """Has the alert about a status word, if it is open, name an order with it and the exception `unknown_status`; closes it
    when there is none."""
    marked = sa.and_(_ORDERS.exception.is_not(None), _ORDERS.exception.contains(OrderException.STATUS))
    query = sa.select(_ORDERS.marketplace_order_id).where(marked, _ORDERS.status_word == word).limit(1)
    name = None if word is None else connection.scalar(query)
    subject = f"word:{word}"
    texts = {} if name is None else {subject: _unknown_word(word, name)}
    alerts.match_alerts(connection, kind=UNKNOWN_WORD, texts=texts, known={subject}, only_known=True)


def _unknown_word(word: str | None, order_id: str) -> str:
    return (
        f"Order {order_id}: 4Seller calls its status '{word}', which is unknown, so it counts as pending. "
        "Look at it on 4Seller; end it with `midas orders dismiss` when you have."
    )
