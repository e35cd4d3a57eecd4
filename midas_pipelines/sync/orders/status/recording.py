"""Records pushed statuses and shipments: what 4Seller accepted, what it refused, what could not be pushed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.orders import is_refunded, order_status
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.close import end_order, raise_conflict, refund_shop_order
from midas_pipelines.sync.orders.customer_mail.queue import queue_mail
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order, set_exceptions
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

_ORDERS, _SHIPMENTS = marketplace_orders.c, order_shipments.c


def record_pushed(context: SyncContext, order: PendingUpdate, call: StatusUpdate) -> None:
    """Records one call that 4Seller confirmed, with its consequences."""
    order_context = order_context_of(context)
    with context.database.writing() as connection:
        row = lock_order(connection, order.row_id)
        current = OrderStatus(row.status)
        if TABLE[current, call.status] is StatusDecision.FOLLOW:
            _set(connection, order, status=call.status.value, status_word=call.status.value)
            detail = f"The shop's {current.value} -> {call.status.value} was pushed to 4Seller."
            order_context.log(connection, order.order_id, call.status.value, detail)
            shop = order_status(connection, row.local_order_id)
            if call.status is OrderStatus.REFUNDED and shop is not None:
                shipped = has_shipped(connection, row, shop)
                refund_shop_order(
                    connection,
                    row,
                    shop,
                    shipped_as=OrderStatus.SHIPPED if shipped else None,
                    notes="Refunded by the shop",
                )
                _set(connection, order, shop_status_since=None)  # set by the trigger on the update above
            if call.status in ENDED:
                all_shipped = current in SHIPPED_STATES or shop in SHIPPED_STATES
                end_order(connection, row, call.status, order_context, all_shipped=all_shipped)
            if call.status is OrderStatus.SHIPPED and not shipments_on_record(connection, row.local_order_id):
                queue_mail(connection, row, "shipped", order_context.settings)
        if call.shipment is not None:
            pushed = sa.update(order_shipments).where(_as_read(order, call.shipment.shipment_id))
            remark = call.shipment.remark
            if connection.execute(pushed.values(pushed_at=utc_now(), reason=remark)).rowcount:
                number = f"{call.shipment.tracking.carrier} {call.shipment.tracking.number}"
                detail = f"4Seller knows the shipment {number}. {remark or ''}".rstrip()
                order_context.log(connection, order.order_id, "tracking_pushed", detail)


def _as_read(order: PendingUpdate, shipment_id: int) -> sa.ColumnElement[bool]:
    """Matches an unpushed shipment that has not been corrected since it was read."""
    read = order.rows[shipment_id]
    same = (column.is_not_distinct_from(getattr(read, column.name)) for column in PUSHED_FIELDS)
    return sa.and_(_SHIPMENTS.id == shipment_id, _SHIPMENTS.pushed_at.is_(None), *same)


def close(context: SyncContext, order: PendingUpdate) -> None:
    """Marks the order as pushed, unless the shop has changed it again meanwhile."""
    if not (order.moved or order.flagged):
        return
    with context.database.writing() as connection:
        row = lock_order(connection, order.row_id)
        now = order_status(connection, row.local_order_id)
        if decide(now, OrderStatus(row.status), resolution=row.resolution) is not StatusDecision.AGREE:
            return
        if row.status != OrderStatus.REFUNDED and is_refunded(connection, row.local_order_id):
            return
        _set(connection, order, shop_status_since=None, push_after=None, push_attempts=0)
        refused = sa.and_(_SHIPMENTS.order_id == row.local_order_id, _SHIPMENTS.reason.is_not(None))
        waiting = sa.select(_SHIPMENTS.id).where(refused, _SHIPMENTS.pushed_at.is_(None))
        if connection.execute(waiting.limit(1)).first() is None:
            set_exceptions(connection, order.row_id, drop=(OrderException.REFUSED.value,))


def _still_as_seen(connection: sa.Connection, order: PendingUpdate) -> sa.Row[Any] | None:
    """Our row, locked; None when the order's status has changed since it was read."""
    row = lock_order(connection, order.row_id)
    return row if row.status == order.current.value else None


def record_objection(context: SyncContext, order: PendingUpdate, why: str) -> None:
    """Records that the shop's status cannot be pushed: unmarks it and raises an exception."""
    with context.database.writing() as connection:
        row = _still_as_seen(connection, order)
        if row is None:
            return
        conflict = order.decision is StatusDecision.CONFLICT
        detail = f"The shop says {order.shop_status}, 4Seller has {order.current.value}: {why}."
        same = sa.exists().where(orders.c.id == _ORDERS.local_order_id, orders.c.status == order.shop_status)
        statement = sa.update(marketplace_orders).where(_ORDERS.id == order.row_id, same)
        connection.execute(statement.values(shop_status_since=None))
        step_name = "conflict" if conflict else "refused_transition"
        order_context_of(context).log(
            connection, order.order_id, step_name, f"{detail} A person has to decide."
        )
        if conflict:
            raise_conflict(connection, row, f"{detail} Resolve the order.")
        else:
            set_exceptions(connection, order.row_id, add=(OrderException.REFUSED.value,))


def record_refusal(context: SyncContext, order: PendingUpdate, why: str) -> None:
    """Records that 4Seller refused the status: raises an exception and retries after a day."""
    with context.database.writing() as connection:
        if _still_as_seen(connection, order) is None:
            return
        detail = (
            f"4Seller did not take the shop's {order.shop_status}: {why.rstrip('.')}. A person has to look."
        )
        _set(connection, order, push_after=utc_now(A_DAY), push_attempts=0)
        if order_context_of(context).log_once(connection, order.order_id, "refused_transition", detail):
            set_exceptions(connection, order.row_id, add=(OrderException.REFUSED.value,))


def record_bad_shipment(
    context: SyncContext,
    order: PendingUpdate,
    shipment_id: int,
    why: str,
    *,
    wait: int = 0,
    untaken: bool = False,
) -> None:
    """Records a shipment that was not pushed: one that 4Seller refused waits, one that we refused is checked again next run.

    One that 4Seller did not accept, though it answered without an error, is pushed again with backoff.
    """
    with context.database.writing() as connection:
        query = sa.select(_SHIPMENTS.reason, _SHIPMENTS.attempts).where(_SHIPMENTS.id == shipment_id)
        known = connection.execute(query).first()
        if known is None:  # replaced meanwhile
            return
        attempts = known.attempts + 1
        # One that was refused waits for a day, which no number of attempts may shorten: see `RETRY`.
        values: dict[str, Any] = {"reason": why, "attempts": 0 if wait else attempts}
        wait = wait or (int(RETRY.seconds(attempts)) if untaken else 0)
        values["next_attempt_at"] = utc_now(wait) if wait else None
        mine = _as_read(order, shipment_id)
        if not connection.execute(sa.update(order_shipments).where(mine).values(values)).rowcount:
            return
        order_context_of(context).log_once(connection, order.order_id, "tracking_refused", why)
        if attempts == PATIENCE if untaken else why != known.reason:  # else the exception was raised before
            set_exceptions(connection, order.row_id, add=(OrderException.REFUSED.value,))


def record_failure(context: SyncContext, order: PendingUpdate, untaken: str | None = None) -> None:
    """Schedules the next push of the order, with a delay that doubles each time.

    Args:
        context: the shop's database.
        order: as read.
        untaken: what 4Seller answered without an error when it accepted nothing; None when it could not be reached.
    """
    with context.database.writing() as connection:
        attempts = connection.scalar(sa.select(_ORDERS.push_attempts).where(_ORDERS.id == order.row_id))
        attempts = (attempts or 0) + 1
        _set(connection, order, push_attempts=attempts, push_after=utc_now(int(RETRY.seconds(attempts))))
        if untaken is not None:
            order_context_of(context).log_once(connection, order.order_id, "not_taken", untaken)
            if attempts == PATIENCE:
                set_exceptions(connection, order.row_id, add=(OrderException.REFUSED.value,))


def _set(connection: sa.Connection, order: PendingUpdate, **values: Any) -> None:
    connection.execute(sa.update(marketplace_orders).where(_ORDERS.id == order.row_id).values(values))


def order_context_of(context: SyncContext) -> OrderContext:
    """The order context of this context's run."""
    return OrderContext(context.run_id, settings=context.settings)
