"""Changes the status of one order for the shop's code or an operator: the shop's order first, then 4Seller."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError
from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.shipments import ship_locked
from midas_pipelines.sync.orders.lookup import NoSuchOrder, find_order, read_order
from midas_pipelines.sync.orders.model.lines import OrderException, read_exceptions
from midas_pipelines.sync.orders.model.order_log import StoredOrder, lock_order
from midas_pipelines.sync.orders.model.state_machine import TABLE, StatusDecision, decide, local_status
from midas_pipelines.sync.orders.status.outbound import StatusUpdate, shown, why_not_pushed
from midas_pipelines.sync.orders.status.status_sync import order_context_of, push_statuses, record_pushed
from midas_pipelines.sync.orders.stock.units import has_shipped

IN_CONFLICT = "The order is in a conflict: resolve it first with `midas orders resolve`."


class IllegalMove(WrongInput):
    """The order's status cannot change to the requested one."""


@dataclass(frozen=True)
class StatusChanged:
    """The status of the shop's order now, and whether 4Seller knows it; `reason` says why it does not yet."""

    marketplace_order_id: str
    status: str
    pushed: bool
    reason: str | None = None


async def change_status(
    context: SyncContext,
    order_id: str,
    goal: OrderStatus | None,
    parcel: Tracking | None = None,
    units: Mapping[int, int] | None = None,
) -> StatusChanged:
    """Records the shipment, sets the status of the shop's order, and pushes both to 4Seller.

    Without a `goal` the shipment decides the status; `units` are its contents by line number, None everything left to ship.

    Raises:
        NoSuchOrder, IllegalMove, CannotShip: nothing was changed.
        BadCredentials: the shop's order is changed; the next status sync pushes it.
    """
    row = await asyncio.to_thread(_read, context, order_id)
    if row.outcome != "imported":
        raise NoSuchOrder("The order is quarantined, not imported yet: `midas orders retry` it.")
    if goal is OrderStatus.REFUNDED:
        problem = await _refund(context, row)
    else:
        await asyncio.to_thread(_move, context, row.id, goal, parcel, units)
        report = await push_statuses(context, only=row.id)
        problem = report.problems[0]["outcome"] if report.problems else None
    now = await asyncio.to_thread(_read, context, row.id)
    if OrderException.CONFLICT in read_exceptions(now.exception):
        problem = IN_CONFLICT
    pushed = now.shop_status_since is None and problem is None
    reason = None if pushed else problem or "4Seller did not accept it; see the order log."
    return StatusChanged(row.marketplace_order_id, now.shop_status or row.status, pushed, reason)


def _read(context: SyncContext, order: str | int) -> sa.Row[Any]:
    """The order with this id, or in this row of ours."""
    with context.database.reading() as connection:
        return find_order(connection, order) if isinstance(order, str) else read_order(connection, order)


def _move(
    context: SyncContext,
    order_row: int,
    goal: OrderStatus | None,
    parcel: Tracking | None,
    units: Mapping[int, int] | None,
) -> None:
    """Updates the shop's order, shipment and status in one transaction; the trigger on it marks it to be pushed."""
    with context.database.writing(asked=True) as connection:
        order = lock_order(connection, order_row, order_context_of(context))
        if parcel is not None:
            shipped = ship_locked(order, parcel, units=units, source="gateway")
            if units is not None and goal is not None and not shipped.complete:
                raise IllegalMove(
                    f"After this shipment there is more to ship, so the order is not {goal.value}: omit the status."
                )
        if goal is not None:
            _set(order, goal)


def _set(order: StoredOrder, goal: OrderStatus) -> None:
    if order.has(OrderException.CONFLICT):
        raise IllegalMove(IN_CONFLICT)
    now = order.shop_status()
    if now is None:
        raise IllegalMove("The shop has deleted its order: its status cannot be set.")
    current = OrderStatus(now) if now in list(OrderStatus) else OrderStatus.PENDING
    step = TABLE[current, goal]
    if step in (StatusDecision.PUSH, StatusDecision.CONFLICT):
        raise IllegalMove(f"The order is {current.value}; no step leads from there to {goal.value}.")
    shipped = has_shipped(order, now)
    channel, wanted = OrderStatus(order.status), local_status(goal)
    decision = decide(wanted, channel, shipped=shipped, in_time=False)
    if against := why_not_pushed(decision, wanted, channel):
        raise IllegalMove(f"The order cannot be {goal.value}: {against}.")
    if step is StatusDecision.FOLLOW:
        order.move(local_status(goal), "Through the gateway")


async def _refund(context: SyncContext, row: sa.Row[Any]) -> str | None:
    """Pushes a refund to 4Seller first; the shop's payment status is set when 4Seller shows it. Returns what went wrong."""
    current, call = OrderStatus(row.status), StatusUpdate(OrderStatus.REFUNDED)
    if TABLE[current, call.status] is not StatusDecision.FOLLOW:
        raise IllegalMove(f"The order is {row.status} already.")
    name, now = row.marketplace_order_id, datetime.now(UTC)
    try:
        async with context.channel() as client:
            answer = await client.update_order(name, status=call.status.value, at=now)
    except BadCredentials:
        raise
    except FourSellerError as failed:
        return str(failed)
    if shown(call, current, answer) != call:
        return "4Seller answered without an error but has not refunded it."
    await asyncio.to_thread(record_pushed, context, row.id, call)
    return None
