"""Status sync: inbound updates to the shop's orders, then outbound updates to 4Seller."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import (
    BadCredentials,
    BadItem,
    Conflict,
    FourSellerError,
    NotFound,
    NotSent,
)
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.storefront.refusals import blame, in_words, set_aside
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.shipments import count_shipments
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.orders.model.state_machine import SHIPPED_STATES, StatusDecision
from midas_pipelines.sync.orders.status.outbound import (
    A_DAY,
    PendingUpdate,
    StatusUpdate,
    pending_updates,
    shown,
    status_updates,
    why_not_pushed,
)
from midas_pipelines.sync.orders.status.recording import (
    close,
    order_context_of,
    record_bad_shipment,
    record_failure,
    record_objection,
    record_pushed,
    record_refusal,
)
from midas_pipelines.sync.sync_log import logged_sync

PREVIEW = 50


@dataclass
class StatusSyncReport:
    """The result of a status sync; counts of orders, except `parcels`."""

    scanned: int = 0  # orders with something to push
    pushed: int = 0
    parcels: int = 0  # shipments pushed
    refused: int = 0  # statuses that cannot be pushed; a person decides
    moved_on: int = 0  # orders that the marketplace updated
    failed: int = 0
    requests: int = 0
    seconds: float = 0.0
    preview: list[dict[str, str]] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)

    def note(self, order: PendingUpdate, outcome: str, *, problem: bool = False) -> None:
        """Adds a row to the preview, or to the problems."""
        row = {"order": order.order_id, "status": order.shop_status or "", "outcome": outcome}
        shown = self.problems if problem else self.preview
        if len(shown) < PREVIEW:
            shown.append(row)


async def sync_statuses(context: SyncContext) -> StatusSyncReport:
    """Applies the marketplace's updates first, then pushes the shop's.

    Raises:
        BadCredentials: the key or the seller id is wrong.
        FourSellerError: 4Seller's orders could not be read.
    """
    polled = await import_orders(context)
    report = await push_statuses(context, moved_on=polled.moved_on)
    report.requests += polled.requests
    return report


async def push_statuses(
    context: SyncContext, *, only: int | None = None, moved_on: int = 0
) -> StatusSyncReport:
    """Pushes every changed status and every new shipment of the shop to 4Seller.

    Args:
        only: our row of the one order to push at once; None for all that are due.
        moved_on: how many orders the marketplace updated just before, for the report.

    Raises:
        BadCredentials: the key or the seller id is wrong.
    """
    report = StatusSyncReport(moved_on=moved_on)
    with logged_sync(context, "status", "to 4Seller", report) as clock:
        await asyncio.to_thread(count_shipments, context.database, order_context_of(context))
        async with context.channel() as client:
            clock.client = client
            slots, after = asyncio.Semaphore(context.settings.in_flight), 0
            while found := await asyncio.to_thread(pending_updates, context, after, only):
                after = found[-1].row_id
                report.scanned += sum(order.open for order in found)
                await asyncio.gather(*(_push_alone(context, client, order, slots, report) for order in found))
    return report


async def _push_alone(
    context: SyncContext,
    client: FourSeller,
    order: PendingUpdate,
    slots: asyncio.Semaphore,
    report: StatusSyncReport,
) -> None:
    """Pushes one order; what the shop's tables refuse of it is retried later, and stops no other order."""
    try:
        await _push_order(context, client, order, slots, report)
    except sa.exc.StatementError as error:
        if blame(error).of_all:
            raise
        why = f"The shop's tables refused it: {in_words(error, None)}"
        report.failed += 1
        report.note(order, why, problem=True)
        with set_aside(f"Order {order.order_id}"):
            await asyncio.to_thread(record_failure, context, order, why)


async def _push_order(
    context: SyncContext,
    client: FourSeller,
    order: PendingUpdate,
    slots: asyncio.Semaphore,
    report: StatusSyncReport,
) -> None:
    for shipment, why in order.invalid:
        report.refused += 1
        report.note(order, why, problem=True)
        await asyncio.to_thread(record_bad_shipment, context, order, shipment, why)
    against = _objection(order) if order.moved else None
    conflict = against is not None and order.decision is StatusDecision.CONFLICT
    through = True
    if against is not None:
        report.refused += 1
        report.note(order, against, problem=True)
        await asyncio.to_thread(record_objection, context, order, against)
    if not conflict:  # in a conflict nothing is pushed before a person decides
        goal = order.goal if order.moved and not against else None
        async with slots:
            through = await _push(context, client, order, goal, report)
    if against is None and not order.invalid and through:
        await asyncio.to_thread(close, context, order)


def _objection(order: PendingUpdate) -> str | None:
    """Why the shop's status is not pushed; None when it may be."""
    refund = order.paid_back and order.current is not OrderStatus.REFUNDED
    if refund and order.goal not in SHIPPED_STATES:  # the refund replaces any other status
        return None
    return why_not_pushed(order.decision, order.shop_status, order.current)


async def _push(
    context: SyncContext,
    client: FourSeller,
    order: PendingUpdate,
    goal: OrderStatus | None,
    report: StatusSyncReport,
) -> bool:
    """Makes the calls, and records what 4Seller's answers show; False when one has to be retried.

    A status that the answer does not show does not stop later ones: 4Seller may show only the last step.
    """
    reached, untaken, pushed = order.current, "", 0
    try:
        while calls := _calls(order, reached, goal):
            call = calls[0]
            shipments = tuple(one for one in order.shipments if one is not call.shipment)
            try:
                taken, word = await _send(client, order, call)
            except BadItem as bad:
                if call.shipment is None:
                    raise
                # the status and the other shipments are still pushed
                report.note(order, str(bad), problem=True)
                row = call.shipment.row
                await asyncio.to_thread(record_bad_shipment, context, order, row, str(bad), wait=A_DAY)
                report.refused += 1
                order = replace(order, shipments=shipments)
                continue
            await asyncio.to_thread(record_pushed, context, order, taken)
            same = taken.status is call.status
            untaken = (
                "" if same else f"4Seller accepted {call.status.value} without an error but shows {word}."
            )
            if call.shipment is not None and taken.shipment is None:
                why = f"4Seller answered without an error but does not show the shipment {call.shipment.tracking.number}."
                report.note(order, why, problem=True)
                row = call.shipment.row
                await asyncio.to_thread(record_bad_shipment, context, order, row, why, untaken=True)
                report.failed += 1
            report.parcels += taken.shipment is not None
            pushed += same
            reached, order = call.status, replace(order, current=taken.status, shipments=shipments)
    except BadCredentials:
        raise
    except (BadItem, Conflict, NotFound) as refused_by:
        report.refused += 1
        report.note(order, str(refused_by), problem=True)
        await asyncio.to_thread(record_refusal, context, order, str(refused_by))
        return False
    except NotSent:  # shadow mode: it stays as it is, and due
        return False
    except FourSellerError as failed:  # stays marked; a later run retries it
        report.failed += 1
        report.note(order, str(failed), problem=True)
        await asyncio.to_thread(record_failure, context, order)
        return False
    if untaken:
        report.failed += 1
        report.note(order, untaken, problem=True)
        await asyncio.to_thread(record_failure, context, order, untaken)
        return False
    if pushed:
        report.pushed += 1
        report.note(order, "pushed")
    return True


def _calls(order: PendingUpdate, reached: OrderStatus, goal: OrderStatus | None) -> list[StatusUpdate]:
    refund = order.paid_back and order.moved and reached is not OrderStatus.REFUNDED
    return status_updates(reached, goal, order.shipments, refund=refund)


async def _send(client: FourSeller, order: PendingUpdate, call: StatusUpdate) -> tuple[StatusUpdate, str]:
    """Makes one call; returns the part that 4Seller shows, and its status word. Reads the order again where the answer does
    not show all of the call."""
    tracking = call.shipment.tracking if call.shipment is not None else None
    now = datetime.now(UTC)
    answer = await client.update_order(order.order_id, status=call.status.value, at=now, tracking=tracking)
    if shown(call, order.current, answer) != call:
        answer = await client.order(order.order_id)
    return shown(call, order.current, answer), answer.state.word or "no status"
