"""Outbound updates: the orders with something to push to 4Seller, and the calls that push it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Order, Tracking
from midas_pipelines.fourseller.status import (
    ENDED,
    ORDER_OF_EVENTS,
    SHIPPED_STATES,
    TABLE,
    OrderStatus,
    StatusDecision,
    decide,
    path,
)
from midas_pipelines.store.items.claims import why_stopped
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import Backoff, is_due
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.model.carriers import BadTracking, bare_number, recorded_tracking
from midas_pipelines.sync.orders.model.lines import OrderException, read_exceptions

A_DAY = 86_400
"""Seconds after which a refused push is retried; it counts no attempts."""
RETRY = Backoff(first=30, longest=3600, free=1)
"""The waits of a push that failed."""

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


def why_not_pushed(decision: StatusDecision, shop: str | None, channel: OrderStatus) -> str | None:
    """Why the shop's status is not pushed to 4Seller, which has another, in words; None when it may be."""
    if decision in (StatusDecision.AGREE, StatusDecision.PUSH):
        return None
    if shop not in list(OrderStatus):
        return f"the shop calls it {shop}, which is not a status of the marketplace"
    if decision is StatusDecision.FOLLOW:
        return f"no step leads from {channel.value} to {shop}"
    if shop == "cancelled":
        return "the shop cancelled an order of which goods have left"
    return f"the shop has sent what is {channel.value} on the marketplace"


def status_updates(
    current: OrderStatus, goal: OrderStatus | None, shipments: Sequence[ShipmentToPush] = ()
) -> list[StatusUpdate]:
    """The calls that bring 4Seller from one status to another and push each shipment once.

    One call carries one shipment: all but the last go while the order is `processing`, the last one with `shipped`. Empty
    when the goal is not reachable and there is no shipment.
    """
    moves = path(current, goal) if goal is not None else []
    calls = [StatusUpdate(move) for move in moves]
    reached = moves[-1] if moves else current
    if not shipments or reached not in ORDER_OF_EVENTS:  # cancelled or refunded: takes no shipment
        return calls
    if OrderStatus.SHIPPED in moves:
        *early, last = shipments
        place = moves.index(OrderStatus.SHIPPED)
        with_goods = [StatusUpdate(OrderStatus.PROCESSING, shipment) for shipment in early]
        calls[place : place + 1] = [*with_goods, StatusUpdate(OrderStatus.SHIPPED, last)]
        return calls
    status = reached if reached in SHIPPED_STATES else OrderStatus.PROCESSING
    return [*calls[:-1], *(StatusUpdate(status, shipment) for shipment in shipments)]


def shown(call: StatusUpdate, current: OrderStatus, answer: Order) -> StatusUpdate:
    """The part of a call that 4Seller's answer shows: all of it where it was accepted; the status before where the answer
    shows no new one, or an unknown word."""
    state, shipment = answer.state, call.shipment
    ahead = state.known and TABLE[call.status, state.status] in (StatusDecision.AGREE, StatusDecision.FOLLOW)
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
    shipments: tuple[ShipmentToPush, ...] = ()
    invalid: tuple[tuple[sa.Row[Any], str], ...] = ()  # shipments with an invalid number, and why

    @property
    def moved(self) -> bool:
        """Whether the shop changed the status; else there are only shipments."""
        return self.row.shop_status_since is not None

    @property
    def flagged(self) -> bool:
        """Whether it was refused before."""
        return OrderException.REFUSED in read_exceptions(self.row.exception)

    @property
    def refund(self) -> bool:
        """Whether the shop has refunded what 4Seller does not show as refunded."""
        return bool(self.moved and self.row.paid_back) and self.current is not OrderStatus.REFUNDED

    @property
    def decision(self) -> StatusDecision:
        """Which side has to change."""
        row = self.row
        facts = {"shipped": bool(row.shipped), "in_time": bool(row.known)}
        return decide(row.shop_status, self.current, resolution=row.resolution, **facts)

    @property
    def goal(self) -> OrderStatus | None:
        """The status to bring 4Seller to, before a refund; None where it stays or must not be pushed."""
        word = self.row.shop_status
        if not self.moved or self.objection or word not in list(OrderStatus):
            return None
        return None if self.refund and word not in SHIPPED_STATES else OrderStatus(word)

    @property
    def objection(self) -> str | None:
        """Why the shop's status is not pushed; None when it may be, or has not changed."""
        word = self.row.shop_status
        if not self.moved or (self.refund and word not in SHIPPED_STATES):  # the refund replaces it
            return None
        return why_not_pushed(self.decision, word, self.current)

    def next_call(self, reached: OrderStatus, goal: OrderStatus | None) -> StatusUpdate | None:
        """The call to make where 4Seller has been brought to `reached`; a refund is the last one. None when all is made."""
        if calls := status_updates(reached, goal, self.shipments):
            return calls[0]
        return (
            StatusUpdate(OrderStatus.REFUNDED)
            if self.refund and reached is not OrderStatus.REFUNDED
            else None
        )


def _is_due(
    moment: sa.ColumnElement[datetime | None], attempts: sa.ColumnElement[int]
) -> sa.ColumnElement[bool]:
    return sa.case((attempts == 0, is_due(moment, A_DAY)), else_=RETRY.is_due(moment, attempts))


def pending_updates(context: SyncContext, after: int, only: int | None) -> list[PendingUpdate]:
    """The next orders with something to push, by our row; none while pushes are stopped."""
    due = _is_due(_SHIPMENTS.next_attempt_at, _SHIPMENTS.attempts)
    unpushed = sa.and_(_SHIPMENTS.pushed_at.is_(None), _SHIPMENTS.booked_at.is_not(None), due)
    mine = _SHIPMENTS.order_id == _ORDERS.local_order_id
    has_unpushed = sa.and_(sa.exists().where(mine, unpushed), _ORDERS.status.not_in(ENDED))
    accounted = _LINES.allocated - _LINES.released + _LINES.returned > 0
    flagged = _ORDERS.exception.contains(OrderException.REFUSED)
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
        .where(_ORDERS.id > after, sa.or_(_ORDERS.shop_status_since.is_not(None), has_unpushed, flagged))
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
    updates = []
    for row in found:
        valid, invalid = list[ShipmentToPush](), list[tuple[sa.Row[Any], str]]()
        for one in rows:
            if one.order_id == row.local_order_id:
                try:
                    valid.append(ShipmentToPush(one, *recorded_tracking(one)))
                except BadTracking as bad:
                    invalid.append((one, str(bad)))
        updates.append(PendingUpdate(row, OrderStatus(row.status), tuple(valid), tuple(invalid)))
    return updates
