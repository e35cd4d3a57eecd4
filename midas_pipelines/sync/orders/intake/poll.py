"""Polls 4Seller for orders that changed since the watermark, with an overlap.

Where a list is refused or cut, it is read in narrower time spans.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.fourseller.errors import BadItem, BrokenListing, ContractBroken
from midas_pipelines.fourseller.pages import OrderPage
from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.items.claims import allow_pushes
from midas_pipelines.store.operations.cursors import advance_cursor, read_cursor
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.pages import OrderPages, OrderReport, Progress
from midas_pipelines.sync.orders.stock.pending_lines import allocate_pending_lines
from midas_pipelines.sync.sync_log import logged_sync, progress_lines

WATERMARK, LOOK_BACK = "orders", "orders_look_back"
LOOK_BACK_EVERY = timedelta(hours=1)
LONGEST_HOLD = timedelta(days=7)
"""How far the watermark stays behind while lists lack orders: one that 4Seller lists later is found by then."""
INCOMPLETE = "orders_incomplete"
"""The kind of the alert while it does."""
SHORTEST = timedelta(minutes=1)
"""The shortest span of time that is read in two parts."""
FARTHEST = timedelta(days=3650)
"""How far back a changed order may have been placed."""
MOST_LISTS = 500
"""Lists read for one query, so that one that is wrong in any span comes to an end."""

Asked = dict[str, Any]
"""What the client takes: `updated_from`, `date_from`, `date_to`."""


@dataclass(frozen=True)
class Window:
    """Which orders to read: those placed in a span of time (a backfill), or those that changed since the watermark."""

    placed_from: datetime | None = None
    placed_to: datetime | None = None

    @property
    def polls(self) -> bool:
        """Whether this is the incremental read, which moves the watermark."""
        return self.placed_from is None and self.placed_to is None


POLL = Window()


def order_progress(say: Callable[[str], None]) -> Progress:
    """A callback for an import of orders."""
    report = progress_lines(say, "orders")
    return lambda so_far: report(
        so_far.imported + so_far.already_known + so_far.failed, so_far.failed, so_far.declared or None
    )


async def import_orders(
    context: SyncContext, window: Window = POLL, *, on_progress: Progress | None = None
) -> OrderReport:
    """Reads orders from 4Seller and imports them, each exactly once.

    The watermark moves to the newest `updated_at` seen, in 4Seller's own clock and never past ours, and only when
    everything was read; the next read begins `orders_overlap_minutes` before it, so that skewed clocks and rows
    that appear late lose nothing. Once an hour it begins `orders_look_back_hours` before now, and finds orders that
    appeared later still, or that paging missed. A list that ends before its total, or repeats its pages, is read by
    date as far as it goes.

    Raises FourSellerError: a page could not be read, or the list of a backfill lacks orders; what was read is imported,
    the watermark stays.
    """
    report = OrderReport()
    scope = "changed" if window.polls else f"placed {window.placed_from} to {window.placed_to}"
    with logged_sync(context, "orders", scope, report) as clock:
        async with context.channel(tries_key=True) as client:
            clock.client = client
            started = context.database.now()
            since, looks_back = _since(context, started) if window.polls else (None, False)
            intake = OrderPages(context, report, started, on_progress)
            asked: list[Asked] = [{"date_from": window.placed_from, "date_to": window.placed_to}]
            if since is not None:  # an order may lack one date, or change without updating it
                asked = [{"updated_from": since}, {"date_from": since}]
            try:
                for question in asked:
                    async for page in Narrowing(client, intake).pages(**question):
                        await intake.add(page)
            finally:
                await intake.finish()
        opened = await asyncio.to_thread(allocate_pending_lines, context.database, context.run_id)
        report.mapped, report.allocated = report.mapped + opened[0], opened[1]
        if window.polls:
            _move_cursors(context, intake, started if looks_back else None)
        elif report.incomplete:
            raise ContractBroken(_lacking(report), field="total")
    return report


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


def _move_cursors(context: SyncContext, intake: OrderPages, looked_back: datetime | None) -> None:
    """Moves the watermark, but not past orders that were not read; where a list lacks orders, it stays at most a week
    behind, and staff are alerted."""
    report = intake.report
    whole = intake.read_all and not report.incomplete
    with context.database.writing() as connection:
        if report.incomplete:
            raise_alert(connection, kind=INCOMPLETE, subject="fourseller", text=_lacking(report))
        elif whole:
            clear_alert(connection, kind=INCOMPLETE, subject="fourseller")
        shadowed = context.settings.shadows("order")  # nothing was kept: all of it is read again afterwards
        if shadowed or report.postponed or not (whole or report.incomplete):
            return
        if whole and allow_pushes(connection, only_restored=True):
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


@dataclass
class Narrowing:
    """One query for orders, split into narrower spans where it is refused or cut; the newest span is read first. What cannot be
    had in any span is left, and the report's `incomplete` says why, so that no watermark moves past it."""

    _client: FourSeller
    _intake: OrderPages
    _ended: bool = False  # what is older than this is refused too
    _lists: int = 0

    async def pages(self, **asked: Any) -> AsyncIterator[OrderPage]:
        """The pages of every span; `asked` is `updated_from`, `date_from` and `date_to`, as the client takes them."""
        if self._ended:
            return
        self._lists += 1
        placed, began = list[datetime](), False  # the first date and the last
        try:
            async for page in self._client.order_pages(**asked):
                began = True
                placed = sorted([*placed, *(order.created_at for order in page.data if order.created_at)])
                del placed[1:-1]
                yield page
            self._intake.next_listing()
            return
        except BrokenListing as cut:
            why = "" if cut.field == "offset" else str(cut)
            short = not why or (cut.field == "data" and cut.rows < PAGE_LIMIT)
        except BadItem as refused:
            why, short = str(refused), False
        if short or self._lists >= MOST_LISTS:
            # Its total is only a hint, but there may be more before and after.
            new = self._intake.lists.has_new(before=self._lists - 1)
            self._intake.next_listing(cut=why)
            spans = _around(asked, placed) if new and self._lists < MOST_LISTS else []
        else:
            self._intake.lists.start()  # repeated for narrower spans: its declared total does not count
            spans = self._narrower(asked, why, began=began)
        for span in spans:
            async for page in self.pages(**(asked | span)):
                yield page

    def _narrower(self, asked: Asked, why: str, *, began: bool) -> list[Asked]:
        now = datetime.now(UTC)
        changed = asked.get("updated_from")
        if changed is not None and not began and now - changed > SHORTEST:  # too far back
            self._intake.report.incomplete = why
            return [{"updated_from": now - (now - changed) / 2}]
        if began or changed is None:
            start = asked.get("date_from") or now - FARTHEST
            end = asked.get("date_to") or now + timedelta(days=1)
            middle = start + (end - start) / 2
            if end - start > SHORTEST:
                return [{"date_from": middle, "date_to": end}, {"date_from": start, "date_to": middle}]
        self._intake.report.incomplete = why
        self._ended = not began
        return []


def _around(asked: Asked, placed: list[datetime]) -> list[Asked]:
    """The spans after and before the orders of a list that was cut, the newest first."""
    if not placed:
        return []
    first, last = placed[0], placed[-1]
    early, late = asked.get("date_from"), asked.get("date_to")
    after: list[Asked] = [{"date_from": last}] if early is None or last > early else []
    return after + ([{"date_to": first}] if late is None or first < late else [])
