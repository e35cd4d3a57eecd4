"""Imports pages of orders as they are read, many in one transaction; where a list is refused or cut, in narrower time spans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.fourseller.errors import BadItem, BrokenListing
from midas_pipelines.fourseller.pages import OrderPage
from midas_pipelines.store.orders.payload_vault import vault_of
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.read import Unreadable, import_batch, read_orders
from midas_pipelines.sync.orders.intake.write import COUNTS, ImportCounts
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.sync_log import ProgressReporter, Say

SOON = 500
"""The batch size that starts an import when none is running."""


@dataclass
class OrderReport:
    """The result of an order import; counts of orders. `exceptions` are imported but need a person."""

    fetched: int = 0
    imported: int = 0
    duplicates: int = 0
    exceptions: int = 0
    failed: int = 0
    postponed: int = 0  # their rows are locked; the next poll retries
    moved_on: int = 0
    mapped: int = 0  # lines that were unmapped and have an item now
    allocated: int = 0  # units given to backorders
    requests: int = 0
    seconds: float = 0.0
    declared: int = 0  # orders that 4Seller's totals announce
    incomplete: str = ""  # why 4Seller's lists lack orders, as a sentence
    preview: list[dict[str, str]] = field(default_factory=list)

    def add(self, result: ImportCounts) -> None:
        """Adds the counts of a batch."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(result, name))
        self.postponed += len(result.postponed)
        self.preview = (self.preview + result.preview)[:20]


class OrderPages:
    """Imports pages as they are read: many in one transaction, while the next pages are read.

    Args:
        engine: the shop's database and settings.
        report: counts what happens.
        on_progress: called after each batch.
        read_at: before 4Seller was asked, by the database's clock.
    """

    def __init__(
        self,
        context: SyncContext,
        report: OrderReport,
        on_progress: Callable[[OrderReport], None] | None = None,
        *,
        read_at: datetime,
    ) -> None:
        self.newest: datetime | None = None  # the newest `updated_at` that is not in the future
        self.read_all = True
        self.incomplete = ""  # why a list lacks orders, as a sentence
        self._listing = OrderListing()
        self._declared = 0  # by the listings before this one
        self._seen: set[str] = set()
        self._context = context
        self._report = report
        self._on_progress = on_progress
        self._read_at = read_at
        self._vault = vault_of(context.settings)
        self._batch: list[Sale | Unreadable] = []
        self._running: asyncio.Task[ImportCounts] | None = None
        self._free = asyncio.Event()  # set while no batch is being turned into rows
        self._free.set()

    def next_listing(self, cut: str = "") -> None:
        """Starts another query: the next pages belong to it. `cut` says why the last list lacks orders."""
        self.incomplete = self.incomplete or cut
        self.read_all = self.read_all and self._listing.whole
        self._declared = self._report.declared
        self._listing = OrderListing()

    def leave_listing(self) -> None:
        """Drops the current query, which is repeated for narrower spans: its declared total does not count."""
        self._listing = OrderListing()

    async def add(self, page: OrderPage) -> None:
        """Adds one page; waits while the previous batch is turned into rows, or a full batch waits to be imported.

        Both use this processor: reading a page meanwhile would only delay the database.
        """
        await self._free.wait()
        self._listing.add(page)
        self._report.declared = self._declared + (page.total or 0)
        fresh = [order for order in page.data if order.id not in self._seen]
        self._seen.update(order.id for order in fresh)
        self._report.fetched += len(fresh) + len(page.rejected)
        self._batch += read_orders(
            self._context, fresh, self._vault, rejected=page.rejected, read_at=self._read_at
        )
        dates = [order.updated_at for order in page.data if order.updated_at is not None]
        known = [date for date in dates if date <= self._read_at] + ([self.newest] if self.newest else [])
        self.newest = max(known, default=None)
        idle = self._running is None or self._running.done()
        full = self._context.settings.orders_batch
        if len(self._batch) >= (min(SOON, full) if idle else full):
            await self._start()

    async def finish(self) -> None:
        """Imports the remaining orders and waits for all imports."""
        self.next_listing()
        if self._batch:
            await self._start()
        await self._end()

    async def _start(self) -> None:
        await self._end()
        batch, self._batch = self._batch, []
        self._free.clear()
        loop = asyncio.get_running_loop()

        def writing() -> None:
            loop.call_soon_threadsafe(self._free.set)

        work = asyncio.to_thread(import_batch, self._context, batch, self._vault, on_writing=writing)
        self._running = asyncio.create_task(work)
        self._running.add_done_callback(lambda _: self._free.set())

    async def _end(self) -> None:
        if self._running is None:
            return
        running, self._running = self._running, None
        self._report.add(await running)
        self.read_all = self.read_all and not self._report.postponed
        if self._on_progress is not None:
            self._on_progress(self._report)


class OrderListing:
    """Whether the pages of one query held as many orders as they declared.

    An order that changes while pages are read may shift another across a page boundary, and the watermark must not move
    past an order that was never read.
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._without_id = 0
        self._totals: set[int] = set()

    def add(self, page: OrderPage) -> None:
        """Adds a page."""
        if page.total is not None:
            self._totals.add(page.total)
        self._ids.update(order.id for order in page.data)
        self._without_id += len(page.rejected)

    @property
    def whole(self) -> bool:
        """Whether no fewer orders were read than were declared, each time the same number."""
        return len(self._totals) < 2 and max(self._totals, default=0) <= len(self._ids) + self._without_id


def order_progress(say: Say) -> Callable[[OrderReport], None]:
    """A callback for an import of orders."""
    teller = ProgressReporter(say, "orders")

    def progress(report: OrderReport) -> None:
        done = report.imported + report.duplicates + report.failed
        teller(done, report.failed, lambda: report.declared or None)

    return progress


Asked = dict[str, Any]
"""What the client takes: `updated_from`, `date_from`, `date_to`."""

SHORTEST = timedelta(minutes=1)
FARTHEST = timedelta(days=3650)
"""How far back a changed order may have been placed."""
MOST_LISTS = 500
"""Lists read for one query, so that one that is wrong in any span comes to an end."""


class Narrowing:
    """One query for orders, split into narrower spans where it is refused or cut; the newest span is read first.

    What cannot be had in any span is left, and `intake.incomplete` says why, so that no watermark moves past it.
    """

    def __init__(self, client: FourSeller, intake: OrderPages) -> None:
        self._client = client
        self._intake = intake
        self._ended = False  # what is older than this is refused too
        self._lists = 0
        self._seen: set[str] = set()

    async def pages(self, **asked: Any) -> AsyncIterator[OrderPage]:
        """The pages of every span.

        Args:
            asked: `updated_from`, `date_from`, `date_to`, as the client takes them.
        """
        if self._ended:
            return
        self._lists += 1
        placed: list[datetime] = []
        before, began = len(self._seen), False
        try:
            async for page in self._client.order_pages(**asked):
                began = True
                placed += [order.created_at for order in page.data if order.created_at is not None]
                self._seen.update(order.id for order in page.data)
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
            self._intake.next_listing(cut=why)
            spans = _around(asked, placed) if len(self._seen) > before and self._lists < MOST_LISTS else []
        else:
            self._intake.leave_listing()
            spans = self._narrower(asked, why, began=began)
        for span in spans:
            async for page in self.pages(**(asked | span)):
                yield page

    def _narrower(self, asked: Asked, why: str, *, began: bool) -> list[Asked]:
        now = datetime.now(UTC)
        spans: list[Asked] = []
        changed = asked.get("updated_from")
        if changed is not None and not began and now - changed > SHORTEST:  # too far back
            self._intake.incomplete = why
            spans = [{"updated_from": now - (now - changed) / 2}]
        elif began or changed is None:
            start = asked.get("date_from") or now - FARTHEST
            end = asked.get("date_to") or now + timedelta(days=1)
            middle = start + (end - start) / 2
            if end - start > SHORTEST:
                spans = [{"date_from": middle, "date_to": end}, {"date_from": start, "date_to": middle}]
        if not spans:
            self._intake.incomplete = why
            self._ended = not began
        return spans


def _around(asked: Asked, placed: list[datetime]) -> list[Asked]:
    """The spans after and before the orders of a list that was cut, the newest first."""
    if not placed:
        return []
    last, first = max(placed), min(placed)
    early, late = asked.get("date_from"), asked.get("date_to")
    after: list[Asked] = [{"date_from": last}] if early is None or last > early else []
    return after + ([{"date_to": first}] if late is None or first < late else [])
