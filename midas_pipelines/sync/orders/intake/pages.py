"""Imports pages of orders as they are read: many in one transaction, while the next pages are read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Event

from midas_pipelines.fourseller.models import Order
from midas_pipelines.fourseller.pages import OrderLists, OrderPage, Rejected
from midas_pipelines.store.orders.payload_vault import vault_of
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.batch import Read, import_batch, read_orders
from midas_pipelines.sync.orders.intake.importer import FIRST
from midas_pipelines.sync.orders.intake.write import ImportCounts, OrderCounts
from midas_pipelines.sync.threads import in_thread

SOON = 1000
"""The batch size that starts an import when none is running; twice as many start one beside another."""
IN_FLIGHT = 2
"""Batches imported at once: while one holds the stock, the next one writes its orders and their lines."""


@dataclass
class OrderReport(OrderCounts):
    """The result of an order import."""

    fetched: int = 0
    postponed: int = 0  # their rows are locked; the next poll retries
    allocated: int = 0  # units given to backorders
    requests: int = 0
    seconds: float = 0.0
    declared: int = 0  # orders that 4Seller's totals announce
    incomplete: str = ""  # why 4Seller's lists lack orders, as a sentence


Progress = Callable[[OrderReport], None]
"""Called after each batch."""


class OrderPages:
    """Imports pages as they are read: many in one transaction, while the next pages are read. `read_at` is before 4Seller was
    asked, by the database's clock."""

    def __init__(
        self, context: SyncContext, report: OrderReport, read_at: datetime, progress: Progress | None = None
    ) -> None:
        self._context, self.report, self._read_at, self._progress = context, report, read_at, progress
        self.newest: datetime | None = None  # the newest `updated_at` that is not in the future
        self.read_all = True
        self.lists = OrderLists()
        self._declared = 0  # by the listings before this one
        self._vault = vault_of(context.settings)
        self._batch: list[Read] = []
        self._running: deque[asyncio.Task[ImportCounts]] = deque()
        self._last = FIRST  # set once the batch that was started last has ended

    def next_listing(self, cut: str = "") -> None:
        """Starts another query: the next pages belong to it. `cut` says why the last list lacks orders."""
        self.report.incomplete = self.report.incomplete or cut
        self.read_all = self.read_all and self.lists.whole
        self._declared = self.report.declared
        self.lists.start()

    async def add(self, page: OrderPage) -> None:
        """Adds one page; waits where a batch is full and as many as may be are under way."""
        fresh = self.lists.add(page)
        self.report.declared = self._declared + (page.total or 0)
        self.report.fetched += len(fresh) + len(page.rejected)
        rows: list[Order | Rejected] = [*page.rejected, *fresh]
        since = self._context.settings.orders_since
        self._batch += read_orders(rows, self._vault, since=since, read_at=self._read_at)
        dates = [self.newest, *(order.updated_at for order in page.data)]
        self.newest = max((date for date in dates if date and date <= self._read_at), default=None)
        busy, full = sum(not batch.done() for batch in self._running), self._context.settings.orders_batch
        if len(self._batch) >= (min(SOON * (1 + busy), full) if busy < IN_FLIGHT else full):
            await self._start()

    async def finish(self) -> None:
        """Imports the remaining orders and waits for all imports; raises what the first that failed raised."""
        self.next_listing()
        try:
            if self._batch:
                await self._start()
            while self._running:
                await self._end()
        finally:
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _start(self) -> None:
        while len(self._running) >= IN_FLIGHT:
            await self._end()
        batch, self._batch = self._batch, []
        before, ended = self._last, Event()
        task = asyncio.create_task(in_thread(self._import, batch, before, ended))
        task.add_done_callback(lambda _: ended.set())  # also of one that is cancelled before it begins
        self._running.append(task)
        self._last = ended
        await asyncio.sleep(0)  # it starts now, though pages that are there already never wait

    def _import(self, batch: list[Read], before: Event, ended: Event) -> ImportCounts:
        try:
            return import_batch(self._context, batch, self._vault, before)
        finally:
            ended.set()

    async def _end(self) -> None:
        result, report = await self._running.popleft(), self.report
        report.count(result)
        report.postponed += len(result.postponed)
        self.read_all = self.read_all and not report.postponed
        if self._progress is not None:
            self._progress(report)
