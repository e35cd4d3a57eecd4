"""Polls 4Seller for orders that changed since the watermark, with an overlap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.items.claims import allow_pushes
from midas_pipelines.store.operations.cursors import advance_cursor, read_cursor
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.pages import Asked, Narrowing, OrderPages, OrderReport
from midas_pipelines.sync.orders.stock.pending_lines import allocate_pending_lines
from midas_pipelines.sync.sync_log import logged_sync

WATERMARK, LOOK_BACK = "orders", "orders_look_back"
LOOK_BACK_EVERY = timedelta(hours=1)
LONGEST_HOLD = timedelta(days=7)
"""How far the watermark stays behind while lists lack orders: one that 4Seller lists later is found by then."""

INCOMPLETE = "orders_incomplete"
"""The kind of the alert while it does."""


@dataclass(frozen=True)
class Window:
    """Which orders to read: those placed in a span of time (a backfill), or those that changed since the watermark."""

    placed_from: datetime | None = None
    placed_to: datetime | None = None

    @property
    def polls(self) -> bool:
        """Whether this is the incremental read, which moves the watermark."""
        return self.placed_from is None and self.placed_to is None


async def import_orders(
    context: SyncContext,
    window: Window | None = None,
    *,
    on_progress: Callable[[OrderReport], None] | None = None,
) -> OrderReport:
    """Reads orders from 4Seller and imports them, each exactly once.

    The watermark moves to the newest `updated_at` seen, in 4Seller's own clock and never past ours, and only when
    everything was read; the next read begins `orders_overlap_minutes` before it, so that skewed clocks and rows
    that appear late lose nothing. Once an hour it begins `orders_look_back_hours` before now, and finds orders that
    appeared later still, or that paging missed. A list that ends before its total, or repeats its pages, is read by
    date as far as it goes.

    Raises:
        FourSellerError: a page could not be read, or the list of a backfill lacks orders; what was read is imported, the
            watermark stays.
    """
    window = window or Window()
    report = OrderReport()
    scope = "changed" if window.polls else f"placed {window.placed_from} to {window.placed_to}"
    with logged_sync(context, "orders", scope, report) as clock:
        async with context.channel(tries_key=True) as client:
            clock.client = client
            started = context.database.now()
            since, looks_back = _since(context, started) if window.polls else (None, False)
            intake = OrderPages(context, report, on_progress, read_at=started)
            asked: list[Asked] = [{"date_from": window.placed_from, "date_to": window.placed_to}]
            if since is not None:  # an order may lack one date, or change without updating it
                asked = [{"updated_from": since}, {"date_from": since}]
            try:
                for question in asked:
                    async for page in Narrowing(client, intake).pages(**question):
                        await intake.add(page)
            finally:
                await intake.finish()
            report.incomplete = intake.incomplete
        opened = await asyncio.to_thread(allocate_pending_lines, context.database, context.run_id)
        report.mapped += opened.mapped
        report.allocated = opened.allocated
        if window.polls:
            _move_cursors(context, intake, report, started if looks_back else None)
        elif intake.incomplete:
            raise ContractBroken(_lacking(report), field="total")
    return report


def _move_cursors(
    context: SyncContext, intake: OrderPages, report: OrderReport, looked_back: datetime | None
) -> None:
    """Moves the watermark, but not past orders that were not read; where a list lacks orders, it stays at most a week
    behind, and staff are alerted."""
    with context.database.writing() as connection:
        if report.incomplete:
            raise_alert(connection, kind=INCOMPLETE, subject="fourseller", text=_lacking(report))
        elif intake.read_all:
            clear_alert(connection, kind=INCOMPLETE, subject="fourseller")
    if context.settings.shadows("order"):  # nothing was kept: all of it is read again afterwards
        return
    if report.postponed or not (intake.read_all or report.incomplete):
        return
    if intake.read_all and not report.incomplete:
        with context.database.writing() as connection:
            if allow_pushes(connection, only_restored=True):
                clear_alert(connection, kind="incident", subject="restore")
    if intake.newest is not None:
        behind = LONGEST_HOLD if report.incomplete else timedelta()
        advance_cursor(context.database, WATERMARK, intake.newest - behind)
    if looked_back is not None:
        advance_cursor(context.database, LOOK_BACK, looked_back)


def _lacking(report: OrderReport) -> str:
    return (
        f"4Seller's lists of orders lack some: {report.declared} are declared, {report.fetched} were read. "
        f"{report.incomplete} Compare them with the marketplace: what a list lacks comes with its webhook, or once it "
        "is listed."
    )


def _since(context: SyncContext, now: datetime) -> tuple[datetime | None, bool]:
    """The start of the poll, None to read everything; and whether this is the hourly look back."""
    watermark = read_cursor(context.database, WATERMARK)
    if watermark is None:
        return None, True
    since = watermark - timedelta(minutes=context.settings.orders_overlap_minutes)
    last = read_cursor(context.database, LOOK_BACK)
    hours = context.settings.orders_look_back_hours
    if not hours or (last is not None and now - last < LOOK_BACK_EVERY):
        return since, False
    return min(since, now - timedelta(hours=hours)), True
