"""Status sync: inbound updates to the shop's orders, then outbound updates to 4Seller, and what came of each call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.orders import is_refunded
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import blame, in_words, set_aside
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.close import end_order, raise_conflict, refund_shop_order
from midas_pipelines.sync.orders.changes.shipments import count_shipments
from midas_pipelines.sync.orders.customer_mail import queue_mail
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.model.order_log import UNANSWERED, OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.model.state_machine import (
    ENDED,
    SHIPPED_STATES,
    TABLE,
    StatusDecision,
    decide,
)
from midas_pipelines.sync.orders.status.outbound import (
    A_DAY,
    PUSHED_FIELDS,
    RETRY,
    PendingUpdate,
    StatusUpdate,
    pending_updates,
    shown,
    status_updates,
)
from midas_pipelines.sync.orders.stock.units import has_shipped, shipments_on_record
from midas_pipelines.sync.sync_log import logged_sync

PREVIEW = 50
PATIENCE = 3
"""Answers without an error that do not show what was pushed, before an exception is raised: 4Seller may lag."""

_SHIPMENTS = order_shipments.c


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
                await self._problem("failed", order, why, _record_failure, why)

    async def _problem(
        self, count: str, order: PendingUpdate, why: str, record: Callable[..., None], *facts: Any
    ) -> None:
        """Counts a problem as `refused` or `failed`, shows it, and has it recorded."""
        setattr(self.report, count, getattr(self.report, count) + 1)
        _show(self.report.problems, order, why)
        await asyncio.to_thread(record, self.context, order, *facts)

    async def _order(self, order: PendingUpdate) -> None:
        for shipment, why in order.invalid:
            await self._problem("refused", order, why, _record_bad_shipment, why, shipment, "invalid")
        against, through = order.objection, True
        if against is not None:
            await self._problem("refused", order, against, _record_objection, against)
        if against is None or order.decision is not StatusDecision.CONFLICT:  # else a person decides first
            goal = order.goal if order.moved and against is None else None
            async with self.slots:
                through = await self._calls(order, goal)
        if against is None and not order.invalid and through and (order.moved or order.flagged):
            await asyncio.to_thread(_record_done, self.context, order)

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
                        "refused", order, why, _record_bad_shipment, why, shipment.row, "refused"
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
                        "failed", order, why, _record_bad_shipment, why, shipment.row, "untaken"
                    )
                self.report.parcels += taken.shipment is not None
                pushed += same
                reached, order = call.status, replace(order, current=taken.status, shipments=left)
        except BadCredentials:
            raise
        except NotSent:  # shadow mode: it stays as it is, and due
            return False
        except (BadItem, Conflict, NotFound) as refused:
            await self._problem("refused", order, str(refused), _record_refusal, str(refused))
            return False
        except FourSellerError as failed:  # stays marked; a later run retries it
            await self._problem("failed", order, str(failed), _record_failure, None)
            return False
        if untaken:
            await self._problem("failed", order, untaken, _record_failure, untaken)
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


def order_context_of(context: SyncContext) -> OrderContext:
    """The order context of this context's run."""
    return OrderContext(context.run_id, settings=context.settings)


def record_pushed(context: SyncContext, order_row: int, call: StatusUpdate) -> None:
    """Records one call that 4Seller confirmed, with its consequences."""
    with context.database.writing() as connection:
        order = lock_order(connection, order_row, order_context_of(context))
        if TABLE[OrderStatus(order.status), call.status] is StatusDecision.FOLLOW:
            _record_status(order, call.status)
        if call.shipment is None:
            return
        remark, tracking = call.shipment.remark, call.shipment.tracking
        pushed = sa.update(order_shipments).where(_as_read(call.shipment.row))
        if connection.execute(pushed.values(pushed_at=utc_now(), reason=remark)).rowcount:
            detail = f"4Seller knows the shipment {tracking.carrier} {tracking.number}. {remark or ''}"
            order.log("tracking_pushed", detail.rstrip())


def _record_status(order: StoredOrder, status: OrderStatus) -> None:
    order.set(status=status.value, status_word=status.value)
    order.log(status.value, f"The shop's {order.status} -> {status.value} was pushed to 4Seller.")
    shop = order.shop_status()
    if status is OrderStatus.REFUNDED and shop is not None:
        shipped_as = OrderStatus.SHIPPED if has_shipped(order, shop) else None
        refund_shop_order(order, shop, shipped_as=shipped_as, notes="Refunded by the shop")
        order.set(shop_status_since=None)  # set by the trigger on the update above
    if status in ENDED:
        all_shipped = order.status in SHIPPED_STATES or shop in SHIPPED_STATES
        end_order(order, status, all_shipped=all_shipped)
    if status is OrderStatus.SHIPPED and not shipments_on_record(order):
        queue_mail(order, "shipped")


def _as_read(shipment: sa.Row[Any]) -> sa.ColumnElement[bool]:
    """Matches an unpushed shipment that has not been corrected since it was read."""
    same = (column.is_not_distinct_from(getattr(shipment, column.name)) for column in PUSHED_FIELDS)
    return sa.and_(_SHIPMENTS.id == shipment.id, _SHIPMENTS.pushed_at.is_(None), *same)


def _record_done(context: SyncContext, pending: PendingUpdate) -> None:
    """Marks the order as pushed, unless the shop has changed it again meanwhile."""
    with _locked(context, pending) as order:
        decision = decide(order.shop_status(), OrderStatus(order.status), resolution=order.resolution)
        refunded = is_refunded(order.connection, order.local_order_id)
        if decision is not StatusDecision.AGREE or (refunded and order.status != OrderStatus.REFUNDED):
            return
        order.mark_for_push(None)
        refused = sa.and_(_SHIPMENTS.order_id == order.local_order_id, _SHIPMENTS.reason.is_not(None))
        if not order.connection.scalar(sa.select(sa.exists().where(refused, _SHIPMENTS.pushed_at.is_(None)))):
            order.set_exceptions(drop=(OrderException.REFUSED,))


def _record_objection(context: SyncContext, pending: PendingUpdate, why: str) -> None:
    """Records that the shop's status cannot be pushed: unmarks it and raises an exception."""
    with _locked(context, pending) as order:
        if order.status != pending.current:  # it has changed since it was read
            return
        shop = pending.row.shop_status
        detail = f"The shop says {shop}, 4Seller has {pending.current.value}: {why}."
        if order.shop_status() == shop:
            order.set(shop_status_since=None)
        conflict = pending.decision is StatusDecision.CONFLICT
        order.log("conflict" if conflict else "refused_transition", f"{detail} A person has to decide.")
        if conflict:
            raise_conflict(order, f"{detail} Resolve the order.")
        else:
            order.set_exceptions(add=(OrderException.REFUSED,))


def _record_refusal(context: SyncContext, pending: PendingUpdate, why: str) -> None:
    """Records that 4Seller refused the status: raises an exception and retries after a day."""
    with _locked(context, pending) as order:
        if order.status != pending.current:
            return
        order.set(push_after=utc_now(A_DAY), push_attempts=0)
        shop = pending.row.shop_status
        why = f"4Seller did not take the shop's {shop}: {why.rstrip('.')}. A person has to look."
        if order.log_once("refused_transition", why):
            order.set_exceptions(add=(OrderException.REFUSED,))


def _record_bad_shipment(
    context: SyncContext, pending: PendingUpdate, why: str, shipment: sa.Row[Any], kind: str
) -> None:
    """Records a shipment that was not pushed: `invalid` (we refused it; checked again in the next run), `refused` (by
    4Seller; tried again after a day) or `untaken` (an answer without an error that did not show it; with backoff)."""
    with _locked(context, pending, lock=False) as order:
        query = sa.select(_SHIPMENTS.reason, _SHIPMENTS.attempts).where(_SHIPMENTS.id == shipment.id)
        known = order.connection.execute(query).first()
        if known is None:  # replaced meanwhile
            return
        attempts = known.attempts + 1
        waits = {"refused": A_DAY, "untaken": int(RETRY.seconds(attempts))}
        values = {
            "reason": why,
            "attempts": 0 if kind == "refused" else attempts,
            "next_attempt_at": utc_now(waits[kind]) if kind in waits else None,
        }
        mine = sa.update(order_shipments).where(_as_read(shipment))
        if not order.connection.execute(mine.values(values)).rowcount:
            return
        order.log_once("tracking_refused", why)
        if attempts == PATIENCE if kind == "untaken" else why != known.reason:  # else it was raised before
            order.set_exceptions(add=(OrderException.REFUSED,))


def _record_failure(context: SyncContext, pending: PendingUpdate, untaken: str | None) -> None:
    """Schedules the next push of the order, with a delay that doubles each time; `untaken` is what 4Seller answered without
    an error when it accepted nothing, None when it could not be reached."""
    with _locked(context, pending, lock=False) as order:
        attempts = (order.push_attempts or 0) + 1
        order.set(push_attempts=attempts, push_after=utc_now(int(RETRY.seconds(attempts))))
        unanswered = "A call to 4Seller got no answer: it may have arrived, or arrive late."
        order.log_once("not_taken" if untaken else UNANSWERED, untaken or unanswered)
        if untaken and attempts == PATIENCE:
            order.set_exceptions(add=(OrderException.REFUSED,))


@contextmanager
def _locked(context: SyncContext, pending: PendingUpdate, *, lock: bool = True) -> Iterator[StoredOrder]:
    """The order in a transaction; not locked where only what no one else writes is written."""
    with context.database.writing() as connection:
        if lock:
            yield lock_order(connection, pending.row.id, order_context_of(context))
            return
        query = sa.select(marketplace_orders).where(marketplace_orders.c.id == pending.row.id)
        yield StoredOrder(connection, connection.execute(query).one(), order_context_of(context))
