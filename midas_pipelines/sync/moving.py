"""Moving one order on, as the shop's code or an operator asks: the shop's order first, then 4Seller is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.storefront.orders import set_order_status
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.lookup import NoSuchOrder, find_order
from midas_pipelines.sync.orders.mail_rules import mail_rules
from midas_pipelines.sync.orders.shipments import lock_order, ship
from midas_pipelines.sync.orders.status_sync import tell_marketplace
from midas_pipelines.sync.orders.statuses import Step, local_status, step


class IllegalMove(Exception):
    """No way leads from where the order stands to where it should go."""


@dataclass(frozen=True)
class Moved:
    """Where the shop's order stands now, and whether 4Seller knows; `reason` says why it does not yet."""

    marketplace_order_id: str
    status: str
    told: bool
    reason: str | None = None


async def move_order(
    engine: Engine, order_id: str, goal: OrderStatus | None, parcel: Tracking | None = None
) -> Moved:
    """Records the parcel, sets the status of the shop's order, and tells 4Seller of both.

    Args:
        engine: settings, database, run.
        order_id: the marketplace's, the order number or the shop's own id.
        goal: where it should go; None leaves that to the parcel.
        parcel: as `carriers.tracking` makes it; everything that is left to ship is in it.

    Raises:
        NoSuchOrder, IllegalMove, CannotShip: nothing was changed.
        BadCredentials: the shop's order is changed; the next status sync tells 4Seller.
    """
    row = await asyncio.to_thread(_find, engine, order_id)
    if parcel is not None:
        clerk = Clerk(engine.run_id, mail=mail_rules(engine.settings))
        await asyncio.to_thread(ship, engine.database, row.id, parcel, clerk, source="gateway")
    if goal is not None:
        await asyncio.to_thread(_set, engine, row, goal)
    report = await tell_marketplace(engine)
    told = {one["order"]: one["outcome"] for one in report.preview}
    return await asyncio.to_thread(_standing, engine, row, told.get(row.marketplace_order_id))


def _find(engine: Engine, order_id: str) -> sa.Row[Any]:
    with engine.database.reading() as connection:
        row = find_order(connection, order_id)
    if row.local_order_id is None:
        raise NoSuchOrder("The order was set aside and is no order of the shop yet: `midas orders retry` it.")
    return row


def _set(engine: Engine, row: sa.Row[Any], goal: OrderStatus) -> None:
    """Moves the shop's order; the trigger on it marks it to be told."""
    with engine.database.writing() as connection:
        lock_order(connection, row.id)
        now = connection.scalar(sa.select(orders.c.status).where(orders.c.id == row.local_order_id))
        standing = OrderStatus(now) if now in list(OrderStatus) else OrderStatus.PENDING
        way = step(standing, goal)
        if way in (Step.LATE, Step.ILLEGAL):
            raise IllegalMove(f"The order is {standing.value}; no step leads from there to {goal.value}.")
        if way is Step.FORWARD:
            set_order_status(
                connection,
                row.local_order_id,
                status=local_status(goal),
                notes="Through the gateway",
                payment_status="refunded" if goal is OrderStatus.REFUNDED else None,
            )


def _standing(engine: Engine, row: sa.Row[Any], outcome: str | None) -> Moved:
    table = marketplace_orders.c
    query = (
        sa.select(orders.c.status, table.shop_status_since)
        .join(marketplace_orders, table.local_order_id == orders.c.id)
        .where(table.id == row.id)
    )
    with engine.database.reading() as connection:
        now = connection.execute(query).one()
    told = now.shop_status_since is None and outcome in (None, "told")
    reason = None if told else outcome or "4Seller did not take it; see the order's story."
    return Moved(row.marketplace_order_id, now.status, told, reason)
