"""Outbound updates: the orders with something to push to 4Seller, and the calls that push it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Order, Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.items.claims import why_stopped
from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.backoff import Backoff, is_due
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.model.carriers import BadTracking, bare_number, recorded_tracking
from midas_pipelines.sync.orders.model.lines import OrderException, read_exceptions
from midas_pipelines.sync.orders.model.state_machine import (
    ENDED,
    ORDER_OF_EVENTS,
    SHIPPED_STATES,
    TABLE,
    StatusDecision,
    decide,
    path,
)


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
    """Why the shop's status is not pushed to 4Seller, in words; None when it may be.

    Args:
        decision: of `decide`.
        shop: the shop's own status.
        channel: the status at 4Seller.
    """
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
    current: OrderStatus,
    goal: OrderStatus | None,
    shipments: Sequence[ShipmentToPush] = (),
    *,
    refund: bool = False,
) -> list[StatusUpdate]:
    """The calls that bring 4Seller from one status to another and push each shipment once.

    One call carries one shipment: all but the last go while the order is `processing`, the last one with `shipped`. Empty
    when the goal is not reachable and there is no shipment. A refund comes last: after `shipped`, and instead of any
    other status.
    """
    if refund:
        return [
            *status_updates(current, goal if goal in SHIPPED_STATES else None, shipments),
            StatusUpdate(OrderStatus.REFUNDED),
        ]
    moves = path(current, goal) if goal is not None else []
    if not shipments:
        return [StatusUpdate(move) for move in moves]
    if OrderStatus.SHIPPED in moves:
        before = [StatusUpdate(move) for move in moves[: moves.index(OrderStatus.SHIPPED)]]
        after = [StatusUpdate(move) for move in moves[moves.index(OrderStatus.SHIPPED) + 1 :]]
        early = [StatusUpdate(OrderStatus.PROCESSING, shipment) for shipment in shipments[:-1]]
        return [*before, *early, StatusUpdate(OrderStatus.SHIPPED, shipments[-1]), *after]
    reached = moves[-1] if moves else current
    if reached in SHIPPED_STATES:
        return [StatusUpdate(reached, shipment) for shipment in shipments]
    if reached not in ORDER_OF_EVENTS:  # cancelled or refunded: takes no shipment
        return [StatusUpdate(move) for move in moves]
    return [
        *(StatusUpdate(move) for move in moves[:-1]),
        *(StatusUpdate(OrderStatus.PROCESSING, shipment) for shipment in shipments),
    ]


def shown(call: StatusUpdate, current: OrderStatus, answer: Order) -> StatusUpdate:
    """The part of a call that 4Seller's answer shows: all of it where it was accepted.

    Args:
        call: what was pushed.
        current: the status at 4Seller before; the result's status where the answer does not show a new one.
        answer: the order as it came back; an unknown status word does not count.
    """
    state = answer.state
    relation = TABLE[call.status, state.status]
    ahead = state.known and relation in (StatusDecision.AGREE, StatusDecision.FOLLOW)
    if call.status is OrderStatus.PROCESSING:  # 4Seller's UI has its own word for it
        ahead = ahead or "".join(filter(str.isalpha, state.word.lower())) == "inprocess"
    number = answer.tracking.number if answer.tracking is not None else None
    shipment = call.shipment
    if shipment is not None and bare_number(number or "") != bare_number(shipment.tracking.number or ""):
        shipment = None
    return StatusUpdate(call.status if ahead or call.status is current else current, shipment)


A_DAY = 86_400
"""Seconds after which a refused push is retried; it counts no attempts."""
RETRY = Backoff(first=30, longest=3600, free=1)
"""The waits of a push that failed."""

_ORDERS, _LINES, _SHIPMENTS = marketplace_orders.c, marketplace_order_lines.c, order_shipments.c
PUSHED_FIELDS = (_SHIPMENTS.carrier, _SHIPMENTS.tracking_number, _SHIPMENTS.tracking_url)
"""The columns of a shipment that are pushed to 4Seller."""
_READ = (_SHIPMENTS.id, _SHIPMENTS.order_id, _SHIPMENTS.source, *PUSHED_FIELDS)


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """An order with a status or shipments that 4Seller does not know yet."""

    row_id: int
    order_id: str
    current: OrderStatus
    shop_status: str | None
    moved: bool  # the shop changed the status; else there are only shipments
    shipped: bool = False  # goods of it have left
    known: bool = False  # its lines account for shipped units
    paid_back: bool = False  # the shop has refunded it
    resolution: str | None = None  # what a person decided about its last conflict
    flagged: bool = False  # it was refused before
    shipments: tuple[ShipmentToPush, ...] = ()
    invalid: tuple[tuple[sa.Row[Any], str], ...] = ()  # shipments with an invalid number, and why

    @property
    def open(self) -> bool:
        """Whether there is something to push; else only a past refusal is checked."""
        return bool(self.moved or self.shipments or self.invalid)

    @property
    def decision(self) -> StatusDecision:
        """Which side has to change."""
        return decide(
            self.shop_status,
            self.current,
            shipped=self.shipped,
            in_time=self.known,
            resolution=self.resolution,
        )

    @property
    def goal(self) -> OrderStatus | None:
        """The shop's status as one of the contract's."""
        return OrderStatus(self.shop_status) if self.shop_status in list(OrderStatus) else None


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
    accounted = sa.and_(
        _LINES.order_id == _ORDERS.id, _LINES.allocated - _LINES.released + _LINES.returned > 0
    )
    flagged = _ORDERS.exception.contains(OrderException.REFUSED)
    query = (
        sa.select(
            _ORDERS.id,
            _ORDERS.marketplace_order_id,
            _ORDERS.local_order_id,
            _ORDERS.status,
            _ORDERS.exception,
            _ORDERS.shop_status_since,
            orders.c.status.label("shop_status"),
            _ORDERS.resolution,
            sa.exists().where(mine).label("shipped"),
            sa.exists().where(accounted).label("known"),
            (orders.c.payment_status == "refunded").label("paid_back"),
        )
        .outerjoin(orders, orders.c.id == _ORDERS.local_order_id)
        .where(_ORDERS.id > after, sa.or_(_ORDERS.shop_status_since.is_not(None), has_unpushed, flagged))
        .order_by(_ORDERS.id)
        .limit(context.settings.status_batch)
    )
    in_conflict = sa.func.coalesce(_ORDERS.exception, "").contains(OrderException.CONFLICT)
    query = query.where(~in_conflict)  # a person has to resolve it first
    if only is None:
        query = query.where(_is_due(_ORDERS.push_after, _ORDERS.push_attempts))
    else:
        query = query.where(_ORDERS.id == only)
    with context.database.reading() as connection:
        if why_stopped(connection) is not None:
            return []
        found = connection.execute(query).all()
        shipments = sa.select(*_READ).where(
            _SHIPMENTS.order_id.in_([row.local_order_id for row in found]), unpushed
        )
        rows = connection.execute(shipments.order_by(_SHIPMENTS.id)).all()
    return [_as_update(row, [one for one in rows if one.order_id == row.local_order_id]) for row in found]


def _as_update(row: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> PendingUpdate:
    valid: list[ShipmentToPush] = []
    invalid: list[tuple[sa.Row[Any], str]] = []
    for one in rows if row.status not in ENDED else ():
        try:
            shipment, remark = recorded_tracking(one)
        except BadTracking as bad:
            invalid.append((one, str(bad)))
        else:
            valid.append(ShipmentToPush(one, shipment, remark))
    return PendingUpdate(
        row.id,
        row.marketplace_order_id,
        OrderStatus(row.status),
        row.shop_status,
        row.shop_status_since is not None,
        bool(row.shipped),
        bool(row.known),
        bool(row.paid_back),
        row.resolution,
        OrderException.REFUSED in read_exceptions(row.exception),
        tuple(valid),
        tuple(invalid),
    )
