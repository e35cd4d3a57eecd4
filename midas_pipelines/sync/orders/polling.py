"""Polling 4Seller for orders: everything that changed since the watermark, with an overlap, imported in batches."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.models import Order
from midas_pipelines.fourseller.pages import OrderPage, Rejected
from midas_pipelines.store.cursors import advance_cursor, read_cursor
from midas_pipelines.store.payloads import Vault
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders import set_aside
from midas_pipelines.sync.orders.amounts import UnreadableSaleError
from midas_pipelines.sync.orders.importing import Imported, import_sales, left_aside
from midas_pipelines.sync.orders.mail_rules import mail_rules
from midas_pipelines.sync.orders.open_lines import settle_open_lines
from midas_pipelines.sync.orders.sales import Sale, read_sale, read_status_alone
from midas_pipelines.sync.record import recorded

WATERMARK, LOOK_BACK = "orders", "orders_look_back"
LOOK_BACK_EVERY = timedelta(hours=1)
AT_ONCE = 2000
"""Orders imported in one transaction: the shop waits for the stock of their items half a second at most."""
SOON = 500
"""So many are enough to begin with while nothing else is being imported."""


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

    def add(self, result: Imported) -> None:
        """Counts a batch in."""
        for name in ("imported", "duplicates", "exceptions", "failed", "moved_on"):
            setattr(self, name, getattr(self, name) + getattr(result, name))
        self.days = dict(Counter(self.days) + Counter(result.days))
        self.preview = (self.preview + result.preview)[:20]


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
    everything was read; the next read begins `orders_overlap_minutes` before it, so that skewed clocks and rows
    that appear late lose nothing. Once an hour it begins `orders_look_back_hours` before now, and finds what appeared
    later still, or what paging has hidden.

    Raises:
        FourSellerError: a page could not be read; what was read before it is imported, the watermark stays.
    """
    window = window or Window()
    report = OrderReport()
    scope = "changed" if window.polls else f"placed {window.placed_from} to {window.placed_to}"
    with recorded(engine, "orders", scope, report) as clock:
        async with engine.channel() as client:
            clock.client = client
            started = engine.database.now()
            since, looks_back = _since(engine, started) if window.polls else (None, False)
            intake = Intake(engine, report, on_progress, read_at=started)
            try:
                async for page in _pages(client, window, since, intake):
                    await intake.add(page)
            finally:
                await intake.finish()
        opened = await asyncio.to_thread(settle_open_lines, engine.database, engine.run_id)
        report.mapped, report.allocated = opened.mapped, opened.allocated
        if window.polls and intake.read_all:
            if intake.newest is not None:
                advance_cursor(engine.database, WATERMARK, intake.newest)
            if looks_back:
                advance_cursor(engine.database, LOOK_BACK, started)
    return report


class Intake:
    """Imports pages as they are read: many in one transaction, the next ones being read meanwhile.

    Args:
        engine: the shop's database and settings.
        report: counts what happens.
        on_progress: told of it after each batch.
        read_at: before 4Seller was asked, by the database's clock.
    """

    def __init__(
        self,
        engine: Engine,
        report: OrderReport,
        on_progress: Callable[[OrderReport], None] | None = None,
        *,
        read_at: datetime,
    ) -> None:
        self.newest: datetime | None = None  # the newest `updated_at` that is not in the future
        self.read_all = True
        self._listing = Listing()
        self._seen: set[str] = set()
        self._engine = engine
        self._report = report
        self._on_progress = on_progress
        self._read_at = read_at
        self._vault = Vault(engine.settings.payload_key)
        self._batch = Batch()
        self._running: asyncio.Task[Imported] | None = None

    def next_listing(self) -> None:
        """The pages from here on answer another question."""
        self.read_all = self.read_all and self._listing.whole
        self._listing = Listing()

    async def add(self, page: OrderPage) -> None:
        """Takes one page; waits only while a whole batch before it is being imported."""
        self._listing.add(page)
        fresh = [order for order in page.data if order.id not in self._seen]
        rejected = [row for row in page.rejected if row.id not in self._seen]
        self._seen.update(order.id for order in fresh)
        self._seen.update(row.id for row in rejected if row.id)
        self._report.fetched += len(fresh) + len(rejected)
        self._batch.add(read_batch(self._engine, fresh, rejected, self._vault, self._read_at))
        dates = [order.updated_at for order in page.data if order.updated_at is not None]
        known = [date for date in dates if date <= self._read_at] + ([self.newest] if self.newest else [])
        self.newest = max(known, default=None)
        idle = self._running is None or self._running.done()
        if len(self._batch.sales) >= (SOON if idle else AT_ONCE):
            await self._start()

    async def finish(self) -> None:
        """Imports what is left and waits for all of it."""
        self.next_listing()
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
        self._report.add(await running)
        if self._on_progress is not None:
            self._on_progress(self._report)


class Listing:
    """Whether the answers to one question held everything that they declared.

    An order that changes while pages are read may push another over a page's edge, and the watermark must not move past
    what was never seen.
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._without_id = 0
        self._totals: set[int] = set()

    def add(self, page: OrderPage) -> None:
        """Counts a page in."""
        self._totals.add(page.total)
        self._ids.update(order.id for order in page.data)
        self._ids.update(row.id for row in page.rejected if row.id)
        self._without_id += sum(1 for row in page.rejected if not row.id)

    @property
    def whole(self) -> bool:
        """Whether as many orders were read as were declared, each time the same number."""
        return not self._totals or self._totals == {len(self._ids) + self._without_id}


async def _pages(
    client: FourSeller, window: Window, since: datetime | None, intake: Intake
) -> AsyncIterator[OrderPage]:
    """The pages to import. A poll asks for what changed since, and also for what was placed since: an order may lack
    the one date, or have changed without moving it."""
    if since is None:
        async for page in client.order_pages(date_from=window.placed_from, date_to=window.placed_to):
            yield page
        return
    async for page in client.order_pages(updated_from=since):
        yield page
    intake.next_listing()
    async for page in client.order_pages(date_from=since):
        yield page


def _since(engine: Engine, now: datetime) -> tuple[datetime | None, bool]:
    """From when on orders are read, and whether that is the hour's look back; None to read everything."""
    watermark = read_cursor(engine.database, WATERMARK)
    if watermark is None:
        return None, True
    since = watermark - timedelta(minutes=engine.settings.orders_overlap_minutes)
    last = read_cursor(engine.database, LOOK_BACK)
    hours = engine.settings.orders_look_back_hours
    if not hours or (last is not None and now - last < LOOK_BACK_EVERY):
        return since, False
    return min(since, now - timedelta(hours=hours)), True


def take_in(
    engine: Engine,
    orders: Sequence[Order],
    rejected: Sequence[Rejected] = (),
    *,
    vault: Vault | None = None,
    read_at: datetime | None = None,
) -> Imported:
    """Imports orders however they came, by polling or as an event, in one transaction; a bad one is set aside.

    Args:
        engine: the shop's database and settings.
        orders: as the client read them.
        rejected: those it could not read.
        vault: seals the payloads; made from the settings when it is not given.
        read_at: before 4Seller was asked for them, by the database's clock; None for events.
    """
    vault = vault or Vault(engine.settings.payload_key)
    return import_batch(engine, read_batch(engine, orders, rejected, vault, read_at), vault)


@dataclass(frozen=True)
class Unreadable:
    """An order that cannot be imported as it came: why, and where it stands if that can be read."""

    order_id: str
    raw: Any
    reason: str
    standing: Sale | None = None


@dataclass
class Batch:
    """Orders on their way into the shop: those that can be imported, and those that cannot."""

    sales: list[Sale] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)

    def add(self, other: Batch) -> None:
        """Takes in another."""
        self.sales += other.sales
        self.unreadable += other.unreadable


def read_batch(
    engine: Engine,
    orders: Sequence[Order],
    rejected: Sequence[Rejected],
    vault: Vault,
    read_at: datetime | None = None,
) -> Batch:
    """The orders as sales, sealed; nothing is written, so that it can be done while an earlier batch is imported."""
    batch = Batch()
    for order in orders:
        if too_old(engine, order):
            continue
        try:
            batch.sales.append(read_sale(order, vault, read_at))
        except UnreadableSaleError as why:
            batch.unreadable.append(_unreadable(order, str(why), read_at))
        except (ArithmeticError, ValueError) as odd:  # of which nobody has thought: it stops no other order
            why_not = f"It cannot be read: {type(odd).__name__}."
            batch.unreadable.append(_unreadable(order, why_not, read_at))
    batch.unreadable += [rejected_order(row, read_at) for row in rejected]
    return batch


def _unreadable(order: Order, reason: str, read_at: datetime | None) -> Unreadable:
    try:
        standing = read_status_alone(order, reason, read_at)
    except (UnreadableSaleError, ValidationError):
        standing = None
    return Unreadable(order.id, order.raw, reason, standing)


def rejected_order(row: Rejected, read_at: datetime | None = None) -> Unreadable:
    """An order that breaks the contract: kept under its id, or under a digest of it where it has none."""
    if not row.id:
        return Unreadable(f"unreadable-{_digest(row.raw)}", row.raw, row.reason)
    try:
        bare = {name: row.raw.get(name) for name in ("id", "status", "updated_at")}
        order = Order.model_validate(bare).keeping({})
    except (ValidationError, AttributeError):
        return Unreadable(row.id, row.raw, row.reason)
    return Unreadable(row.id, row.raw, row.reason, _unreadable(order, row.reason, read_at).standing)


def import_batch(engine: Engine, batch: Batch, vault: Vault) -> Imported:
    """Imports the sales in one transaction, and keeps what could not be read, each with its reason.

    Of an unreadable order that is known already the status is followed all the same.
    """
    result = Imported()
    sales = list(batch.sales)
    for one in batch.unreadable:
        kept = set_aside.keep(engine.database, one.order_id, one.raw, one.reason, vault, engine.run_id)
        if kept is not None:
            result.add(left_aside(one.order_id, one.reason, new=kept == "new"))
        elif one.standing is not None:
            sales.append(one.standing)
    if sales:
        mail = mail_rules(engine.settings)
        result.add(import_sales(engine.database, sales, vault, engine.run_id, mail=mail))
    return result


def too_old(engine: Engine, order: Order) -> bool:
    """Whether the order was placed before imports begin."""
    since = engine.settings.orders_since
    return since is not None and order.created_at is not None and order.created_at < since


def _digest(raw: object) -> str:
    return hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest()[:16]
