"""Status sync, both ways: what the marketplace reports to the shop, what the shop has done to the marketplace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, BadItem, Conflict, FourSellerError, NotFound
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.claims import delay_seconds
from midas_pipelines.store.shipment_tables import order_shipments
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders.carriers import BadTracking, tracking
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.confirmations import queue_mail
from midas_pipelines.sync.orders.giving_back import give_back
from midas_pipelines.sync.orders.mail_rules import mail_rules
from midas_pipelines.sync.orders.polling import import_orders
from midas_pipelines.sync.orders.shipments import count_shipments, lock_order
from midas_pipelines.sync.orders.statuses import Step, step
from midas_pipelines.sync.orders.telling import Message, Parcel, messages
from midas_pipelines.sync.record import recorded

REFUSED_WAIT_SECONDS = 86_400
_ORDERS, _PARCELS = marketplace_orders.c, order_shipments.c


@dataclass
class StatusReport:
    """What a status sync did; counts of orders, but for parcels."""

    scanned: int = 0  # orders of which 4Seller has to be told something
    told: int = 0
    parcels: int = 0  # parcels told
    refused: int = 0  # moves that no way leads to; a person decides
    moved_on: int = 0  # orders the marketplace moved on
    failed: int = 0
    requests: int = 0
    seconds: float = 0.0
    preview: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An order that the shop moved on, or of which parcels left, and 4Seller does not know yet."""

    row_id: int
    order_id: str
    standing: OrderStatus
    shop_status: str | None
    moved: bool  # the shop changed the status; else there are only parcels
    parcels: tuple[Parcel, ...] = ()

    @property
    def goal(self) -> OrderStatus | None:
        """The shop's status as one of the contract's."""
        return OrderStatus(self.shop_status) if self.shop_status in list(OrderStatus) else None


async def sync_statuses(engine: Engine) -> StatusReport:
    """Follows the marketplace first, then tells it what the shop did.

    Raises:
        BadCredentials: the key or the seller id is wrong.
        FourSellerError: 4Seller's orders could not be read.
    """
    polled = await import_orders(engine)
    report = await tell_marketplace(engine)
    report.moved_on = polled.moved_on
    report.requests += polled.requests
    return report


async def tell_marketplace(engine: Engine, *, kind: str = "status") -> StatusReport:
    """Tells 4Seller of every status that the shop changed and every parcel that left.

    Args:
        engine: the shop's database, settings and channel.
        kind: under which it is written to `fourseller_sync_logs`.

    Raises:
        BadCredentials: the key or the seller id is wrong.
    """
    report = StatusReport()
    with recorded(engine, kind, "to 4Seller", report) as clock:
        await asyncio.to_thread(count_shipments, engine.database, _clerk(engine))
        waiting = await asyncio.to_thread(_waiting, engine)
        report.scanned = len(waiting)
        async with engine.channel() as client:
            clock.client = client
            slots = asyncio.Semaphore(engine.settings.in_flight)
            await asyncio.gather(*(_tell(engine, client, order, slots, report) for order in waiting))
    return report


def _clerk(engine: Engine) -> Clerk:
    return Clerk(engine.run_id, mail=mail_rules(engine.settings))


def _waiting(engine: Engine) -> list[Waiting]:
    due = sa.or_(_PARCELS.next_attempt_at.is_(None), _PARCELS.next_attempt_at <= utc_now())
    untold = sa.and_(_PARCELS.told_at.is_(None), _PARCELS.counted_at.is_not(None), due)
    has_parcels = sa.exists().where(_PARCELS.order_id == _ORDERS.local_order_id, untold)
    query = (
        sa.select(
            _ORDERS.id,
            _ORDERS.marketplace_order_id,
            _ORDERS.local_order_id,
            _ORDERS.status,
            _ORDERS.shop_status_since,
            orders.c.status.label("shop_status"),
        )
        .join(orders, orders.c.id == _ORDERS.local_order_id)
        .where(sa.or_(_ORDERS.shop_status_since.is_not(None), has_parcels))
        .order_by(_ORDERS.id)
        .limit(engine.settings.batch)
    )
    with engine.database.reading() as connection:
        found = connection.execute(query).all()
        parcels = sa.select(order_shipments).where(
            _PARCELS.order_id.in_([row.local_order_id for row in found]), untold
        )
        rows = connection.execute(parcels.order_by(_PARCELS.id)).all()
    sound = _sound_parcels(engine, found, rows)
    return [
        Waiting(
            row.id,
            row.marketplace_order_id,
            OrderStatus(row.status),
            row.shop_status,
            row.shop_status_since is not None,
            tuple(sound.get(row.local_order_id, ())),
        )
        for row in found
        if row.shop_status_since is not None or row.local_order_id in sound
    ]


def _sound_parcels(
    engine: Engine, found: Sequence[sa.Row[Any]], rows: Sequence[sa.Row[Any]]
) -> dict[int, list[Parcel]]:
    """The parcels by shop order; one whose number cannot be right stays untold, and the order says why."""
    names = {row.local_order_id: row.marketplace_order_id for row in found}
    sound: dict[int, list[Parcel]] = {}
    for row in rows:
        try:
            anyway = row.source != "shop"  # whoever recorded it has been asked already
            parcel = tracking(
                row.carrier or "", row.tracking_number or "", url=row.tracking_url, anyway=anyway
            )
        except BadTracking as bad:
            with engine.database.writing() as connection:
                _delay(connection, row.id, str(bad), 0)
                clerk = _clerk(engine)
                clerk.log_once(connection, names[row.order_id], "tracking_refused", str(bad))
        else:
            sound.setdefault(row.order_id, []).append(Parcel(row.id, parcel))
    return sound


async def _tell(
    engine: Engine, client: FourSeller, order: Waiting, slots: asyncio.Semaphore, report: StatusReport
) -> None:
    calls = messages(order.standing, order.goal if order.moved else None, order.parcels)
    late = order.goal is None or step(order.standing, order.goal) not in (Step.FORWARD, Step.SAME)
    if order.moved and late:
        report.refused += 1
        await asyncio.to_thread(_note_refusal, engine, order, "no step leads there")
    async with slots:
        try:
            for call in calls:
                parcel = call.parcel.tracking if call.parcel is not None else None
                now = datetime.now(UTC)
                await client.update_order(order.order_id, status=call.status.value, at=now, tracking=parcel)
                await asyncio.to_thread(_note_told, engine, order, call)
                report.parcels += parcel is not None
        except BadCredentials:
            raise
        except (Conflict, NotFound, BadItem) as refused:
            report.refused += 1
            await asyncio.to_thread(_note_refusal, engine, order, str(refused))
        except FourSellerError as failed:  # stays marked; the next run tells it again
            report.failed += 1
            await asyncio.to_thread(_note_failure, engine, order, str(failed))
            report.preview.append(_row(order, str(failed)))
        else:
            if calls:
                report.told += 1
                report.preview.append(_row(order, "told"))
            await asyncio.to_thread(_take_mark_off, engine, order)


def _row(order: Waiting, outcome: str) -> dict[str, str]:
    return {"order": order.order_id, "status": order.shop_status or "", "outcome": outcome}


def _note_told(engine: Engine, order: Waiting, call: Message) -> None:
    """4Seller has confirmed one call: our row says so, and what follows from it is done."""
    clerk = _clerk(engine)
    with engine.database.writing() as connection:
        row = lock_order(connection, order.row_id)
        standing = OrderStatus(row.status)
        if step(standing, call.status) is Step.FORWARD:
            values = {"status": call.status.value, "status_word": call.status.value}
            connection.execute(sa.update(marketplace_orders).where(_ORDERS.id == order.row_id).values(values))
            detail = f"The shop's {standing.value} → {call.status.value} was told to 4Seller."
            clerk.log(connection, order.order_id, call.status.value, detail)
            if call.status is OrderStatus.CANCELLED:
                give_back(connection, order.row_id, order.order_id, "cancelled", clerk)
                queue_mail(connection, row, "cancelled", clerk.mail)
        if call.parcel is not None:
            told = sa.update(order_shipments).where(_PARCELS.id == call.parcel.shipment_id)
            connection.execute(told.values(told_at=utc_now(), reason=None))
            number = f"{call.parcel.tracking.carrier} {call.parcel.tracking.number}"
            clerk.log(connection, order.order_id, "tracking_told", f"4Seller knows the parcel {number}.")


def _take_mark_off(engine: Engine, order: Waiting) -> None:
    """The shop's status is settled, unless the shop has changed it again meanwhile."""
    if not order.moved:
        return
    with engine.database.writing() as connection:
        _unmark(connection, order)


def _unmark(connection: sa.Connection, order: Waiting) -> None:
    same = sa.exists().where(orders.c.id == _ORDERS.local_order_id, orders.c.status == order.shop_status)
    statement = sa.update(marketplace_orders).where(_ORDERS.id == order.row_id, same)
    connection.execute(statement.values(shop_status_since=None))


def _note_refusal(engine: Engine, order: Waiting, why: str) -> None:
    detail = (
        f"The shop says {order.shop_status}, 4Seller has {order.standing.value}: {why.rstrip('.')}. "
        "A person has to decide."
    )
    with engine.database.writing() as connection:
        if order.moved:
            _unmark(connection, order)
        for parcel in order.parcels:
            _delay(connection, parcel.shipment_id, why, REFUSED_WAIT_SECONDS)
        _clerk(engine).log_once(connection, order.order_id, "refused_transition", detail)


def _note_failure(engine: Engine, order: Waiting, why: str) -> None:
    with engine.database.writing() as connection:
        for parcel in order.parcels:
            query = sa.select(_PARCELS.attempts).where(
                _PARCELS.id == parcel.shipment_id, _PARCELS.told_at.is_(None)
            )
            attempts = connection.scalar(query)
            if attempts is not None:
                _delay(connection, parcel.shipment_id, why, int(delay_seconds(attempts + 1)))


def _delay(connection: sa.Connection, shipment_id: int, why: str, seconds: int) -> None:
    values: dict[str, Any] = {"reason": why, "attempts": _PARCELS.attempts + 1}
    values["next_attempt_at"] = utc_now(seconds) if seconds else None
    statement = sa.update(order_shipments).where(_PARCELS.id == shipment_id, _PARCELS.told_at.is_(None))
    connection.execute(statement.values(values))
