"""Records pushed statuses and shipments: what 4Seller accepted, what it refused, what could not be pushed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.orders import is_refunded
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.close import end_order, raise_conflict, refund_shop_order
from midas_pipelines.sync.orders.customer_mail import queue_mail
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.model.order_log import UNANSWERED, OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.model.state_machine import (
    ENDED,
    SHIPPED_STATES,
    TABLE,
    StatusDecision,
    decide,
)
from midas_pipelines.sync.orders.status.outbound import (
    A_DAY,
    PUSHED_FIELDS,
    RETRY,
    PendingUpdate,
    StatusUpdate,
)
from midas_pipelines.sync.orders.stock.units import has_shipped, shipments_on_record

PATIENCE = 3
"""Answers without an error that do not show what was pushed, before an exception is raised: 4Seller may lag."""

_SHIPMENTS = order_shipments.c


def order_context_of(context: SyncContext) -> OrderContext:
    """The order context of this context's run."""
    return OrderContext(context.run_id, settings=context.settings)


def record_pushed(context: SyncContext, order_row: int, call: StatusUpdate) -> None:
    """Records one call that 4Seller confirmed, with its consequences."""
    with context.database.writing() as connection:
        order = lock_order(connection, order_row, order_context_of(context))
        if TABLE[OrderStatus(order.status), call.status] is StatusDecision.FOLLOW:
            _record_status(order, call.status)
        if call.shipment is None:
            return
        remark, tracking = call.shipment.remark, call.shipment.tracking
        pushed = sa.update(order_shipments).where(_as_read(call.shipment.row))
        if connection.execute(pushed.values(pushed_at=utc_now(), reason=remark)).rowcount:
            detail = f"4Seller knows the shipment {tracking.carrier} {tracking.number}. {remark or ''}"
            order.log("tracking_pushed", detail.rstrip())


def _record_status(order: StoredOrder, status: OrderStatus) -> None:
    order.set(status=status.value, status_word=status.value)
    order.log(status.value, f"The shop's {order.status} -> {status.value} was pushed to 4Seller.")
    shop = order.shop_status()
    if status is OrderStatus.REFUNDED and shop is not None:
        shipped_as = OrderStatus.SHIPPED if has_shipped(order, shop) else None
        refund_shop_order(order, shop, shipped_as=shipped_as, notes="Refunded by the shop")
        order.set(shop_status_since=None)  # set by the trigger on the update above
    if status in ENDED:
        all_shipped = order.status in SHIPPED_STATES or shop in SHIPPED_STATES
        end_order(order, status, all_shipped=all_shipped)
    if status is OrderStatus.SHIPPED and not shipments_on_record(order):
        queue_mail(order, "shipped")


def _as_read(shipment: sa.Row[Any]) -> sa.ColumnElement[bool]:
    """Matches an unpushed shipment that has not been corrected since it was read."""
    same = (column.is_not_distinct_from(getattr(shipment, column.name)) for column in PUSHED_FIELDS)
    return sa.and_(_SHIPMENTS.id == shipment.id, _SHIPMENTS.pushed_at.is_(None), *same)


def record_done(context: SyncContext, pending: PendingUpdate) -> None:
    """Marks the order as pushed, unless the shop has changed it again meanwhile."""
    with context.database.writing() as connection:
        order = lock_order(connection, pending.row.id)
        decision = decide(order.shop_status(), OrderStatus(order.status), resolution=order.resolution)
        unpaid = order.status != OrderStatus.REFUNDED and is_refunded(connection, order.local_order_id)
        if decision is not StatusDecision.AGREE or unpaid:
            return
        order.mark_for_push(None)
        refused = sa.and_(_SHIPMENTS.order_id == order.local_order_id, _SHIPMENTS.reason.is_not(None))
        waiting = sa.exists().where(refused, _SHIPMENTS.pushed_at.is_(None))
        if not connection.scalar(sa.select(waiting)):
            order.set_exceptions(drop=(OrderException.REFUSED,))


def record_objection(context: SyncContext, pending: PendingUpdate, why: str) -> None:
    """Records that the shop's status cannot be pushed: unmarks it and raises an exception."""
    with context.database.writing() as connection:
        order = lock_order(connection, pending.row.id, order_context_of(context))
        if order.status != pending.current:  # it has changed since it was read
            return
        shop = pending.row.shop_status
        detail = f"The shop says {shop}, 4Seller has {pending.current.value}: {why}."
        if order.shop_status() == shop:
            order.set(shop_status_since=None)
        conflict = pending.decision is StatusDecision.CONFLICT
        order.log("conflict" if conflict else "refused_transition", f"{detail} A person has to decide.")
        if conflict:
            raise_conflict(order, f"{detail} Resolve the order.")
        else:
            order.set_exceptions(add=(OrderException.REFUSED,))


def record_refusal(context: SyncContext, pending: PendingUpdate, why: str) -> None:
    """Records that 4Seller refused the status: raises an exception and retries after a day."""
    with context.database.writing() as connection:
        order = lock_order(connection, pending.row.id, order_context_of(context))
        if order.status != pending.current:
            return
        order.set(push_after=utc_now(A_DAY), push_attempts=0)
        shop = pending.row.shop_status
        why = f"4Seller did not take the shop's {shop}: {why.rstrip('.')}. A person has to look."
        if order.log_once("refused_transition", why):
            order.set_exceptions(add=(OrderException.REFUSED,))


def record_bad_shipment(
    context: SyncContext, pending: PendingUpdate, why: str, shipment: sa.Row[Any], kind: str
) -> None:
    """Records a shipment that was not pushed: `invalid` (we refused it; checked again in the next run), `refused` (by
    4Seller; tried again after a day) or `untaken` (an answer without an error that did not show it; with backoff)."""
    with context.database.writing() as connection:
        query = sa.select(_SHIPMENTS.reason, _SHIPMENTS.attempts).where(_SHIPMENTS.id == shipment.id)
        known = connection.execute(query).first()
        if known is None:  # replaced meanwhile
            return
        attempts = known.attempts + 1
        waits = {"refused": A_DAY, "untaken": int(RETRY.seconds(attempts))}
        values = {
            "reason": why,
            "attempts": 0 if kind == "refused" else attempts,
            "next_attempt_at": utc_now(waits[kind]) if kind in waits else None,
        }
        mine = sa.update(order_shipments).where(_as_read(shipment))
        if not connection.execute(mine.values(values)).rowcount:
            return
        order = _stored(connection, context, pending)
        order.log_once("tracking_refused", why)
        if attempts == PATIENCE if kind == "untaken" else why != known.reason:  # else it was raised before
            order.set_exceptions(add=(OrderException.REFUSED,))


def record_failure(context: SyncContext, pending: PendingUpdate, untaken: str | None) -> None:
    """Schedules the next push of the order, with a delay that doubles each time; `untaken` is what 4Seller answered without
    an error when it accepted nothing, None when it could not be reached."""
    with context.database.writing() as connection:
        order = _stored(connection, context, pending)
        attempts = (order.push_attempts or 0) + 1
        order.set(push_attempts=attempts, push_after=utc_now(int(RETRY.seconds(attempts))))
        unanswered = "A call to 4Seller got no answer: it may have arrived, or arrive late."
        order.log_once("not_taken" if untaken else UNANSWERED, untaken or unanswered)
        if untaken and attempts == PATIENCE:
            order.set_exceptions(add=(OrderException.REFUSED,))


def _stored(connection: sa.Connection, context: SyncContext, pending: PendingUpdate) -> StoredOrder:
    """The order, not locked: only what no one else writes is written."""
    query = sa.select(marketplace_orders).where(marketplace_orders.c.id == pending.row.id)
    return StoredOrder(connection, connection.execute(query).one(), order_context_of(context))
