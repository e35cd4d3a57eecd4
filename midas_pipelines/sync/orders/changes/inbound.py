"""Applies inbound updates to known orders: status changes, edits, and fields that earlier messages left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from midas_pipelines.fourseller.models import ADDRESS
from midas_pipelines.fourseller.status import ENDED, OPEN, SHIPPED_STATES, TABLE, OrderStatus, decide
from midas_pipelines.fourseller.status import StatusDecision as Decision
from midas_pipelines.notify import alerts
from midas_pipelines.storefront import orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.changes import exceptions
from midas_pipelines.sync.orders.changes.edits import apply_edit, raise_edit_conflict, update_exceptions
from midas_pipelines.sync.orders.changes.shipments import count_late_shipments
from midas_pipelines.sync.orders.customer_mail import queue_mail, queue_status_mail
from midas_pipelines.sync.orders.model.lines import OrderException, shop_origin, without_personal_data
from midas_pipelines.sync.orders.model.order_log import UNANSWERED, StoredOrder
from midas_pipelines.sync.orders.model.sale import PARTS, Content, Sale, changed_parts, some_parts
from midas_pipelines.sync.orders.stock import units


@dataclass(frozen=True)
class _News:
    """What a sale has that its known order lacks."""

    newest: bool  # by its date
    later: bool  # than the state on record
    content: Content  # to apply: all of it where it is later, else the parts that no message has had
    parts: set[str]  # the parts of the order that it changes
    missing: dict[str, Any]  # empty columns of our row that it can fill
    late_address: bool  # it is older, with another buyer or address, parts of which the newer one may lack


def _news(order: StoredOrder, sale: Sale) -> _News:
    """A poll after the state on record is later whatever its date: it reads what 4Seller has now. An event is judged by its
    date."""
    known, given = order.source_updated_at, sale.updated_at
    newest = given is not None and (known is None or given > known)
    later = known is None or newest or given == known
    if sale.read_at is not None:
        later = bool(sale.read_at >= (order.content_at or order.imported_at))
    other = changed_parts(sale.content, order.content)
    content = sale.content if later else some_parts(sale.content, set(PARTS) - order.content.keys())
    reported = {name: getattr(sale, name) for name in ("currency", "sales_channel", "placed_at")}
    missing = {name: value for name, value in reported.items() if value and getattr(order, name) is None}
    late_address = not later and bool({"buyer", "address"} & other)
    return _News(newest, later, content, changed_parts(content, order.content), missing, late_address)


def has_news(order: StoredOrder, sale: Sale) -> bool:
    """Whether the sale changes the known order; locks nothing."""
    news = _news(order, sale)
    return (
        (sale.known_status and sale.status != order.status)
        or sale.status_word not in ("", order.status_word)
        or sale.unreadable_reason is not None
        or bool(news.newest or news.parts or news.missing or news.late_address)
    )


def apply_update(order: StoredOrder, sale: Sale) -> bool:
    """Updates a known order to the content and the status that the marketplace reports; True when it changed."""
    if order.erased_at is not None:
        sale = without_personal_data(order.connection, sale)
    edited, before, news = False, order, _news(order, sale)
    if sale.unreadable:
        order.log("unreadable", sale.unread, once=True)
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
    _record_status_word(order, sale, news, moved=moved)
    late = news.late_address and _change_address(order, sale, {"buyer", "address"}, late=True)
    filled = late or order is not before
    if filled or "buyer" in news.parts:  # what decides about mail, which the first message may have lacked
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
            items = [line.order_item_id for line in now.lines()]
            orders.date_order(order.connection, order.local_order_id, now.placed_at, items)
    return now


def _change_address(order: StoredOrder, sale: Sale, parts: set[str], *, late: bool = False) -> bool:
    """Updates buyer and address as far as the message has them; True when it changed something. A `late` message, older
    than what is known, only fills in what is missing, as if it had come first. An erased buyer stays erased."""
    said = (sale.buyer if "buyer" in parts else {}) | (sale.ship_to if "address" in parts else {})
    known = orders.order_address(order.connection, order.local_order_id)
    if not said or order.erased_at is not None or known is None:
        return False
    address = _said_over(known, said)
    if late:
        address = known | {name: one for name, one in _said_over(said, known).items() if one is not None}
    if address == known:
        return False
    both = {"shipping_address": address, "billing_address": address}
    orders.update_order(order.connection, order.local_order_id, **both)
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
    current, reported = OrderStatus(order.status), sale.status.value
    match TABLE[current, sale.status]:
        case Decision.FOLLOW:
            return _advance(order, current, sale)
        case Decision.CONFLICT if order.resolution != reported:  # else as a person decided
            detail = f"4Seller reports {reported}, but the order is {current.value}: a person has to decide."
            exceptions.find_conflict(order, sale, "refused_transition", detail)
        case Decision.PUSH if current is OrderStatus.CANCELLED and sale.status in OPEN and later:
            detail = f"4Seller reports {reported} again, after the order was cancelled: resolve it."
            exceptions.find_conflict(order, sale, "conflict", detail)
            order.set(status_word=sale.status_word)
        case Decision.PUSH if later and order.has_step(UNANSWERED):
            # Our call may have reached 4Seller after a newer one: the newer status is pushed again, once.
            detail = f"4Seller went back from {current.value} to {reported}, as a late call of ours would: pushed again."
            if new := order.log("late", detail, once=True):
                order.set(status=reported, status_word=sale.status_word)
                order.mark_for_push(order.shop_status_since or utc_now())
            return new
        case Decision.PUSH:
            detail = f"4Seller reports {reported} again or late; the order stays {current.value}."
            order.log("late", detail, once=True)
            if current is OrderStatus.REFUNDED and sale.status in SHIPPED_STATES:
                shipped = exceptions.ship_refunded_order(order, sale.status)
                _end_conflict_if_over(order, current)
                return shipped
        case _:
            asked = order.disputed_at
            if order.exception and sale.updated_at and not (asked and sale.updated_at <= asked):
                _end_conflict_if_over(order, current)
                if decide(order.shop_status(), current) is Decision.PUSH:  # as a cancellation withdrawn
                    order.mark_for_push(order.shop_status_since or utc_now())
    return False


def _end_conflict_if_over(order: StoredOrder, current: OrderStatus) -> None:
    """Ends the order's conflict if the two sides no longer contradict each other."""
    shop = order.shop_status()
    if not order.has(OrderException.CONFLICT):
        return
    gone = units.units_shipped(order, shop)
    if current in ENDED and any(gone[line.line] > units.accounted(line) for line in order.lines()):
        return
    if decide(shop, current, shipped=units.has_shipped(order, shop)) is not Decision.CONFLICT:
        exceptions.end_conflict(order)


def _advance(order: StoredOrder, current: OrderStatus, sale: Sale) -> bool:
    """Follows the marketplace to a further status, unless a person has to decide; True when it did."""
    on_record = units.shipments_on_record(order)
    if on_record:
        count_late_shipments(order)
    shop, status = order.shop_status(), sale.status
    shipped = units.has_shipped(order, shop) or (status is OrderStatus.REFUNDED and sale.shipped)
    resolution = order.resolution if status is OrderStatus.CANCELLED else None
    reply = decide(shop, status, shipped=shipped, resolution=resolution)
    if reply is Decision.CONFLICT and status is OrderStatus.CANCELLED:
        do = "get the shipment back or have the cancellation withdrawn, then resolve the order."
        detail = f"The marketplace cancelled the order, but the shop has shipped it: {do}"
        exceptions.find_conflict(order, sale, "conflict", detail)
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
        exceptions.refund_shop_order(order, shop, shipped_as=shipped_as, notes=note)
    elif reply is Decision.FOLLOW:
        order.move(status.value, note)
        order.set(shop_status_since=None, push_after=None)
    elif reply is Decision.PUSH:
        order.mark_for_push(order.shop_status_since or utc_now())
        note += f"; the shop is further, at {shop}"
    order.log(status.value, f"{current.value} -> {status.value}. {note}.")
    if reply is Decision.CONFLICT:
        detail = f"The shop has cancelled the order, and the marketplace reports {status.value}: resolve the order."
        exceptions.find_conflict(order, sale, "conflict", detail)
    else:
        _end_conflict_if_over(order, status)
    if status in ENDED:
        left = current in SHIPPED_STATES or shop in SHIPPED_STATES
        units.release_units(order, status, all_shipped=left or (sale.shipped and not on_record))
        order.mark_for_push(None)
    paid_back = orders.order_state(order.connection, order.local_order_id)[1] == "refunded"
    if paid_back and status is not OrderStatus.REFUNDED:
        order.mark_for_push(order.shop_status_since or utc_now())  # the shop's refund is still to be pushed
    if order.context.sends_mail:
        queue_status_mail(order, status)
    return True


def _warn_packers(order: StoredOrder, status: OrderStatus, shop: str | None) -> None:
    """Alerts staff that the marketplace ended an order that somebody may be packing; `shop` is the shop's status."""
    _, payment = orders.order_state(order.connection, order.local_order_id)
    if shop not in OPEN or payment == "refunded" or (shop == OrderStatus.PENDING and payment != "paid"):
        return
    if any(units.left_to_ship(line) for line in order.lines()):
        now = f"Order {order.marketplace_order_id} is {status.value} on the marketplace"
        text = f"{now}, and was {shop} and {payment} here: do not ship it."
        alerts.raise_alert(order.connection, kind=alerts.ENDED, subject=order.subject, text=text)


def _record_status_word(order: StoredOrder, sale: Sale, news: _News, *, moved: bool) -> None:
    """Records the newest date and the marketplace's own status word: a known one if the order has that status, an unknown
    one always."""
    if news.newest:
        order.set(source_updated_at=sale.updated_at)
    unknown = not sale.known_status and (sale.updated_at is None or news.later)
    if sale.status_word not in ("", order.status_word) and (moved or unknown or sale.status == order.status):
        order.set(status_word=sale.status_word)
        if not sale.known_status or order.has(OrderException.STATUS):
            order.set_exceptions(**{"drop" if sale.known_status else "add": (OrderException.STATUS,)})
        if order.has(OrderException.STATUS):
            exceptions.match_unknown_word(order.connection, order.status_word)
        if not sale.known_status:
            exceptions.alert_unknown_word(order.connection, sale.status_word, sale.order_id)
        if not moved:
            order.log("status_word", f"4Seller calls it {sale.status_word} now.")
    if sale.paid and sale.known_status and sale.status is not OrderStatus.REFUNDED:
        orders.set_paid(order.connection, order.local_order_id)
