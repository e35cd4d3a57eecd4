"""Applies inbound updates to known orders: status changes, edits and missing fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import is_refunded, set_paid
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.changes import close, news
from midas_pipelines.sync.orders.changes.edits import apply_edit, raise_edit_conflict, update_exceptions
from midas_pipelines.sync.orders.changes.erase import without_personal_data
from midas_pipelines.sync.orders.changes.quarantine import alert_unknown_status, clear_unknown_status
from midas_pipelines.sync.orders.changes.shipments import count_late_shipments
from midas_pipelines.sync.orders.customer_mail.queue import queue_mail
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.model.order_log import UNANSWERED, StoredOrder
from midas_pipelines.sync.orders.model.rows import unread
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.model.state_machine import (
    ENDED,
    OPEN,
    SHIPPED_STATES,
    TABLE,
    StatusDecision,
    decide,
)
from midas_pipelines.sync.orders.stock.units import has_shipped, shipments_on_record, shipped_after_end

_LINES = marketplace_order_lines.c


def items_held(connection: sa.Connection, order_rows: Sequence[int]) -> list[ItemKey]:
    """The items allocated to these orders, which may be released."""
    if not order_rows:
        return []
    query = sa.select(_LINES.product_id, _LINES.variant_id).where(
        _LINES.order_id.in_(order_rows), _LINES.allocated > _LINES.released, _LINES.product_id.is_not(None)
    )
    return [(row.product_id, row.variant_id) for row in connection.execute(query)]


def apply_update(order: StoredOrder, sale: Sale) -> bool:
    """Updates a known order to the content and the status that the marketplace reports; True when it changed."""
    if order.erased_at is not None:
        sale = without_personal_data(order.connection, sale)
    edited, before = False, order
    if sale.unreadable:
        order.log_once("unreadable", unread(sale))
    parts = news.edited_parts(order, sale)
    order = news.fill_missing_fields(order, sale)
    if sale.unreadable_reason is not None:
        raise_edit_conflict(order, sale.unreadable_reason)
    elif parts:
        edited = apply_edit(order, replace(sale, content=news.new_content(order, sale)), parts)
    if order.currency != before.currency:  # its smallest unit decides whether the total adds up
        update_exceptions(order, sale, ("amounts",))
    moved = sale.known_status and _follow_status(order, sale)
    _record_status_word(order, sale, moved=moved)
    filled = order is not before
    if news.has_late_address(order, sale):
        filled |= news.fill_late_address(order, sale)
    if filled or "buyer" in parts:
        news.confirm_late(order)
    return moved or edited or filled


def _follow_status(order: StoredOrder, sale: Sale) -> bool:
    current = OrderStatus(order.status)
    match TABLE[current, sale.status]:
        case StatusDecision.FOLLOW:
            return _advance(order, current, sale)
        case StatusDecision.CONFLICT:
            detail = f"4Seller reports {sale.status.value}, but the order is {current.value}: a person has to decide."
            close.find_conflict(order, sale, "refused_transition", detail)
        case StatusDecision.PUSH if (
            current is OrderStatus.CANCELLED and sale.status in OPEN and news.later(order, sale)
        ):
            detail = f"4Seller reports {sale.status.value} again, after the order was cancelled: resolve it."
            close.find_conflict(order, sale, "conflict", detail)
            order.set(status_word=sale.status_word)
        case StatusDecision.PUSH:
            if news.later(order, sale) and order.has_step(UNANSWERED):
                # Our call may have reached 4Seller after a newer one: the newer status is pushed again, once.
                detail = f"4Seller went back from {current.value} to {sale.status.value}, as a late call of ours would: pushed again."
                new = order.log_once("late", detail)
                if new:
                    order.set(status=sale.status.value, status_word=sale.status_word)
                    _mark_for_push(order)
                return new
            detail = f"4Seller reports {sale.status.value} again or late; the order stays {current.value}."
            order.log_once("late", detail)
            if current is OrderStatus.REFUNDED and sale.status in SHIPPED_STATES:
                shipped = close.ship_refunded_order(order, sale.status)
                end_conflict_if_over(order, current, order.shop_status())
                return shipped
        case _:
            asked = order.disputed_at
            if order.exception is None or sale.updated_at is None or (asked and sale.updated_at <= asked):
                return False
            shop = order.shop_status()
            end_conflict_if_over(order, current, shop)
            if decide(shop, current) is StatusDecision.PUSH:  # such as a cancellation that was withdrawn
                _mark_for_push(order)
    return False


def end_conflict_if_over(order: StoredOrder, current: OrderStatus, shop: str | None) -> None:
    """Ends the order's conflict if the two sides no longer contradict each other."""
    if not order.has(OrderException.CONFLICT):
        return
    if current in ENDED and shipped_after_end(order, shop):
        return
    shipped = has_shipped(order, shop)
    if decide(shop, current, shipped=shipped) is not StatusDecision.CONFLICT:
        close.end_conflict(order)


def _mark_for_push(order: StoredOrder) -> None:
    order.mark_for_push(order.shop_status_since or utc_now())


def _advance(order: StoredOrder, current: OrderStatus, sale: Sale) -> bool:
    count_late_shipments(order)
    shop = order.shop_status()
    shipped = has_shipped(order, shop) or (sale.status is OrderStatus.REFUNDED and sale.shipped)
    resolution = order.resolution if sale.status is OrderStatus.CANCELLED else None
    reply = decide(shop, sale.status, shipped=shipped, resolution=resolution)
    if reply is StatusDecision.CONFLICT and sale.status is OrderStatus.CANCELLED:
        detail = (
            "The marketplace cancelled the order, but the shop has shipped it: get the shipment back or have the "
            "cancellation withdrawn, then resolve the order."
        )
        close.find_conflict(order, sale, "conflict", detail)
        order.set(status_word=sale.status_word)  # 4Seller's status until a person decides
        return False
    if sale.status in ENDED:
        close.warn_packers(order, sale.status, shop)
    # Our row first: the trigger on the shop's order then sees that 4Seller has this status already.
    order.set(status=sale.status.value, status_word=sale.status_word)
    note = _move_shop_order(order, sale, shop, reply, shipped=shipped)
    detail = f"{current.value} -> {sale.status.value}. {note}."
    order.log(sale.status.value, detail)
    if reply is StatusDecision.CONFLICT:
        detail = f"The shop has cancelled the order, and the marketplace reports {sale.status.value}: resolve the order."
        close.find_conflict(order, sale, "conflict", detail)
    else:
        end_conflict_if_over(order, sale.status, order.shop_status())
    if sale.status in ENDED:
        left = current in SHIPPED_STATES or shop in SHIPPED_STATES
        close.end_order(
            order, sale.status, all_shipped=left or (sale.shipped and not shipments_on_record(order))
        )
        order.mark_for_push(None)
    if sale.status is not OrderStatus.REFUNDED and is_refunded(order.connection, order.local_order_id):
        _mark_for_push(order)  # the shop's refund is still to be pushed
    if sale.status is OrderStatus.SHIPPED and not shipments_on_record(order):
        queue_mail(order, "shipped")
    return True


def _move_shop_order(
    order: StoredOrder, sale: Sale, shop: str | None, reply: StatusDecision, *, shipped: bool
) -> str:
    """Updates the shop's order, or marks its status to be pushed; returns the note for the order log."""
    note = f"4Seller: {sale.status_word}"
    if shop is None:
        return note + "; the shop has deleted its order"
    if sale.status is OrderStatus.REFUNDED:
        shipped_as = (sale.shipped_as or OrderStatus.SHIPPED) if shipped else None
        close.refund_shop_order(order, shop, shipped_as=shipped_as, notes=note)
    elif reply is StatusDecision.FOLLOW:
        order.move(sale.status.value, note)
        order.set(shop_status_since=None, push_after=None)
    elif reply is StatusDecision.PUSH:
        _mark_for_push(order)
        return note + f"; the shop is further, at {shop}"
    return note


def _record_status_word(order: StoredOrder, sale: Sale, *, moved: bool) -> None:
    """Records the newest date and the marketplace's own status word: a known one if the order has that status, an unknown
    one always."""
    known = order.source_updated_at
    if sale.updated_at is not None and (known is None or sale.updated_at > known):
        order.set(source_updated_at=sale.updated_at)
    unknown = not sale.known_status and (sale.updated_at is None or news.later(order, sale))
    if sale.status_word not in ("", order.status_word) and (moved or unknown or sale.status == order.status):
        order.set(status_word=sale.status_word)
        if not sale.known_status:
            order.set_exceptions(add=(OrderException.STATUS,))
            alert_unknown_status(order.connection, sale.status_word, sale.order_id)
        elif order.has(OrderException.STATUS):
            order.set_exceptions(drop=(OrderException.STATUS,))
            clear_unknown_status(order.connection, order.status_word)
        if not moved:
            detail = f"4Seller calls it {sale.status_word} now."
            order.log("status_word", detail)
    if sale.paid and sale.known_status and sale.status is not OrderStatus.REFUNDED:
        set_paid(order.connection, order.local_order_id)
