"""Status sync, both ways: what the marketplace reports to the shop, what the shop has done to the marketplace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, BadItem, Conflict, FourSellerError, NotFound
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders.noting import (
    A_DAY,
    clerk_of,
    close,
    note_bad_parcel,
    note_failure,
    note_objection,
    note_refusal,
    note_told,
)
from midas_pipelines.sync.orders.polling import import_orders
from midas_pipelines.sync.orders.shipments import count_shipments
from midas_pipelines.sync.orders.telling import Message, Objection, messages, objection
from midas_pipelines.sync.orders.waiting_orders import Waiting, waiting_orders
from midas_pipelines.sync.record import recorded

PREVIEW = 50


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
    problems: list[dict[str, str]] = field(default_factory=list)

    def note(self, order: Waiting, outcome: str, *, problem: bool = False) -> None:
        """Adds a line to the preview, or to what needs a look."""
        row = {"order": order.order_id, "status": order.shop_status or "", "outcome": outcome}
        shown = self.problems if problem else self.preview
        if len(shown) < PREVIEW:
            shown.append(row)


async def sync_statuses(engine: Engine) -> StatusReport:
    """Follows the marketplace first, then tells it what the shop did.

    Raises:
        BadCredentials: the key or the seller id is wrong.
        FourSellerError: 4Seller's orders could not be read.
    """
    polled = await import_orders(engine)
    report = await tell_marketplace(engine, moved_on=polled.moved_on)
    report.requests += polled.requests
    return report


async def tell_marketplace(
    engine: Engine, *, kind: str = "status", only: int | None = None, moved_on: int = 0
) -> StatusReport:
    """Tells 4Seller of every status that the shop changed and every parcel that left.

    Args:
        engine: the shop's database, settings and channel.
        kind: under which it is written to `fourseller_sync_logs`.
        only: our row of the one order to tell of, at once; None for all that are due.
        moved_on: how many orders the marketplace moved on just before, for the report.

    Raises:
        BadCredentials: the key or the seller id is wrong.
    """
    report = StatusReport(moved_on=moved_on)
    with recorded(engine, kind, "to 4Seller", report) as clock:
        await asyncio.to_thread(count_shipments, engine.database, clerk_of(engine))
        async with engine.channel() as client:
            clock.client = client
            slots, after = asyncio.Semaphore(engine.settings.in_flight), 0
            while found := await asyncio.to_thread(waiting_orders, engine, after, only):
                after = found[-1].row_id
                report.scanned += sum(order.open for order in found)
                await asyncio.gather(*(_tell(engine, client, order, slots, report) for order in found))
    return report


async def _tell(
    engine: Engine, client: FourSeller, order: Waiting, slots: asyncio.Semaphore, report: StatusReport
) -> None:
    for shipment_id, why in order.unsound:
        report.refused += 1
        report.note(order, why, problem=True)
        await asyncio.to_thread(note_bad_parcel, engine, order, shipment_id, why)
    against = _objection(order) if order.moved else None
    through = True
    if against is not None:
        report.refused += 1
        report.note(order, against.why, problem=True)
        await asyncio.to_thread(note_objection, engine, order, against)
    if against is None or not against.conflict:  # in a conflict nothing is told before a person has decided
        calls = messages(order.standing, order.goal if order.moved and not against else None, order.parcels)
        async with slots:
            through = await _call(engine, client, order, calls, report)
    if against is None and not order.unsound and through:
        await asyncio.to_thread(close, engine, order)


def _objection(order: Waiting) -> Objection | None:
    return objection(
        order.standing, order.shop_status, left=order.left, known=order.known, settled=order.settled
    )


async def _call(
    engine: Engine, client: FourSeller, order: Waiting, calls: Sequence[Message], report: StatusReport
) -> bool:
    """Makes the calls; False when one has to be made again later."""
    call: Message | None = None
    try:
        for call in calls:
            parcel = call.parcel.tracking if call.parcel is not None else None
            now = datetime.now(UTC)
            await client.update_order(order.order_id, status=call.status.value, at=now, tracking=parcel)
            await asyncio.to_thread(note_told, engine, order, call)
            report.parcels += parcel is not None
    except BadCredentials:
        raise
    except BadItem as bad:
        report.refused += 1
        report.note(order, str(bad), problem=True)
        if call is None or call.parcel is None:
            await asyncio.to_thread(note_refusal, engine, order, str(bad))
            return False
        refused = call.parcel.shipment_id  # the status and the other parcels are told all the same
        await asyncio.to_thread(note_bad_parcel, engine, order, refused, str(bad), wait=A_DAY)
        rest = tuple(one for one in order.parcels if one.shipment_id != refused)
        done = calls[: calls.index(call)]
        standing = done[-1].status if done else order.standing
        told = {one.parcel.shipment_id for one in done if one.parcel is not None}
        left = replace(
            order,
            standing=standing,
            parcels=tuple(one for one in rest if one.shipment_id not in told),
        )
        goal = left.goal if left.moved else None
        return await _call(engine, client, left, messages(standing, goal, left.parcels), report)
    except (Conflict, NotFound) as refused_by:
        report.refused += 1
        report.note(order, str(refused_by), problem=True)
        await asyncio.to_thread(note_refusal, engine, order, str(refused_by))
        return False
    except FourSellerError as failed:  # stays marked; a later run tells it again
        report.failed += 1
        report.note(order, str(failed), problem=True)
        await asyncio.to_thread(note_failure, engine, order)
        return False
    if calls:
        report.told += 1
        report.note(order, "told")
    return True
