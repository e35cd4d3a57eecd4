"""Status sync: inbound updates to the shop's orders, then outbound updates to 4Seller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

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
from midas_pipelines.storefront.writing import blame, in_words, set_aside
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.shipments import count_shipments
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.orders.model.state_machine import StatusDecision
from midas_pipelines.sync.orders.status.outbound import (
    PendingUpdate,
    StatusUpdate,
    pending_updates,
    shown,
    status_updates,
)
from midas_pipelines.sync.orders.status.recording import (
    order_context_of,
    record_bad_shipment,
    record_done,
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


async def sync_statuses(context: SyncContext) -> StatusSyncReport:
    """Applies the marketplace's updates first, then pushes the shop's. Raises FourSellerError."""
    polled = await import_orders(context)
    report = await push_statuses(context, moved_on=polled.moved_on)
    report.requests += polled.requests
    return report


async def push_statuses(
    context: SyncContext, *, only: int | None = None, moved_on: int = 0
) -> StatusSyncReport:
    """Pushes every changed status and every new shipment of the shop to 4Seller; with our row in `only` those of one order
    at once. `moved_on` orders were updated just before, for the report. Raises BadCredentials."""
    report = StatusSyncReport(moved_on=moved_on)
    with logged_sync(context, "status", "to 4Seller", report) as clock:
        await asyncio.to_thread(count_shipments, context.database, order_context_of(context))
        async with context.channel() as client:
            clock.client = client
            push, after = _Push(context, client, report), 0
            while found := await asyncio.to_thread(pending_updates, context, after, only):
                after = found[-1].row.id
                report.scanned += sum(order.open for order in found)
                await asyncio.gather(*(push.alone(order) for order in found))
    return report


@dataclass(slots=True)
class _Push:
    """Pushes single orders, each in a slot of its own, and records what came of them."""

    context: SyncContext
    client: FourSeller
    report: StatusSyncReport
    slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.context.settings.in_flight)

    async def alone(self, order: PendingUpdate) -> None:
        """Pushes one order; what the shop's tables refuse of it is retried later, and stops no other order."""
        try:
            await self._order(order)
        except sa.exc.StatementError as error:
            if blame(error).of_all:
                raise
            why = f"The shop's tables refused it: {in_words(error, None)}"
            with set_aside(f"Order {order.row.marketplace_order_id}"):
                await self._problem("failed", order, why, record_failure, why)

    async def _problem(
        self, count: str, order: PendingUpdate, why: str, record: Callable[..., None], *facts: Any
    ) -> None:
        """Counts a problem as `refused` or `failed`, shows it, and has it recorded."""
        setattr(self.report, count, getattr(self.report, count) + 1)
        _show(self.report.problems, order, why)
        await asyncio.to_thread(record, self.context, order, *facts)

    async def _order(self, order: PendingUpdate) -> None:
        for shipment, why in order.invalid:
            await self._problem("refused", order, why, record_bad_shipment, why, shipment, "invalid")
        against, through = order.objection, True
        if against is not None:
            await self._problem("refused", order, against, record_objection, against)
        if against is None or order.decision is not StatusDecision.CONFLICT:  # else a person decides first
            goal = order.goal if order.moved and against is None else None
            async with self.slots:
                through = await self._calls(order, goal)
        if against is None and not order.invalid and through and (order.moved or order.flagged):
            await asyncio.to_thread(record_done, self.context, order)

    async def _calls(self, order: PendingUpdate, goal: OrderStatus | None) -> bool:
        """Makes the calls, and records what 4Seller's answers show; False when one has to be retried.

        A status that the answer does not show does not stop later ones: 4Seller may show only the last step.
        """
        reached, untaken, pushed, refund = order.current, "", 0, order.refund and order.moved
        try:
            while calls := status_updates(
                reached, goal, order.shipments, refund=refund and reached is not OrderStatus.REFUNDED
            ):
                call, shipment = calls[0], calls[0].shipment
                left = tuple(one for one in order.shipments if one is not shipment)
                try:
                    taken, word = await self._send(order, call)
                except BadItem as bad:
                    if shipment is None:
                        raise
                    # the status and the other shipments are still pushed
                    why = str(bad)
                    await self._problem(
                        "refused", order, why, record_bad_shipment, why, shipment.row, "refused"
                    )
                    order = replace(order, shipments=left)
                    continue
                await asyncio.to_thread(record_pushed, self.context, order.row.id, taken)
                same = taken.status is call.status
                accepted = f"4Seller accepted {call.status.value} without an error but shows {word}."
                untaken = "" if same else accepted
                if shipment is not None and taken.shipment is None:
                    number = shipment.tracking.number
                    why = f"4Seller answered without an error but does not show the shipment {number}."
                    await self._problem(
                        "failed", order, why, record_bad_shipment, why, shipment.row, "untaken"
                    )
                self.report.parcels += taken.shipment is not None
                pushed += same
                reached, order = call.status, replace(order, current=taken.status, shipments=left)
        except BadCredentials:
            raise
        except NotSent:  # shadow mode: it stays as it is, and due
            return False
        except (BadItem, Conflict, NotFound) as refused:
            await self._problem("refused", order, str(refused), record_refusal, str(refused))
            return False
        except FourSellerError as failed:  # stays marked; a later run retries it
            await self._problem("failed", order, str(failed), record_failure, None)
            return False
        if untaken:
            await self._problem("failed", order, untaken, record_failure, untaken)
            return False
        if pushed:
            self.report.pushed += 1
            _show(self.report.preview, order, "pushed")
        return True

    async def _send(self, order: PendingUpdate, call: StatusUpdate) -> tuple[StatusUpdate, str]:
        """Makes one call; returns the part that 4Seller shows, and its status word. Reads the order again where the answer
        does not show all of the call."""
        tracking = call.shipment.tracking if call.shipment is not None else None
        name, now = order.row.marketplace_order_id, datetime.now(UTC)
        answer = await self.client.update_order(name, status=call.status.value, at=now, tracking=tracking)
        if shown(call, order.current, answer) != call:
            answer = await self.client.order(name)
        return shown(call, order.current, answer), answer.state.word or "no status"


def _show(rows: list[dict[str, str]], order: PendingUpdate, outcome: str) -> None:
    if len(rows) < PREVIEW:
        row = order.row
        rows.append({"order": row.marketplace_order_id, "status": row.shop_status or "", "outcome": outcome})
