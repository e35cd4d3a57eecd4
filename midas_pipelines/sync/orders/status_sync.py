"""Status sync, both ways: what the marketplace reports to the shop, what the shop has done to the marketplace."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, Conflict, FourSellerError, NotFound
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.giving_back import give_back
from midas_pipelines.sync.orders.polling import import_orders
from midas_pipelines.sync.orders.statuses import path
from midas_pipelines.sync.record import recorded


@dataclass
class StatusReport:
    """What a status sync did; counts of orders."""

    scanned: int = 0  # orders whose status the shop had changed
    told: int = 0
    refused: int = 0  # moves that no way leads to; a person decides
    moved_on: int = 0  # orders the marketplace moved on
    failed: int = 0
    requests: int = 0
    seconds: float = 0.0
    preview: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An order whose status the shop changed and 4Seller does not know yet."""

    row_id: int
    order_id: str
    standing: OrderStatus
    shop_status: str


async def sync_statuses(engine: Engine) -> StatusReport:
    """Follows the marketplace first, then tells it what the shop did.

    Raises:
        BadCredentials: the key or the seller id is wrong.
        FourSellerError: 4Seller's orders could not be read.
    """
    polled = await import_orders(engine)
    report = StatusReport(moved_on=polled.moved_on)
    with recorded(engine, "status", "both ways", report) as clock:
        waiting = _waiting(engine)
        report.scanned = len(waiting)
        async with engine.channel() as client:
            clock.client = client
            slots = asyncio.Semaphore(engine.settings.in_flight)
            await asyncio.gather(*(_tell(engine, client, order, slots, report) for order in waiting))
    report.requests += polled.requests
    return report


def _waiting(engine: Engine) -> list[Waiting]:
    table = marketplace_orders.c
    query = (
        sa.select(table.id, table.marketplace_order_id, table.status, orders.c.status.label("shop_status"))
        .join(orders, orders.c.id == table.local_order_id)
        .where(table.shop_status_since.is_not(None))
        .order_by(table.id)
        .limit(engine.settings.batch)
    )
    with engine.database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        Waiting(row.id, row.marketplace_order_id, OrderStatus(row.status), row.shop_status) for row in rows
    ]


async def _tell(
    engine: Engine, client: FourSeller, order: Waiting, slots: asyncio.Semaphore, report: StatusReport
) -> None:
    goal = OrderStatus(order.shop_status) if order.shop_status in list(OrderStatus) else None
    moves = path(order.standing, goal) if goal is not None else []
    if not moves:
        report.refused += order.shop_status != order.standing.value
        await asyncio.to_thread(_settle, engine, order, None)
        return
    async with slots:
        try:
            for move in moves:
                await client.update_order(order.order_id, status=move.value, at=datetime.now(UTC))
        except BadCredentials:
            raise
        except (Conflict, NotFound) as refused:
            report.refused += 1
            await asyncio.to_thread(_settle, engine, order, None, str(refused))
        except FourSellerError as failed:  # stays marked; the next run tells it again
            report.failed += 1
            report.preview.append(
                {"order": order.order_id, "status": order.shop_status, "outcome": str(failed)}
            )
        else:
            report.told += 1
            await asyncio.to_thread(_settle, engine, order, goal)
            report.preview.append({"order": order.order_id, "status": order.shop_status, "outcome": "told"})


def _settle(engine: Engine, order: Waiting, reached: OrderStatus | None, why: str | None = None) -> None:
    """Takes the mark off, unless the shop has changed the order again meanwhile, and notes what happened."""
    table, clerk = marketplace_orders.c, Clerk(engine.run_id)
    with engine.database.writing() as connection:
        now = connection.scalar(
            sa.select(orders.c.status)
            .join(marketplace_orders, table.local_order_id == orders.c.id)
            .where(table.id == order.row_id)
        )
        values: dict[str, Any] = {"shop_status_since": None} if now == order.shop_status else {}
        if reached is not None:
            values |= {"status": reached.value, "status_word": reached.value}
        if values:
            connection.execute(sa.update(marketplace_orders).where(table.id == order.row_id).values(values))
        clerk.log(connection, order.order_id, *_story(order, reached, why))
        if reached is OrderStatus.CANCELLED:
            give_back(connection, order.row_id, order.order_id, "cancelled", clerk)


def _story(order: Waiting, reached: OrderStatus | None, why: str | None) -> tuple[str, str]:
    if reached is not None:
        return reached.value, f"The shop's {order.standing.value} → {reached.value} was told to 4Seller."
    if order.shop_status == order.standing.value:
        return "unchanged", f"4Seller has the order as {order.standing.value} already."
    reason = why or "no step leads there"
    detail = f"The shop says {order.shop_status}, 4Seller has {order.standing.value}: {reason}. A person has to decide."
    return "refused_transition", detail
