"""Polling 4Seller for orders: everything that changed since the watermark, with an overlap, imported in batches."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.models import Order
from midas_pipelines.fourseller.pages import OrderPage, Rejected
from midas_pipelines.store.cursors import advance_cursor, read_cursor
from midas_pipelines.store.payloads import Vault
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders.importing import Imported, import_sales, set_aside
from midas_pipelines.sync.orders.mail_rules import mail_rules
from midas_pipelines.sync.orders.oversold import allocate_backorders
from midas_pipelines.sync.orders.sales import Sale, UnreadableSaleError, read_sale
from midas_pipelines.sync.orders.unmapped import map_known_lines
from midas_pipelines.sync.record import recorded

WATERMARK = "orders"
AT_ONCE = 2000
"""Orders imported in one transaction: the shop waits for the stock of their items half a second at most."""


@dataclass
class OrderReport:
    """What an order import did; counts of orders. `exceptions` are imported but need a person."""

    fetched: int = 0
    imported: int = 0
    duplicates: int = 0
    exceptions: int = 0
    failed: int = 0
    moved_on: int = 0
    mapped: int = 0  # lines that were unmapped and have an item now
    allocated: int = 0  # units given to backorders
    requests: int = 0
    seconds: float = 0.0
    days: dict[str, int] = field(default_factory=dict)  # imported orders by the day they were placed, in UTC
    preview: list[dict[str, str]] = field(default_factory=list)


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
    engine: Engine, window: Window | None = None, *, on_progress: Callable[[OrderReport], None] | None = None
) -> OrderReport:
    """Reads orders from 4Seller and imports them, each exactly once.

    The watermark moves to the newest `updated_at` seen, in 4Seller's own clock and never past ours, and only when
    every page was read; the next read begins `orders_overlap_minutes` before it, so that skewed clocks and rows
    that appear late lose nothing.

    Raises:
        FourSellerError: a page could not be read; what was read before it is imported, the watermark stays.
    """
    window = window or Window()
    report = OrderReport()
    scope = "changed" if window.polls else f"placed {window.placed_from} to {window.placed_to}"
    with recorded(engine, "orders", scope, report) as clock:
        async with engine.channel() as client:
            clock.client = client
            started = datetime.now(UTC)
            intake = Intake(engine, report, on_progress)
            try:
                async for page in _pages(client, window, _since(engine) if window.polls else None):
                    await intake.add(page)
            finally:
                await intake.finish()
        await asyncio.to_thread(_settle_open_lines, engine, report)
        if window.polls and intake.newest is not None and intake.read_all:
            advance_cursor(engine.database, WATERMARK, min(intake.newest, started))
    return report


class Intake:
    """Imports pages as they are read: many in one transaction, the next ones being read meanwhile."""

    def __init__(
        self, engine: Engine, report: OrderReport, on_progress: Callable[[OrderReport], None] | None = None
    ) -> None:
        self.newest: datetime | None = None
        self._seen: set[str] = set()
        self._without_id = 0
        self._declared = 0
        self._engine = engine
        self._report = report
        self._on_progress = on_progress
        self._vault = Vault(engine.settings.payload_key)
        self._batch = Batch()
        self._running: asyncio.Task[Imported] | None = None

    async def add(self, page: OrderPage) -> None:
        """Takes one page; waits only while a whole batch before it is being imported."""
        self._note(page)
        self._report.fetched += page.rows
        self._batch.add(read_batch(self._engine, page.data, page.rejected, self._vault))
        dates = [order.updated_at for order in page.data if order.updated_at is not None]
        self.newest = max([*dates, *([self.newest] if self.newest else [])], default=None)
        if len(self._batch.sales) >= AT_ONCE:
            await self._start()

    @property
    def read_all(self) -> bool:
        """Whether as many orders were read as were declared: one that changes while pages are read may push another
        over a page's edge, and the watermark must not move past what was never seen."""
        return len(self._seen) + self._without_id >= self._declared

    def _note(self, page: OrderPage) -> None:
        self._seen.update(order.id for order in page.data)
        self._seen.update(row.id for row in page.rejected if row.id)
        self._without_id += sum(1 for row in page.rejected if not row.id)
        self._declared = max(self._declared, page.total)

    async def finish(self) -> None:
        """Imports what is left and waits for all of it."""
        if self._batch.sales or self._batch.unreadable:
            await self._start()
        await self._end()

    async def _start(self) -> None:
        await self._end()
        batch, self._batch = self._batch, Batch()
        self._running = asyncio.create_task(asyncio.to_thread(import_batch, self._engine, batch, self._vault))

    async def _end(self) -> None:
        if self._running is None:
            return
        running, self._running = self._running, None
        _add(self._report, await running)
        if self._on_progress is not None:
            self._on_progress(self._report)


async def _pages(client: FourSeller, window: Window, since: datetime | None) -> AsyncIterator[OrderPage]:
    """The pages to import, each order once. A poll asks for what changed since, and also for what was placed since:
    an order may lack the one date, or have changed without moving it."""
    if since is None:
        async for page in client.order_pages(date_from=window.placed_from, date_to=window.placed_to):
            yield page
        return
    seen: set[str] = set()
    async for page in client.order_pages(updated_from=since):
        seen.update(order.id for order in page.data)
        seen.update(row.id for row in page.rejected if row.id)
        yield page
    async for page in client.order_pages(date_from=since):
        fresh = [order for order in page.data if order.id not in seen]
        rejected = [row for row in page.rejected if row.id not in seen]
        yield replace(page, data=fresh, rejected=rejected)


def _settle_open_lines(engine: Engine, report: OrderReport) -> None:
    """What waited for a mapping or for stock, and need not wait any more."""
    report.mapped = map_known_lines(engine.database, engine.run_id)
    report.allocated = allocate_backorders(engine.database, engine.run_id)


def _since(engine: Engine) -> datetime | None:
    watermark = read_cursor(engine.database, WATERMARK)
    if watermark is None:
        return None
    return watermark - timedelta(minutes=engine.settings.orders_overlap_minutes)


def _add(report: OrderReport, result: Imported) -> None:
    for name in ("imported", "duplicates", "exceptions", "failed", "moved_on"):
        setattr(report, name, getattr(report, name) + getattr(result, name))
    report.days = dict(Counter(report.days) + Counter(result.days))
    report.preview = (report.preview + result.preview)[:20]


def take_in(
    engine: Engine, orders: Sequence[Order], rejected: Sequence[Rejected] = (), vault: Vault | None = None
) -> Imported:
    """Imports orders however they came, by polling or as an event, in one transaction; a bad one is set aside.

    Args:
        engine: the shop's database and settings.
        orders: as the client read them.
        rejected: those it could not read.
        vault: seals the payloads; made from the settings when it is not given.
    """
    vault = vault or Vault(engine.settings.payload_key)
    return import_batch(engine, read_batch(engine, orders, rejected, vault), vault)


@dataclass
class Batch:
    """Orders on their way into the shop: those that can be imported, and id, content and reason of those that cannot."""

    sales: list[Sale] = field(default_factory=list)
    unreadable: list[tuple[str, Any, str]] = field(default_factory=list)

    def add(self, other: Batch) -> None:
        """Takes in another."""
        self.sales += other.sales
        self.unreadable += other.unreadable


def read_batch(engine: Engine, orders: Sequence[Order], rejected: Sequence[Rejected], vault: Vault) -> Batch:
    """The orders as sales, sealed; nothing is written, so that it can be done while an earlier batch is imported."""
    batch = Batch()
    for order in orders:
        if _too_old(engine, order):
            continue
        try:
            batch.sales.append(read_sale(order, vault))
        except UnreadableSaleError as why:
            batch.unreadable.append((order.id, order.raw, str(why)))
    for row in rejected:
        batch.unreadable.append((row.id or f"unreadable-{_digest(row.raw)}", row.raw, row.reason))
    return batch


def import_batch(engine: Engine, batch: Batch, vault: Vault) -> Imported:
    """Imports the sales in one transaction, and keeps what could not be read, each with its reason."""
    result = Imported()
    for order_id, raw, reason in batch.unreadable:
        result.add(set_aside(engine.database, order_id, raw, reason, vault, engine.run_id))
    if batch.sales:
        mail = mail_rules(engine.settings)
        result.add(import_sales(engine.database, batch.sales, vault, engine.run_id, mail=mail))
    return result


def _too_old(engine: Engine, order: Order) -> bool:
    since = engine.settings.orders_since
    return since is not None and order.created_at is not None and order.created_at < since


def _digest(raw: object) -> str:
    return hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest()[:16]
