"""Applies inbound updates to known orders: status changes, edits and missing fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import is_refunded, order_status, set_order_status, set_paid
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.changes.close import (
    end_conflict,
    end_order,
    find_conflict,
    refund_shop_order,
    ship_refunded_order,
    warn_packers,
)
from midas_pipelines.sync.orders.changes.edits import apply_edit, raise_edit_conflict, update_exceptions
from midas_pipelines.sync.orders.changes.erase import without_personal_data
from midas_pipelines.sync.orders.changes.news import (
    confirm_late,
    edited_parts,
    fill_late_address,
    fill_missing_fields,
    has_late_address,
    later,
    names_status,
    new_content,
)
from midas_pipelines.sync.orders.changes.quarantine import alert_unknown_status, clear_unknown_status
from midas_pipelines.sync.orders.changes.shipments import count_late_shipments
from midas_pipelines.sync.orders.customer_mail.queue import queue_mail
from midas_pipelines.sync.orders.model.lines import OrderException, read_exceptions
from midas_pipelines.sync.orders.model.order_log import OrderContext, set_exceptions, set_order
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

_ORDERS, _LINES = marketplace_orders.c, marketplace_order_lines.c


def items_held(connection: sa.Connection, order_rows: Sequence[int]) -> list[ItemKey]:
    """The items allocated to these orders, which may be released."""
    if not order_rows:
        return []
    query = sa.select(_LINES.product_id, _LINES.variant_id).where(
        _LINES.order_id.in_(order_rows), _LINES.allocated > _LINES.released, _LINES.product_id.is_not(None)
    )
    return [(row.product_id, row.variant_id) for row in connection.execute(query)]


def apply_update(
    connection: sa.Connection, row: sa.Row[Any], sale: Sale, order_context: OrderContext
) -> bool:
    """Updates a known order to the content and the status that the marketplace reports; True when it changed.

    Args:
        connection: holds the order's rows, and the stock of its items.
        row: our row of the order.
        sale: what is reported.
        order_context: writes the order log.
    """
    if row.erased_at is not None:
        sale = without_personal_data(connection, sale)
    edited, before = False, row
    if sale.unreadable:
        order_context.log_once(connection, row.marketplace_order_id, "unreadable", unread(sale))
    parts = edited_parts(row, sale)
    row = fill_missing_fields(connection, row, sale, order_context)
    if sale.unreadable_reason is not None:
        raise_edit_conflict(connection, row, sale.unreadable_reason, order_context)
    elif parts:
        edited = apply_edit(
            connection, row, replace(sale, content=new_content(row, sale)), parts, order_context
        )
    if row.currency != before.currency:  # its smallest unit decides whether the total adds up
        update_exceptions(connection, row, sale, ("amounts",), order_context)
    moved = names_status(sale) and _follow_status(connection, row, sale, order_context)
    _record_status_word(connection, row, sale, order_context, moved=moved)
    filled = row is not before
    if has_late_address(row, sale):
        filled |= fill_late_address(connection, row, sale, order_context)
    if filled or "buyer" in parts:
        confirm_late(connection, row, order_context)
    return moved or edited or filled


def _follow_status(
    connection: sa.Connection, row: sa.Row[Any], sale: Sale, order_context: OrderContext
) -> bool:
    current = OrderStatus(row.status)
    match TABLE[current, sale.status]:
        case StatusDecision.FOLLOW:
            return _advance(connection, row, current, sale, order_context)
        case StatusDecision.CONFLICT:
            detail = f"4Seller reports {sale.status.value}, but the order is {current.value}: a person has to decide."
            find_conflict(connection, row, sale, "refused_transition", detail, order_context)
        case StatusDecision.PUSH if (
            current is OrderStatus.CANCELLED and sale.status in OPEN and later(row, sale)
        ):
            detail = f"4Seller reports {sale.status.value} again, after the order was cancelled: resolve it."
            find_conflict(connection, row, sale, "conflict", detail, order_context)
            set_order(connection, row.id, status_word=sale.status_word)
        case StatusDecision.PUSH:
            detail = f"4Seller reports {sale.status.value} again or late; the order stays {current.value}."
            order_context.log_once(connection, row.marketplace_order_id, "late", detail)
            if current is OrderStatus.REFUNDED and sale.status in SHIPPED_STATES:
                shipped = ship_refunded_order(connection, row, sale.status, order_context)
                end_conflict_if_over(connection, row, current, order_status(connection, row.local_order_id))
                return shipped
        case _:
            _agree_again(connection, row, current, sale)
    return False


def _agree_again(connection: sa.Connection, row: sa.Row[Any], current: OrderStatus, sale: Sale) -> None:
    """4Seller reports the current status again: a conflict may be over, and a refused push may be retried."""
    after = sale.updated_at is not None and (row.disputed_at is None or sale.updated_at > row.disputed_at)
    if row.exception is None or not after:
        return
    shop = order_status(connection, row.local_order_id)
    end_conflict_if_over(connection, row, current, shop)
    if decide(shop, current) is StatusDecision.PUSH:  # such as a cancellation that was withdrawn
        _mark_for_push(connection, row)


def end_conflict_if_over(
    connection: sa.Connection, row: sa.Row[Any], current: OrderStatus, shop: str | None
) -> None:
    """Ends the order's conflict if the two sides no longer contradict each other."""
    if OrderException.CONFLICT.value not in read_exceptions(row.exception):
        return
    if current in ENDED and shipped_after_end(connection, row, shop):
        return
    shipped = has_shipped(connection, row, shop)
    if decide(shop, current, shipped=shipped) is not StatusDecision.CONFLICT:
        end_conflict(connection, row)


def _mark_for_push(connection: sa.Connection, row: sa.Row[Any]) -> None:
    since = row.shop_status_since or utc_now()
    set_order(connection, row.id, shop_status_since=since, push_after=None, push_attempts=0)


def _advance(
    connection: sa.Connection,
    row: sa.Row[Any],
    current: OrderStatus,
    sale: Sale,
    order_context: OrderContext,
) -> bool:
    count_late_shipments(connection, row, order_context)
    shop = order_status(connection, row.local_order_id)
    shipped = has_shipped(connection, row, shop) or (sale.status is OrderStatus.REFUNDED and sale.shipped)
    resolution = row.resolution if sale.status is OrderStatus.CANCELLED else None
    reply = decide(shop, sale.status, shipped=shipped, resolution=resolution)
    if reply is StatusDecision.CONFLICT and sale.status is OrderStatus.CANCELLED:
        detail = (
            "The marketplace cancelled the order, but the shop has shipped it: get the shipment back or have the "
            "cancellation withdrawn, then resolve the order."
        )
        find_conflict(connection, row, sale, "conflict", detail, order_context)
        set_order(connection, row.id, status_word=sale.status_word)  # 4Seller's status until a person decides
        return False
    if sale.status in ENDED:
        warn_packers(connection, row, sale.status, shop)
    # Our row first: the trigger on the shop's order then sees that 4Seller has this status already.
    set_order(connection, row.id, status=sale.status.value, status_word=sale.status_word)
    note = _move_shop_order(connection, row, sale, shop, reply, shipped=shipped)
    detail = f"{current.value} -> {sale.status.value}. {note}."
    order_context.log(connection, row.marketplace_order_id, sale.status.value, detail)
    if reply is StatusDecision.CONFLICT:
        detail = f"The shop has cancelled the order, and the marketplace reports {sale.status.value}: resolve the order."
        find_conflict(connection, row, sale, "conflict", detail, order_context)
    else:
        end_conflict_if_over(connection, row, sale.status, order_status(connection, row.local_order_id))
    if sale.status in ENDED:
        _end(connection, row, current, sale, shop, order_context)
    if sale.status is not OrderStatus.REFUNDED and is_refunded(connection, row.local_order_id):
        _mark_for_push(connection, row)  # the shop's refund is still to be pushed
    if sale.status is OrderStatus.SHIPPED and not shipments_on_record(connection, row.local_order_id):
        queue_mail(connection, row, "shipped", order_context.settings)
    return True


def _end(
    connection: sa.Connection,
    row: sa.Row[Any],
    current: OrderStatus,
    sale: Sale,
    shop: str | None,
    order_context: OrderContext,
) -> None:
    """Ends a cancelled or refunded order and releases its unshipped units."""
    packed = shipments_on_record(connection, row.local_order_id)
    all_shipped = current in SHIPPED_STATES or shop in SHIPPED_STATES or (sale.shipped and not packed)
    end_order(connection, row, sale.status, order_context, all_shipped=all_shipped)
    set_order(connection, row.id, shop_status_since=None, push_after=None, push_attempts=0)


def _move_shop_order(
    connection: sa.Connection,
    row: sa.Row[Any],
    sale: Sale,
    shop: str | None,
    reply: StatusDecision,
    *,
    shipped: bool,
) -> str:
    """Updates the shop's order, or marks its status to be pushed; returns the note for the order log."""
    note = f"4Seller: {sale.status_word}"
    if shop is None:
        return note + "; the shop has deleted its order"
    if sale.status is OrderStatus.REFUNDED:
        shipped_as = (sale.shipped_as or OrderStatus.SHIPPED) if shipped else None
        refund_shop_order(connection, row, shop, shipped_as=shipped_as, notes=note)
    elif reply is StatusDecision.FOLLOW:
        set_order_status(connection, row.local_order_id, status=sale.status.value, notes=note)
        set_order(connection, row.id, shop_status_since=None, push_after=None)
    elif reply is StatusDecision.PUSH:
        _mark_for_push(connection, row)
        return note + f"; the shop is further, at {shop}"
    return note


def _record_status_word(
    connection: sa.Connection, row: sa.Row[Any], sale: Sale, order_context: OrderContext, *, moved: bool
) -> None:
    """Records the newest date and the marketplace's own status word: a known one if the order has that status, an unknown
    one always."""
    known = row.source_updated_at
    if sale.updated_at is not None and (known is None or sale.updated_at > known):
        set_order(connection, row.id, source_updated_at=sale.updated_at)
    unknown = not sale.known_status and (sale.updated_at is None or later(row, sale))
    if sale.status_word not in ("", row.status_word) and (moved or unknown or sale.status == row.status):
        set_order(connection, row.id, status_word=sale.status_word)
        word = (OrderException.STATUS.value,)
        if sale.known_status:
            set_exceptions(connection, row.id, drop=word)
            clear_unknown_status(connection, row.status_word)
        else:
            set_exceptions(connection, row.id, add=word)
            alert_unknown_status(connection, sale.status_word, sale.order_id)
        if not moved:
            detail = f"4Seller calls it {sale.status_word} now."
            order_context.log(connection, row.marketplace_order_id, "status_word", detail)
    if sale.paid and sale.known_status and sale.status is not OrderStatus.REFUNDED:
        set_paid(connection, row.local_order_id)
