"""Applies inbound updates to known orders: status changes, edits, and fields that earlier messages left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import ADDRESS
from midas_pipelines.fourseller.status import (
    ENDED,
    OPEN,
    SHIPPED_STATES,
    TABLE,
    OrderStatus,
    StatusDecision,
    decide,
)
from midas_pipelines.notify import alerts
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.storefront import orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.changes import close
from midas_pipelines.sync.orders.changes.edits import apply_edit, raise_edit_conflict, update_exceptions
from midas_pipelines.sync.orders.changes.erase import without_personal_data
from midas_pipelines.sync.orders.changes.shipments import count_late_shipments
from midas_pipelines.sync.orders.customer_mail import queue_mail
from midas_pipelines.sync.orders.model.lines import OrderException, shop_origin
from midas_pipelines.sync.orders.model.order_log import UNANSWERED, StoredOrder
from midas_pipelines.sync.orders.model.sale import PARTS, Content, Sale, changed_parts, some_parts
from midas_pipelines.sync.orders.stock import units


@dataclass(frozen=True)
class _News:
    """What a sale has that its known order lacks."""

    later: bool  # than the state on record
    content: Content  # to apply: all of it where it is later, else the parts that no message has had
    parts: set[str]  # the parts of the order that it changes
    missing: dict[str, Any]  # empty columns of our row that it can fill
    late_address: bool  # it is older, with another buyer or address, parts of which the newer one may lack


def _news(order: StoredOrder, sale: Sale) -> _News:
    """A poll after the state on record is later whatever its date: it reads what 4Seller has now. An event is judged by its
    date."""
    known, given = order.source_updated_at, sale.updated_at
    if sale.read_at is not None:
        later = bool(sale.read_at >= (order.content_at or order.imported_at))
    else:
        later = known is None or (given is not None and given >= known)
    other = changed_parts(sale.content, order.content)
    content = sale.content if later else some_parts(sale.content, set(PARTS) - order.content.keys())
    reported = {"currency": sale.currency, "sales_channel": sale.sales_channel, "placed_at": sale.placed_at}
    missing = {name: value for name, value in reported.items() if value and getattr(order, name) is None}
    late_address = not later and bool({"buyer", "address"} & other)
    return _News(later, content, changed_parts(content, order.content), missing, late_address)


def has_news(order: StoredOrder, sale: Sale) -> bool:
    """Whether the sale changes the known order; locks nothing."""
    known, news = order.source_updated_at, _news(order, sale)
    return (
        (sale.known_status and sale.status != order.status)
        or sale.status_word not in ("", order.status_word)
        or sale.unreadable_reason is not None
        or (sale.updated_at is not None and (known is None or sale.updated_at > known))
        or bool(news.parts or news.missing or news.late_address)
    )


def apply_update(order: StoredOrder, sale: Sale) -> bool:
    """Updates a known order to the content and the status that the marketplace reports; True when it changed."""
    if order.erased_at is not None:
        sale = without_personal_data(order.connection, sale)
    edited, before, news = False, order, _news(order, sale)
    if sale.unreadable:
        order.log_once("unreadable", sale.unread)
    if news.missing:
        order = _fill_missing_fields(order, news.missing)
    if sale.unreadable_reason is not None:
        raise_edit_conflict(order, sale.unreadable_reason)
    elif news.parts:
        shipped = units.has_shipped(order, order.shop_status())
        open_still = order.status in OPEN and not shipped
        _change_address(order, sale, news.parts if open_still else news.parts - order.content.keys())
        edited = apply_edit(order, replace(sale, content=news.content), news.parts, shipped=shipped)
    if order.currency != before.currency:  # its smallest unit decides whether the total adds up
        update_exceptions(order, sale, ("amounts",))
    moved = sale.known_status and _follow_status(order, sale, news.later)
    _record_status_word(order, sale, moved=moved, later=news.later)
    filled = order is not before
    if news.late_address:
        filled |= _change_address(order, sale, {"buyer", "address"}, late=True)
    if (
        filled or "buyer" in news.parts
    ) and order.context.sends_mail:  # the first message may have lacked these
        now, shop = order.again(), order.shop_status()
        if shop not in (None, *ENDED) and now.status in OPEN and not units.has_shipped(now, shop):
            queue_mail(now, "received")
    return moved or edited or filled


def _fill_missing_fields(order: StoredOrder, missing: dict[str, Any]) -> StoredOrder:
    """Fills in missing fields, which no message however old can contradict; returns the order with them."""
    order.set(**missing)
    named = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in missing.items())
    order.log("learned", f"The marketplace has now reported: {named}.")
    now = order.again()
    if order.local_order_id is not None:
        before, after = (  # the columns of the shop's order that depend on these fields
            shop_origin(one.marketplace_order_id, one.sales_channel, one.currency) for one in (order, now)
        )
        orders.describe_order(order.connection, order.local_order_id, before=before, now=after)
        if "placed_at" in missing:
            orders.date_order(order.connection, order.local_order_id, now.placed_at)
    return now


def _change_address(order: StoredOrder, sale: Sale, parts: set[str], *, late: bool = False) -> bool:
    """Updates buyer and address as far as the message has them; True when it changed something. A `late` message, older
    than what is known, only fills in what is missing, as if it had come first. An erased buyer stays erased."""
    said = (sale.buyer if "buyer" in parts else {}) | (sale.ship_to if "address" in parts else {})
    readable = said and order.erased_at is None
    known = orders.order_address(order.connection, order.local_order_id) if readable else None
    if known is None:
        return False
    address = _said_over(known, said)
    if late:
        address = known | {name: one for name, one in _said_over(said, known).items() if one is not None}
    if address == known:
        return False
    orders.update_order(
        order.connection, order.local_order_id, shipping_address=address, billing_address=address
    )
    if late:
        order.log("learned", "An older message has filled in the buyer or the address.")
    else:
        what = " and ".join(part for part in ("buyer", "address") if part in parts)
        order.log("edited", f"The marketplace changed the {what}.")
    return True


def _said_over(known: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """A buyer or an address, updated from a later message: fields that it lacks stay, unless it has another street, which
    makes it another address."""
    news = {name: value for name, value in said.items() if value is not None}
    if news.get("line1", known.get("line1")) != known.get("line1"):
        news = {name: said.get(name) for name in ADDRESS} | news
    return known | news


def _follow_status(order: StoredOrder, sale: Sale, later: bool) -> bool:
    current = OrderStatus(order.status)
    match TABLE[current, sale.status]:
        case StatusDecision.FOLLOW:
            return _advance(order, current, sale)
        case StatusDecision.CONFLICT:
            detail = f"4Seller reports {sale.status.value}, but the order is {current.value}: a person has to decide."
            close.find_conflict(order, sale, "refused_transition", detail)
        case StatusDecision.PUSH if current is OrderStatus.CANCELLED and sale.status in OPEN and later:
            detail = f"4Seller reports {sale.status.value} again, after the order was cancelled: resolve it."
            close.find_conflict(order, sale, "conflict", detail)
            order.set(status_word=sale.status_word)
        case StatusDecision.PUSH if later and order.has_step(UNANSWERED):
            # Our call may have reached 4Seller after a newer one: the newer status is pushed again, once.
            detail = f"4Seller went back from {current.value} to {sale.status.value}, as a late call of ours would: pushed again."
            new = order.log_once("late", detail)
            if new:
                order.set(status=sale.status.value, status_word=sale.status_word)
                _mark_for_push(order)
            return new
        case StatusDecision.PUSH:
            detail = f"4Seller reports {sale.status.value} again or late; the order stays {current.value}."
            order.log_once("late", detail)
            if current is OrderStatus.REFUNDED and sale.status in SHIPPED_STATES:
                shipped = close.ship_refunded_order(order, sale.status)
                _end_conflict_if_over(order, current)
                return shipped
        case _:
            asked = order.disputed_at
            if order.exception and sale.updated_at and not (asked and sale.updated_at <= asked):
                _end_conflict_if_over(order, current)
                if decide(order.shop_status(), current) is StatusDecision.PUSH:  # as a cancellation withdrawn
                    _mark_for_push(order)
    return False


def _end_conflict_if_over(order: StoredOrder, current: OrderStatus) -> None:
    """Ends the order's conflict if the two sides no longer contradict each other."""
    shop = order.shop_status()
    if not order.has(OrderException.CONFLICT) or (current in ENDED and units.shipped_after_end(order, shop)):
        return
    if decide(shop, current, shipped=units.has_shipped(order, shop)) is not StatusDecision.CONFLICT:
        close.end_conflict(order)


def _mark_for_push(order: StoredOrder) -> None:
    order.mark_for_push(order.shop_status_since or utc_now())


def _advance(order: StoredOrder, current: OrderStatus, sale: Sale) -> bool:
    """Follows the marketplace to a further status, unless a person has to decide; True when it did."""
    if units.shipments_on_record(order):
        count_late_shipments(order)
    shop, status = order.shop_status(), sale.status
    shipped = units.has_shipped(order, shop) or (status is OrderStatus.REFUNDED and sale.shipped)
    resolution = order.resolution if status is OrderStatus.CANCELLED else None
    reply = decide(shop, status, shipped=shipped, resolution=resolution)
    if reply is StatusDecision.CONFLICT and status is OrderStatus.CANCELLED:
        detail = (
            "The marketplace cancelled the order, but the shop has shipped it: get the shipment back or have the "
            "cancellation withdrawn, then resolve the order."
        )
        close.find_conflict(order, sale, "conflict", detail)
        order.set(status_word=sale.status_word)  # 4Seller's status until a person decides
        return False
    if status in ENDED:
        _warn_packers(order, status, shop)
    # Our row first: the trigger on the shop's order then sees that 4Seller has this status already.
    order.set(status=status.value, status_word=sale.status_word)
    note = f"4Seller: {sale.status_word}"
    if shop is None:
        note += "; the shop has deleted its order"
    elif status is OrderStatus.REFUNDED:
        shipped_as = (sale.shipped_as or OrderStatus.SHIPPED) if shipped else None
        close.refund_shop_order(order, shop, shipped_as=shipped_as, notes=note)
    elif reply is StatusDecision.FOLLOW:
        order.move(status.value, note)
        order.set(shop_status_since=None, push_after=None)
    elif reply is StatusDecision.PUSH:
        _mark_for_push(order)
        note += f"; the shop is further, at {shop}"
    order.log(status.value, f"{current.value} -> {status.value}. {note}.")
    if reply is StatusDecision.CONFLICT:
        detail = f"The shop has cancelled the order, and the marketplace reports {status.value}: resolve the order."
        close.find_conflict(order, sale, "conflict", detail)
    else:
        _end_conflict_if_over(order, status)
    if status in ENDED:
        left = current in SHIPPED_STATES or shop in SHIPPED_STATES
        all_shipped = left or (sale.shipped and not units.shipments_on_record(order))
        end_order(order, status, all_shipped=all_shipped)
        order.mark_for_push(None)
    if status is not OrderStatus.REFUNDED and orders.is_refunded(order.connection, order.local_order_id):
        _mark_for_push(order)  # the shop's refund is still to be pushed
    if status is OrderStatus.SHIPPED and not units.shipments_on_record(order):
        queue_mail(order, "shipped")
    return True


def _warn_packers(order: StoredOrder, status: OrderStatus, shop: str | None) -> None:
    """Alerts staff that the marketplace ended an order that somebody may be packing; `shop` is the shop's status."""
    payment = orders.order_payment(order.connection, order.local_order_id)
    if shop not in OPEN or payment == "refunded" or (shop == OrderStatus.PENDING and payment != "paid"):
        return
    if not any(units.left_to_ship(line) for line in order.lines()):
        return
    name = order.marketplace_order_id
    text = f"Order {name} is {status.value} on the marketplace, and was {shop} and {payment} here: do not ship it."
    alerts.raise_alert(order.connection, kind=alerts.ENDED, subject=order.subject, text=text)


def end_order(order: StoredOrder, status: OrderStatus, *, all_shipped: bool) -> None:
    """Releases the units of a cancelled or refunded order that have not shipped, and drops the exceptions of lines that
    will not ship; `all_shipped` also where no shipment is on record."""
    if order.resolution != "cancelled":  # which has released the units already
        units.release_units(order, status.value, all_shipped=all_shipped)
    if not all_shipped:
        of_order = sa.update(marketplace_order_lines).where(marketplace_order_lines.c.order_id == order.id)
        order.connection.execute(of_order.values(exception=None))
        order.set_exceptions(drop=(OrderException.UNMAPPED, OrderException.QUANTITY))
    if status is OrderStatus.CANCELLED and order.context.sends_mail:
        queue_mail(order, "cancelled")


def _record_status_word(order: StoredOrder, sale: Sale, *, moved: bool, later: bool) -> None:
    """Records the newest date and the marketplace's own status word: a known one if the order has that status, an unknown
    one always."""
    known = order.source_updated_at
    if sale.updated_at is not None and (known is None or sale.updated_at > known):
        order.set(source_updated_at=sale.updated_at)
    unknown = not sale.known_status and (sale.updated_at is None or later)
    if sale.status_word not in ("", order.status_word) and (moved or unknown or sale.status == order.status):
        order.set(status_word=sale.status_word)
        if not sale.known_status:
            order.set_exceptions(add=(OrderException.STATUS,))
            close.alert_unknown_status(order.connection, sale.status_word, sale.order_id)
        elif order.has(OrderException.STATUS):
            order.set_exceptions(drop=(OrderException.STATUS,))
            close.clear_unknown_status(order.connection, order.status_word)
        if not moved:
            order.log("status_word", f"4Seller calls it {sale.status_word} now.")
    if sale.paid and sale.known_status and sale.status is not OrderStatus.REFUNDED:
        orders.set_paid(order.connection, order.local_order_id)
