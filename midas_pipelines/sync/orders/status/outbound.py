"""Outbound updates: the orders with something to push to 4Seller, the calls that push it, and what came of each: what 4Seller
took, with its consequences, and what it did not, with its next push."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller import status as statuses
from midas_pipelines.fourseller.carriers import BadTracking, bare_number, recorded_tracking
from midas_pipelines.fourseller.models import Order, Tracking
from midas_pipelines.fourseller.status import ENDED, SHIPPED_STATES, OrderStatus, StatusDecision
from midas_pipelines.store.items.claims import why_stopped
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.orders import order_state
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import Backoff, is_due, utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.exceptions import raise_conflict, refund_shop_order
from midas_pipelines.sync.orders.changes.shipments import set_shipment
from midas_pipelines.sync.orders.customer_mail import queue_status_mail
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.model.order_log import UNANSWERED, OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.stock.units import has_shipped, release_units

A_DAY = 86_400
"""Seconds after which a refused push is retried; it counts no attempts."""
RETRY = Backoff(first=30, free=1)
"""The waits of a push that failed."""
PATIENCE = 3
"""Answers without an error that do not show what was pushed, before an exception is raised: 4Seller may lag."""
STEPS = {"refused": "refused_transition", "untaken": "not_taken", "unanswered": UNANSWERED}
"""The steps of the order log of a status that was not pushed."""

UNTAKEN = "4Seller did not accept it; see the order log."

_ORDERS, _LINES, _SHIPMENTS = marketplace_orders.c, marketplace_order_lines.c, order_shipments.c


@dataclass(frozen=True, slots=True)
class ShipmentToPush:
    """A shipment that 4Seller does not know yet: its row as read; `remark` says why its number looks wrong."""

    row: Any
    tracking: Tracking
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """One call: the order's status, with or without a shipment."""

    status: OrderStatus
    shipment: ShipmentToPush | None = None


def next_call(
    current: OrderStatus,
    goal: OrderStatus | None,
    shipments: Sequence[ShipmentToPush] = (),
    *,
    refund: bool = False,
) -> StatusUpdate | None:
    """The next call that brings 4Seller from one status to another and pushes each shipment; None when there is none. One call
    carries one shipment: all but the last go while the order is `processing`, the last one with `shipped`. A `refund` is
    the last call."""
    moves = statuses.path(current, goal) if goal is not None else []
    last = moves[-1] if moves else current
    if not shipments or last in ENDED or OrderStatus.SHIPPED in moves[1:]:  # an ended order takes no shipment
        moves += [OrderStatus.REFUNDED] if refund and last is not OrderStatus.REFUNDED else []
        return StatusUpdate(moves[0]) if moves else None
    ships = OrderStatus.SHIPPED not in moves or len(shipments) == 1
    if moves and ships:
        return StatusUpdate(moves[0], shipments[0])
    return StatusUpdate(current if current in SHIPPED_STATES else OrderStatus.PROCESSING, shipments[0])


def shown(call: StatusUpdate, current: OrderStatus, answer: Order) -> StatusUpdate:
    """The part of a call that 4Seller's answer shows: all of it where it was accepted; the status before where the answer
    shows no new one, or an unknown word."""
    state, shipment = answer.state, call.shipment
    step = statuses.TABLE[call.status, state.status]
    ahead = state.known and step in (StatusDecision.AGREE, StatusDecision.FOLLOW)
    if call.status is OrderStatus.PROCESSING:  # 4Seller's UI has its own word for it
        ahead = ahead or "".join(filter(str.isalpha, state.word.lower())) == "inprocess"
    number = (answer.tracking and answer.tracking.number) or ""
    if shipment is not None and bare_number(number) != bare_number(shipment.tracking.number or ""):
        shipment = None
    return StatusUpdate(call.status if ahead or call.status is current else current, shipment)


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """An order with a status or shipments that 4Seller does not know yet: its row as read, and 4Seller's status now."""

    row: sa.Row[Any]
    current: OrderStatus
    shipments: Sequence[ShipmentToPush]
    invalid: Sequence[tuple[sa.Row[Any], str]]  # shipments with an invalid number, and why
    refund: bool  # the shop has refunded what 4Seller does not show as refunded
    decision: StatusDecision  # which side has to change
    objection: str | None  # why the shop's status is not pushed
    goal: OrderStatus | None  # the status to bring 4Seller to, before a refund; None where it stays


def _pending(row: sa.Row[Any], shipments: Sequence[ShipmentToPush], invalid: Sequence[Any]) -> PendingUpdate:
    """What to push of the order in that row, which need not be its status: only a changed one is, and a refund replaces one
    that has not shipped."""
    shop, current = row.shop_status, OrderStatus(row.status)
    changed = row.shop_status_since is not None and shop is not None
    refund = changed and bool(row.paid_back) and current is not OrderStatus.REFUNDED
    facts = {"shipped": bool(row.shipped), "in_time": bool(row.known)}
    decision = statuses.decide(shop, current, resolution=row.resolution, **facts)
    changed = changed and (not refund or shop in SHIPPED_STATES)
    objection = statuses.why_not_pushed(decision, shop, current) if changed else None
    goal = OrderStatus(shop) if changed and objection is None and shop in list(OrderStatus) else None
    return PendingUpdate(row, current, shipments, invalid, refund, decision, objection, goal)


def _is_due(moment: sa.ColumnElement[Any], attempts: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    return sa.case((attempts == 0, is_due(moment, A_DAY)), else_=RETRY.is_due(moment))


def pending_updates(context: SyncContext, after: int, only: int | None) -> list[PendingUpdate]:
    """The next orders with something to push, by our row; none while pushes are stopped."""
    due = _is_due(_SHIPMENTS.next_attempt_at, _SHIPMENTS.attempts)
    unpushed = sa.and_(_SHIPMENTS.pushed_at.is_(None), _SHIPMENTS.booked_at.is_not(None), due)
    mine = _SHIPMENTS.order_id == _ORDERS.local_order_id
    accounted = _LINES.allocated - _LINES.released + _LINES.returned > 0
    flagged = _ORDERS.exception.contains(OrderException.REFUSED)
    row = sa.select(_ORDERS.id)
    waiting = sa.union(  # each by a small index of its own; an OR would go through all orders
        row.where(_ORDERS.shop_status_since.is_not(None)),
        row.where(_ORDERS.exception.is_not(None), flagged),
        row.join(order_shipments, mine).where(unpushed, _ORDERS.status.not_in(ENDED)),
    )
    in_conflict = sa.func.coalesce(_ORDERS.exception, "").contains(OrderException.CONFLICT)
    query = (
        sa.select(
            marketplace_orders,
            orders.c.status.label("shop_status"),
            sa.exists().where(mine).label("shipped"),
            sa.exists().where(_LINES.order_id == _ORDERS.id, accounted).label("known"),  # shipped units
            (orders.c.payment_status == "refunded").label("paid_back"),
        )
        .outerjoin(orders, orders.c.id == _ORDERS.local_order_id)
        .where(_ORDERS.id > after, _ORDERS.id.in_(waiting))
        .where(~in_conflict)  # a person has to resolve it first
        .where(_is_due(_ORDERS.push_after, _ORDERS.push_attempts) if only is None else _ORDERS.id == only)
        .order_by(_ORDERS.id)
        .limit(context.settings.status_batch)
    )
    with context.database.reading() as connection:
        if why_stopped(connection) is not None:
            return []
        found = connection.execute(query).all()
        ids = [row.local_order_id for row in found if row.status not in ENDED]
        shipments = sa.select(order_shipments).where(_SHIPMENTS.order_id.in_(ids), unpushed)
        rows = connection.execute(shipments.order_by(_SHIPMENTS.id)).all()
    valid, invalid = defaultdict[int, list[ShipmentToPush]](list), defaultdict[int, list[Any]](list)
    for one in rows:
        try:
            label, remark = recorded_tracking(one.carrier, one.tracking_number, one.tracking_url)
            by_shop = one.source == "shop"  # else a person has confirmed it
            valid[one.order_id].append(ShipmentToPush(one, label, remark if by_shop else None))
        except BadTracking as bad:
            invalid[one.order_id].append((one, str(bad)))
    return [_pending(row, valid[row.local_order_id], invalid[row.local_order_id]) for row in found]


def why_waiting(connection: sa.Connection, row: sa.Row[Any]) -> str | None:
    """Why 4Seller does not know the status or a shipment of the order in that row of ours; None where it knows all."""
    mine = (_SHIPMENTS.order_id == row.local_order_id, _SHIPMENTS.pushed_at.is_(None))
    waits = sa.select(sa.func.coalesce(_SHIPMENTS.reason, UNTAKEN)).where(*mine)
    reason = UNTAKEN if row.shop_status_since is not None else None
    reason = reason if row.status in ENDED else connection.scalar(waits) or reason
    stopped = reason and why_stopped(connection)
    return f"Nothing is pushed to 4Seller: {stopped}." if stopped else reason


def context_of(context: SyncContext) -> OrderContext:
    """The order context of this context's run."""
    return OrderContext(context.run_id, settings=context.settings)


def record(context: SyncContext, order_row: int, what: Callable[..., None], *facts: Any) -> None:
    """Records something about the order in that row of ours, in a transaction that locks it."""
    with context.database.writing() as connection:
        what(lock_order(connection, order_row, context_of(context)), *facts)


def _unpushed(order: StoredOrder, shipment: sa.Row[Any]) -> sa.Row[Any] | None:
    """The shipment as it is now; None where it has been pushed, or corrected since it was read."""
    pushed = (_SHIPMENTS.carrier, _SHIPMENTS.tracking_number, _SHIPMENTS.tracking_url)
    same = (column.is_not_distinct_from(getattr(shipment, column.name)) for column in pushed)
    query = sa.select(order_shipments).where(_SHIPMENTS.id == shipment.id, _SHIPMENTS.pushed_at.is_(None))
    return order.connection.execute(query.where(*same).with_for_update()).first()


def record_pushed(order: StoredOrder, call: StatusUpdate) -> None:
    """Records one call that 4Seller confirmed, with its consequences."""
    status, shipment, shop = call.status, call.shipment, order.shop_status()
    if statuses.TABLE[OrderStatus(order.status), status] is StatusDecision.FOLLOW:
        order.set(status=status.value, status_word=status.value)
        order.log(status.value, f"The shop's {order.status} -> {status.value} was pushed to 4Seller.")
        if status is OrderStatus.REFUNDED and shop is not None:
            shipped_as = OrderStatus.SHIPPED if has_shipped(order, shop) else None
            refund_shop_order(order, shop, shipped_as=shipped_as, notes="Refunded by the shop")
            order.set(shop_status_since=None)  # set by the trigger on the update above
        if status in ENDED:
            left = order.status in SHIPPED_STATES or shop in SHIPPED_STATES
            release_units(order, status, all_shipped=left)
        queue_status_mail(order, status)
    if shipment is not None and _unpushed(order, shipment.row) is not None:
        set_shipment(order, shipment.row.id, pushed_at=utc_now(), reason=shipment.remark)
        named = f"{shipment.tracking.carrier} {shipment.tracking.number}. {shipment.remark or ''}".rstrip()
        order.log("tracking_pushed", f"4Seller knows the shipment {named}")


def record_done(order: StoredOrder) -> None:
    """Marks the order as pushed, unless the shop has changed it again meanwhile."""
    shop, payment = order_state(order.connection, order.local_order_id)
    agree = statuses.decide(shop, OrderStatus(order.status), resolution=order.resolution)
    if agree is not StatusDecision.AGREE or (payment == "refunded" and order.status != OrderStatus.REFUNDED):
        return
    order.mark_for_push(None)
    waiting = (_SHIPMENTS.order_id == order.local_order_id, _SHIPMENTS.pushed_at.is_(None))
    refused = sa.exists().where(*waiting, _SHIPMENTS.reason.is_not(None))
    if not order.connection.scalar(sa.select(refused)):
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
    order: StoredOrder, pending: PendingUpdate, kind: str, why: str, shipment: sa.Row[Any] | None
) -> None:
    """Records a status or a shipment that was not pushed, schedules its next push, and raises an exception for a person. The
    kinds: `objection` to a status, and `invalid` shipment, both by us; `refused` by 4Seller, tried again after a day;
    `untaken`, an answer without an error that did not show it, and `unanswered`, tried again with a backoff."""
    known = None if shipment is None else _unpushed(order, shipment)
    changed = kind in ("refused", "objection") and order.status != pending.current
    changed |= kind == "refused" and order.shop_status() != pending.row.shop_status
    if known is None and (shipment is not None or changed):  # since it was read
        return
    if kind == "objection":
        _record_objection(order, pending, why)
        return
    attempts = ((order.push_attempts or 0) if known is None else known.attempts) + 1
    wait = A_DAY if kind == "refused" else int(RETRY.seconds(attempts))
    due, counted = None if kind == "invalid" else utc_now(wait), 0 if kind == "refused" else attempts
    if known is not None:
        set_shipment(order, known.id, reason=why, attempts=counted, next_attempt_at=due)
        order.log("tracking_refused", why, once=True)
        new = why != known.reason  # else it was raised before
    else:
        order.set(push_attempts=counted, push_after=due)
        if kind == "refused":
            why = f"4Seller did not take the shop's {pending.row.shop_status}: {why.rstrip('.')}. A person has to look."
        elif kind == "unanswered":
            why = "A call to 4Seller got no answer: it may have arrived, or arrive late."
        new = order.log(STEPS[kind], why, once=True)
    if attempts == PATIENCE if kind == "untaken" else new and kind != "unanswered":
        order.set_exceptions(add=(OrderException.REFUSED,))
