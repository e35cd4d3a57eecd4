"""Status sync: the marketplace's updates of the shop's orders, then the shop's of 4Seller; or one order that somebody changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError, WrongInput
from midas_pipelines.fourseller import errors
from midas_pipelines.fourseller import status as statuses
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.status import ENDED, TABLE, OrderStatus, StatusDecision
from midas_pipelines.storefront.writing import blame, in_words, set_aside
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.shipments import (
    NewShipment,
    Shipped,
    count_shipments,
    record_shipment,
)
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.orders.lookup import NoSuchOrder, find_order
from midas_pipelines.sync.orders.model.lines import OrderException, read_exceptions
from midas_pipelines.sync.orders.model.order_log import StoredOrder, lock_order
from midas_pipelines.sync.orders.status import outbound
from midas_pipelines.sync.orders.stock.units import has_shipped
from midas_pipelines.sync.sync_log import logged_sync

PREVIEW = 50
IN_CONFLICT = "The order is in a conflict: resolve it first with `midas orders resolve`."


@dataclass
class StatusSyncReport:
    """The result of a status sync; counts of orders, except `shipments`."""

    scanned: int = 0  # orders with something to push
    pushed: int = 0
    shipments: int = 0  # shipments pushed
    refused: int = 0  # statuses that cannot be pushed; a person decides
    updated: int = 0  # orders that the marketplace updated
    failed: int = 0
    requests: int = 0
    seconds: float = 0.0
    preview: list[dict[str, str]] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)


async def sync_statuses(context: SyncContext) -> StatusSyncReport:
    """Applies the marketplace's updates first, then pushes the shop's. Raises FourSellerError."""
    polled = await import_orders(context)
    report = await push_statuses(context, updated=polled.updated)
    report.requests += polled.requests
    return report


async def push_statuses(context: SyncContext, only: int | None = None, updated: int = 0) -> StatusSyncReport:
    """Pushes every changed status and every new shipment of the shop to 4Seller; with our row in `only` those of one order
    at once. `updated` orders were updated just before, for the report. Raises BadCredentials."""
    report = StatusSyncReport(updated=updated)
    with logged_sync(context, "status", "to 4Seller", report) as clock:
        await asyncio.to_thread(count_shipments, context.database, outbound.context_of(context))
        async with context.channel() as client:
            clock.client = client
            push, after = _Push(context, client, report), 0
            while found := await asyncio.to_thread(outbound.pending_updates, context, after, only):
                after = found[-1].row.id
                for one in found:  # else only a past refusal is checked
                    report.scanned += bool(one.row.shop_status_since or one.shipments or one.invalid)
                await asyncio.gather(*(push.alone(order) for order in found))
    return report


async def _send(
    client: FourSeller, order_id: str, current: OrderStatus, call: outbound.StatusUpdate
) -> tuple[outbound.StatusUpdate, str]:
    """Makes one call; returns the part that 4Seller shows, and its status word. Reads the order again where the answer does
    not show all of the call."""
    tracking = call.shipment.tracking if call.shipment is not None else None
    now, status = datetime.now(UTC), call.status.value
    answer = await client.update_order(order_id, status=status, at=now, tracking=tracking)
    if outbound.shown(call, current, answer) != call:
        answer = await client.order(order_id)
    return outbound.shown(call, current, answer), answer.state.word or "no status"


class _Push:
    """Pushes single orders, each in a slot of its own, and records what came of them."""

    def __init__(self, context: SyncContext, client: FourSeller, report: StatusSyncReport) -> None:
        self.context, self.client, self.report = context, client, report
        self.slots = asyncio.Semaphore(context.settings.in_flight)

    async def alone(self, order: outbound.PendingUpdate) -> None:
        """Pushes one order; what the shop's tables refuse of it is retried later, and stops no other order."""
        try:
            await self._order(order)
        except sa.exc.StatementError as error:
            if blame(error).of_all:
                raise
            why = f"The shop's tables refused it: {in_words(error, None)}"
            with set_aside(f"Order {order.row.marketplace_order_id}"):
                await self._problem(order, "untaken", why)

    def _show(self, rows: list[dict[str, str]], order: outbound.PendingUpdate, outcome: str) -> None:
        name, status = order.row.marketplace_order_id, order.row.shop_status or ""
        if len(rows) < PREVIEW:
            rows.append({"order": name, "status": status, "outcome": outcome})

    async def _problem(
        self, order: outbound.PendingUpdate, kind: str, why: str, shipment: sa.Row[Any] | None = None
    ) -> None:
        """Counts, shows and records what was not pushed, as `record_problem`."""
        failed = kind in ("untaken", "unanswered")
        self.report.failed += failed
        self.report.refused += not failed
        self._show(self.report.problems, order, why)
        await self._record(order, outbound.record_problem, order, kind, why, shipment)

    async def _record(self, order: outbound.PendingUpdate, what: Callable[..., None], *facts: Any) -> None:
        await asyncio.to_thread(outbound.record, self.context, order.row.id, what, *facts)

    async def _order(self, order: outbound.PendingUpdate) -> None:
        for shipment, why in order.invalid:
            await self._problem(order, "invalid", why, shipment)
        against, through = order.objection, True
        if against is not None:
            await self._problem(order, "objection", against)
        if against is None or order.decision is not StatusDecision.CONFLICT:  # else a person decides first
            async with self.slots:
                through = await self._calls(order)
        if against is None and not order.invalid and through:
            await self._record(order, outbound.record_done)

    async def _calls(self, order: outbound.PendingUpdate) -> bool:
        """Makes the calls, and records what 4Seller's answers show; False when one has to be retried. A status that an answer
        does not show does not stop later ones: 4Seller may show only the last step."""
        name, reached, goal = order.row.marketplace_order_id, order.current, order.goal
        untaken, pushed = "", False
        try:
            while call := outbound.next_call(reached, goal, order.shipments, refund=order.refund):
                shipment = call.shipment
                left = replace(order, shipments=[one for one in order.shipments if one is not shipment])
                try:
                    taken, word = await _send(self.client, name, order.current, call)
                except errors.BadItem as bad:
                    if shipment is None:
                        raise
                    await self._problem(order, "refused", str(bad), shipment.row)
                    order = left  # the status and the other shipments are still pushed
                    continue
                await self._record(order, outbound.record_pushed, taken)
                accepted = f"4Seller accepted {call.status.value} without an error but shows {word}."
                untaken = "" if taken.status is call.status else accepted
                if shipment is not None and taken.shipment is None:
                    number = shipment.tracking.number
                    why = f"4Seller answered without an error but does not show the shipment {number}."
                    await self._problem(order, "untaken", why, shipment.row)
                self.report.shipments += taken.shipment is not None
                pushed |= not untaken
                reached, order = call.status, replace(left, current=taken.status)
        except errors.NotSent:  # shadow mode: it stays as it is, and due
            return False
        except errors.CallFailed as error:  # stays marked; a later run retries it
            refused = isinstance(error, errors.BadItem | errors.Conflict | errors.NotFound)
            await self._problem(order, "refused" if refused else "unanswered", str(error))
            return False
        if untaken:
            await self._problem(order, "untaken", untaken)
        elif pushed:
            self.report.pushed += 1
            self._show(self.report.preview, order, "pushed")
        return not untaken


@dataclass(frozen=True)
class StatusChanged:
    """The status of the shop's order now, and whether 4Seller knows it; `reason` says why it does not yet."""

    marketplace_order_id: str
    status: str
    pushed: bool
    reason: str | None = None


@dataclass(frozen=True)
class OrderChanged(StatusChanged):
    """The same, with what was recorded of a shipment."""

    shipment: Shipped | None = None


async def change_status(
    context: SyncContext, order_id: str, goal: OrderStatus | None = None, shipment: NewShipment | None = None
) -> OrderChanged:
    """Records the shipment, sets the status of the shop's order, and pushes both to 4Seller; what cannot be pushed now, the
    next sync pushes. Without a `goal` the shipment decides the status.

    Raises NoSuchOrder or WrongInput where nothing was changed.
    """
    row = await asyncio.to_thread(context.database.read, find_order, order_id)
    if row.outcome != "imported":
        raise NoSuchOrder("The order is quarantined, not imported yet: `midas orders retry` it.")
    shipped = None
    if goal is OrderStatus.REFUNDED:
        problem = await _refund(context, row)
    else:
        shipped = await asyncio.to_thread(_move, context, row.id, goal, shipment)
        problem = await _push_now(context, row.id)
    if shipment is not None and shipment.replaces and row.status in ENDED:
        problem = f"the order is {row.status} there"
    now = await asyncio.to_thread(context.database.read, find_order, order_id)
    if OrderException.CONFLICT in read_exceptions(now.exception):
        problem = IN_CONFLICT
    reason = problem or await asyncio.to_thread(context.database.read, outbound.why_waiting, now)
    status = now.shop_status or now.status
    return OrderChanged(now.marketplace_order_id, status, reason is None, reason, shipped)


async def _push_now(context: SyncContext, order_row: int) -> str | None:
    """Pushes the status and the shipments of one order; what was not pushed, as a sentence."""
    try:
        report = await push_statuses(context, only=order_row)
    except ExpectedError as failed:  # what was recorded stays
        return str(failed)
    return report.problems[0]["outcome"] if report.problems else None


def _move(
    context: SyncContext, order_row: int, goal: OrderStatus | None, shipment: NewShipment | None
) -> Shipped | None:
    """Updates the shop's order, shipment and status in one transaction; the trigger on it marks it to be pushed."""
    with context.database.writing(asked=True) as connection:
        order = lock_order(connection, order_row, outbound.context_of(context))
        shipped = None if shipment is None else record_shipment(order, shipment)
        if goal is not None:
            if shipment is not None and shipment.units is not None and shipped and not shipped.complete:
                why = "After this shipment there is more to ship"
                raise WrongInput(f"{why}, so the order is not {goal.value}: omit the status.")
            _set_status(order, goal)
    return shipped


def _set_status(order: StoredOrder, goal: OrderStatus) -> None:
    """Sets the status of the shop's order. Raises WrongInput where no step leads there."""
    if order.has(OrderException.CONFLICT):
        raise WrongInput(IN_CONFLICT)
    now, wanted, channel = order.shop_status(), statuses.local_status(goal), OrderStatus(order.status)
    if now is None:
        raise WrongInput("The shop has deleted its order: its status cannot be set.")
    current = OrderStatus(now) if now in list(OrderStatus) else OrderStatus.PENDING
    step = TABLE[current, goal]
    if step in (StatusDecision.PUSH, StatusDecision.CONFLICT):
        raise WrongInput(f"The order is {current.value}; no step leads from there to {goal.value}.")
    decision = statuses.decide(wanted, channel, shipped=has_shipped(order, now), in_time=False)
    if against := statuses.why_not_pushed(decision, wanted, channel):
        raise WrongInput(f"The order cannot be {goal.value}: {against}.")
    if step is StatusDecision.FOLLOW:
        order.move(wanted, "Through the gateway")


async def _refund(context: SyncContext, row: sa.Row[Any]) -> str | None:
    """Pushes a refund to 4Seller first; the shop's payment status is set when 4Seller shows it. Returns what went wrong."""
    current, call = OrderStatus(row.status), outbound.StatusUpdate(OrderStatus.REFUNDED)
    if TABLE[current, call.status] is not StatusDecision.FOLLOW:
        raise WrongInput(f"The order is {row.status} already.")
    try:
        async with context.channel() as client:
            taken, _ = await _send(client, row.marketplace_order_id, current, call)
    except errors.CallFailed as failed:
        return str(failed)
    if taken != call:
        return "4Seller answered without an error but has not refunded it."
    await asyncio.to_thread(outbound.record, context, row.id, outbound.record_pushed, call)
    return None
