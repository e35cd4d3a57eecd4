"""Records what came of a push to 4Seller: what it took, with its consequences, and what it did not, with its next push."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import (
    ENDED,
    SHIPPED_STATES,
    TABLE,
    OrderStatus,
    StatusDecision,
    decide,
)
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.storefront.orders import is_refunded
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.close import raise_conflict, refund_shop_order
from midas_pipelines.sync.orders.changes.inbound import end_order
from midas_pipelines.sync.orders.customer_mail import queue_mail
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.model.order_log import UNANSWERED, OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.status.outbound import A_DAY, RETRY, PendingUpdate, StatusUpdate
from midas_pipelines.sync.orders.stock.units import has_shipped, shipments_on_record

PATIENCE = 3
"""Answers without an error that do not show what was pushed, before an exception is raised: 4Seller may lag."""
STEPS = {"refused": "refused_transition", "untaken": "not_taken", "unanswered": UNANSWERED}
"""The steps of the order log of a status that was not pushed."""

_SHIPMENTS = order_shipments.c


def context_of(context: SyncContext) -> OrderContext:
    """The order context of this context's run."""
    return OrderContext(context.run_id, settings=context.settings)


@contextmanager
def _locked(context: SyncContext, order_row: int) -> Iterator[StoredOrder]:
    with context.database.writing() as connection:
        yield lock_order(connection, order_row, context_of(context))


def record_pushed(context: SyncContext, order_row: int, call: StatusUpdate) -> None:
    """Records one call that 4Seller confirmed, with its consequences."""
    with _locked(context, order_row) as order:
        if TABLE[OrderStatus(order.status), call.status] is StatusDecision.FOLLOW:
            _record_status(order, call.status)
        if call.shipment is not None:
            remark, tracking = call.shipment.remark, call.shipment.tracking
            pushed = sa.update(order_shipments).where(_as_read(call.shipment.row))
            if order.connection.execute(pushed.values(pushed_at=utc_now(), reason=remark)).rowcount:
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
    pushed = (_SHIPMENTS.carrier, _SHIPMENTS.tracking_number, _SHIPMENTS.tracking_url)
    same = (column.is_not_distinct_from(getattr(shipment, column.name)) for column in pushed)
    return sa.and_(_SHIPMENTS.id == shipment.id, _SHIPMENTS.pushed_at.is_(None), *same)


def record_done(context: SyncContext, pending: PendingUpdate) -> None:
    """Marks the order as pushed, unless the shop has changed it again meanwhile."""
    with _locked(context, pending.row.id) as order:
        decision = decide(order.shop_status(), OrderStatus(order.status), resolution=order.resolution)
        refunded = is_refunded(order.connection, order.local_order_id)
        if decision is not StatusDecision.AGREE or (refunded and order.status != OrderStatus.REFUNDED):
            return
        order.mark_for_push(None)
        refused = sa.and_(_SHIPMENTS.order_id == order.local_order_id, _SHIPMENTS.reason.is_not(None))
        if not order.connection.scalar(sa.select(sa.exists().where(refused, _SHIPMENTS.pushed_at.is_(None)))):
            order.set_exceptions(drop=(OrderException.REFUSED,))


def _record_objection(order: StoredOrder, pending: PendingUpdate, why: str) -> None:
    """Unmarks an order whose status cannot be pushed, and raises an exception."""
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


def record_problem(
    context: SyncContext, pending: PendingUpdate, kind: str, why: str, shipment: sa.Row[Any] | None
) -> None:
    """Records a status or a shipment that was not pushed, schedules its next push, and raises an exception for a person.

    The kinds: `objection` (to a status, by us), `invalid` (a shipment, by us; checked again in the next run), `refused` (by
    4Seller; tried again after a day), `untaken` (an answer without an error that did not show it) and `unanswered`, both tried
    again with a delay that doubles each time.
    """
    with _locked(context, pending.row.id) as order:
        known: Any = None
        if shipment is not None:
            known = order.connection.execute(sa.select(order_shipments).where(_as_read(shipment))).first()
            if known is None:  # replaced meanwhile
                return
        elif kind in ("refused", "objection") and order.status != pending.current:
            return  # it has changed since it was read
        if kind == "objection":
            _record_objection(order, pending, why)
            return
        attempts = (known.attempts if shipment is not None else order.push_attempts or 0) + 1
        wait = A_DAY if kind == "refused" else int(RETRY.seconds(attempts))
        due, counted = None if kind == "invalid" else utc_now(wait), 0 if kind == "refused" else attempts
        if shipment is not None:
            values = {"reason": why, "attempts": counted, "next_attempt_at": due}
            order.connection.execute(
                sa.update(order_shipments).where(_SHIPMENTS.id == known.id).values(values)
            )
            order.log_once("tracking_refused", why)
            new = why != known.reason  # else it was raised before
        else:
            order.set(push_attempts=counted, push_after=due)
            if kind == "refused":
                why = f"4Seller did not take the shop's {pending.row.shop_status}: {why.rstrip('.')}. A person has to look."
            elif kind == "unanswered":
                why = "A call to 4Seller got no answer: it may have arrived, or arrive late."
            new = order.log_once(STEPS[kind], why)
        if attempts == PATIENCE if kind == "untaken" else new and kind != "unanswered":
            order.set_exceptions(add=(OrderException.REFUSED,))
