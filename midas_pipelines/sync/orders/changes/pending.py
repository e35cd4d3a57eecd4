"""Pending updates: statuses and shipments of the shop that are to be pushed to 4Seller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.backoff import Backoff, is_due
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.outbound import ShipmentToPush
from midas_pipelines.sync.orders.model import exceptions
from midas_pipelines.sync.orders.model.carriers import BadTracking, recorded_tracking
from midas_pipelines.sync.orders.model.exceptions import OrderException
from midas_pipelines.sync.orders.model.state_machine import ENDED, StatusDecision, decide

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
    invalid: tuple[tuple[int, str], ...] = ()  # shipments with an invalid number, and why
    rows: Mapping[int, sa.Row[Any]] = field(default_factory=dict)  # of all these shipments, as read

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
    """The next orders with something to push, by our row."""
    due = _is_due(_SHIPMENTS.next_attempt_at, _SHIPMENTS.attempts)
    unpushed = sa.and_(_SHIPMENTS.pushed_at.is_(None), _SHIPMENTS.booked_at.is_not(None), due)
    mine = _SHIPMENTS.order_id == _ORDERS.local_order_id
    has_unpushed = sa.and_(sa.exists().where(mine, unpushed), _ORDERS.status.not_in(ENDED))
    accounted = sa.and_(
        _LINES.order_id == _ORDERS.id, _LINES.allocated - _LINES.released + _LINES.returned > 0
    )
    flagged = _ORDERS.exception.contains(OrderException.REFUSED.value)
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
    in_conflict = sa.func.coalesce(_ORDERS.exception, "").contains(OrderException.CONFLICT.value)
    query = query.where(~in_conflict)  # a person has to resolve it first
    if only is None:
        query = query.where(_is_due(_ORDERS.push_after, _ORDERS.push_attempts))
    else:
        query = query.where(_ORDERS.id == only)
    with context.database.reading() as connection:
        found = connection.execute(query).all()
        shipments = sa.select(*_READ).where(
            _SHIPMENTS.order_id.in_([row.local_order_id for row in found]), unpushed
        )
        rows = connection.execute(shipments.order_by(_SHIPMENTS.id)).all()
    return [_as_update(row, [one for one in rows if one.order_id == row.local_order_id]) for row in found]


def _as_update(row: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> PendingUpdate:
    valid: list[ShipmentToPush] = []
    invalid: list[tuple[int, str]] = []
    for one in rows if row.status not in ENDED else ():
        try:
            shipment, remark = recorded_tracking(one)
        except BadTracking as bad:
            invalid.append((one.id, str(bad)))
        else:
            valid.append(ShipmentToPush(one.id, shipment, remark))
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
        OrderException.REFUSED.value in exceptions.read(row.exception),
        tuple(valid),
        tuple(invalid),
        {one.id: one for one in rows},
    )
