"""Moving one order on, as the shop's code or an operator asks: the shop's order first, then 4Seller is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import FourSellerError
from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.storefront.orders import set_order_status
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.order_status import Step, local_status, step
from midas_pipelines.sync.status import tell_order


class UnknownOrder(Exception):
    """No marketplace order of this id has been imported."""


class IllegalMove(Exception):
    """No way leads from where the order stands to where it should go."""


@dataclass(frozen=True)
class Moved:
    """Where an order stands now, and whether 4Seller knows; `reason` says why it does not yet."""

    status: str
    told: bool
    reason: str | None = None


async def move_order(
    engine: Engine,
    client: FourSeller,
    order_id: str,
    goal: OrderStatus,
    tracking: Tracking | None = None,
) -> Moved:
    """Sets the status of the shop's order and tells 4Seller, with the parcel where there is one.

    Raises:
        UnknownOrder: nothing was changed.
        IllegalMove: nothing was changed.
        BadCredentials: the shop's order is changed; the next status sync tells 4Seller.
    """
    standing = await asyncio.to_thread(_set, engine, order_id, goal)
    if standing is goal and tracking is not None:  # shipped already: only the parcel is news
        return await _tell_parcel(client, order_id, goal, tracking)
    report = await tell_order(engine, client, order_id, tracking)
    if report.failed or report.refused:
        reason = (
            report.preview[0]["outcome"] if report.preview else "4Seller refused it; see the order's story."
        )
        return Moved(goal.value, told=False, reason=reason)
    return Moved(goal.value, told=True)


def _set(engine: Engine, order_id: str, goal: OrderStatus) -> OrderStatus:
    """Moves the shop's order; returns where it stood. The trigger on it marks it to be told."""
    table = marketplace_orders.c
    query = (
        sa.select(table.local_order_id, orders.c.status)
        .join(orders, orders.c.id == table.local_order_id)
        .where(table.marketplace_order_id == order_id)
    )
    with engine.database.writing() as connection:
        row = connection.execute(query.with_for_update()).first()
        if row is None:
            raise UnknownOrder(f"No order {order_id[:60]} has been imported: see the list of orders.")
        standing = OrderStatus(row.status) if row.status in list(OrderStatus) else OrderStatus.PENDING
        match step(standing, goal):
            case Step.FORWARD:
                payment = "refunded" if goal is OrderStatus.REFUNDED else None
                set_order_status(
                    connection,
                    row.local_order_id,
                    status=local_status(goal),
                    notes="Through the gateway",
                    payment_status=payment,
                )
            case Step.LATE | Step.ILLEGAL:
                raise IllegalMove(f"The order is {standing.value}; no step leads from there to {goal.value}.")
    return standing


async def _tell_parcel(client: FourSeller, order_id: str, goal: OrderStatus, tracking: Tracking) -> Moved:
    try:
        await client.update_order(order_id, status=goal.value, at=datetime.now(UTC), tracking=tracking)
    except FourSellerError as failed:
        return Moved(goal.value, told=False, reason=str(failed))
    return Moved(goal.value, told=True)
