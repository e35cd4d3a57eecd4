"""Imports pages of orders as they are read: many in one transaction, while the next pages are read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from midas_pipelines.fourseller.pages import OrderPage
from midas_pipelines.store.orders.payload_vault import vault_of
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.batch import Unreadable, import_batch, read_orders
from midas_pipelines.sync.orders.intake.write import COUNTS, ImportCounts
from midas_pipelines.sync.orders.model.sale import Sale

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


class OrderPages:
    """Imports pages as they are read: many in one transaction, while the next pages are read.

    Args:
        context: the shop's database and settings.
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
        self._context, self._report, self._on_progress = context, report, on_progress
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
        self.leave_listing()

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
        dates = [self.newest, *(order.updated_at for order in page.data)]
        self.newest = max((date for date in dates if date and date <= self._read_at), default=None)
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
        result, report = await running, self._report
        for name in COUNTS:
            setattr(report, name, getattr(report, name) + getattr(result, name))
        report.postponed += len(result.postponed)
        report.preview = (report.preview + result.preview)[:20]
        self.read_all = self.read_all and not report.postponed
        if self._on_progress is not None:
            self._on_progress(report)


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
