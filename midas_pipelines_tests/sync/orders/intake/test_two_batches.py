"""Two batches under way: the second runs ahead, allocates stock in its turn, and whatever fails, each order is imported once."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.models import read_order
from midas_pipelines.fourseller.pages import read_page
from midas_pipelines.settings import DatabaseLimits
from midas_pipelines.store.database import Database
from midas_pipelines.sync.orders.intake import pages, write
from midas_pipelines.sync.orders.intake.importer import import_sales
from midas_pipelines.sync.orders.intake.write import ImportCounts
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import read_sale
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, order_json
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import VAULT

pytestmark = pytest.mark.both_databases

WRITERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
TAKEN = "INSERT INTO orders (order_number, total_amount, shipping_address, billing_address) VALUES (:name, 1, '{}', '{}')"


ONCE = "SELECT count(*), count(DISTINCT marketplace_order_id), count(DISTINCT local_order_id) FROM marketplace_orders"
WATERMARK = "SELECT count(*) FROM midas_cursors WHERE name = 'orders'"


class Turn(Event):
    """A turn, and how often it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = Event(), Event()

    def wait(self, timeout: float | None = None) -> bool:
        (self.again if self.first.is_set() else self.first).set()
        return super().wait(timeout)


def orders(name: str, count: int, **fields: Any) -> list[Raw]:
    """So many orders for one of A each, a minute between them."""
    return [
        order_json(order_id=f"{name}-{n:03}", created_at=f"2026-01-02T{n // 60:02}:{n % 60:02}:00Z", **fields)
        for n in range(count)
    ]


def bring(world: World, raws: list[Raw], **options: Any) -> ImportCounts:
    """Imports them as one batch."""
    sales = [read_sale(read_order(raw)) for raw in raws]
    return import_sales(world.database, sales, OrderContext(vault=VAULT), **options)


@contextmanager
def ahead(world: World, raws: list[Raw]) -> Iterator[tuple[Turn, Future[ImportCounts]]]:
    """Imports them in a thread until they wait for their turn; then the block, their turn, and their end."""
    turn = Turn()
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(bring, world, raws, turn=turn)
        try:
            assert turn.first.wait(30)
            yield turn, result
        finally:
            turn.set()


def test_the_batch_ahead_gets_the_stock_first_and_its_backorders_come_before_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "TURN_SECONDS", 30)
    product = add_product(world.database, sku="A", stock_quantity=5)
    with ahead(world, orders("LATE", 4)) as (turn, late):
        assert (bring(world, orders("SOON", 7)).imported, late.done()) == (7, False)
        world.set(product, stock_quantity=3)
    assert (late.result().imported, turn.again.is_set()) == (4, True)
    assert paper.took(world, *(f"SOON-{n:03}" for n in range(7))) == [1] * 7
    assert paper.took(world, *(f"LATE-{n:03}" for n in range(4))) == [1, 0, 0, 0]
    desk.assert_whole(world)


def test_one_that_waits_for_long_lets_go_of_its_rows_and_writes_them_again_in_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "TURN_SECONDS", 0.01)
    add_product(world.database, sku="A", stock_quantity=5)
    with ahead(world, orders("LATE", 4)) as (turn, late):
        if world.database.is_postgresql:
            assert turn.again.wait(30)
            assert value(world.database, WRITERS) == 0
        assert bring(world, orders("SOON", 3)).imported == 3
    assert late.result().imported == 4
    assert value(world.database, "SELECT count(*) FROM orders") == 7
    desk.assert_whole(world)


def test_a_batch_that_is_refused_ahead_of_its_turn_is_halved_in_it(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=3)
    run(world.database, TAKEN, name="4S-LATE-002")
    with ahead(world, orders("LATE", 4)) as (turn, late):
        assert (not world.database.is_postgresql) or turn.first.wait(30)
        assert (bring(world, orders("SOON", 2)).imported, late.done()) == (2, False)
    assert (late.result().imported, late.result().failed) == (3, 1)
    assert paper.took(world, *(f"LATE-{n:03}" for n in (0, 1, 3))) == [1, 0, 0]


def test_known_orders_in_the_later_batch_are_read_and_locked_in_their_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "TURN_SECONDS", 30)
    product = add_product(world.database, sku="A", stock_quantity=2)
    bring(world, orders("OLD", 2))
    off = orders("OLD", 2, status="cancelled", updated_at="2026-03-01T00:00:00Z")
    with ahead(world, [*off, *orders("LATE", 1)]) as (_, late):
        assert bring(world, orders("SOON", 1)).imported == 1
    assert (late.result().updated, late.result().imported) == (2, 1)
    assert paper.took(world, "SOON-000", "LATE-000") == [
        1,
        1,
    ]  # what was cancelled served the backorder first
    assert desk.stock(world, product) == 0
    desk.assert_whole(world)


def poll(world: World, raws: list[Raw]) -> pages.OrderReport:
    """Imports them in batches of ten, two at once."""
    context, report = world.sync_context(orders_batch=10), pages.OrderReport()

    async def read() -> None:
        intake = pages.OrderPages(context, report, read_at=world.database.now())
        try:
            for start in range(0, len(raws), 10):
                page = {"data": raws[start : start + 10], "total": len(raws), "limit": 10, "offset": start}
                await intake.add(read_page(page, read_order))
        finally:
            await intake.finish()

    asyncio.run(read())
    return report


def test_when_nothing_can_be_written_every_batch_has_ended_and_so_has_haste(world: World) -> None:
    usual = gc.get_threshold()
    run(world.database, "ALTER TABLE order_status_history RENAME TO moved_away")
    with pytest.raises(sa.exc.DBAPIError):
        poll(world, orders("X", 60))
    assert gc.get_threshold() == usual
    run(world.database, "ALTER TABLE moved_away RENAME TO order_status_history")
    assert rows(world.database, ONCE) == [(0, 0, 0)]
    assert poll(world, orders("X", 60)).imported == 60
    assert gc.get_threshold() == usual


def test_the_batches_of_a_poll_allocate_in_their_order_whichever_of_them_is_halved(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SOON", 10)
    add_product(world.database, sku="A", stock_quantity=35)
    for bad in ("X-003", "X-017", "X-018", "X-044"):
        run(world.database, TAKEN, name=f"4S-{bad}")
    report = poll(world, orders("X", 60))
    assert (report.imported, report.failed) == (56, 4)
    names = [f"X-{n:03}" for n in range(60) if n not in (3, 17, 18, 44)]
    assert paper.took(world, *names) == [1] * 35 + [0] * 21


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(world: World, number: int) -> Iterator[None]:
    """The process is killed at that statement or commit: none of its threads runs another one."""
    left = number

    def one_more(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise Killed

    events = [(world.database.engine, "before_cursor_execute"), (world.database.engine, "commit")]
    for engine, event in events:
        sa.event.listen(engine, event, one_more)
    try:
        yield
    except Killed:
        pass
    finally:
        for engine, event in events:
            sa.event.remove(engine, event, one_more)


@contextmanager
def shop_holds(world: World, product: int) -> Iterator[None]:
    """The shop's checkout holds the item."""
    if not world.database.is_postgresql:
        yield
        return
    with world.database.writing() as connection:
        connection.exec_driver_sql(f"SELECT id FROM products WHERE id = {product} FOR UPDATE")
        yield


@pytest.fixture
def impatient(world: World) -> Iterator[World]:
    """A world that waits a moment for a locked row."""
    limits = DatabaseLimits(lock_seconds=0.1, idle_seconds=60)
    with Database(world.database.engine.url, limits) as database:
        yield replace(world, database=database)


@pytest.mark.parametrize(("seed", "most"), [(1, 80), pytest.param(2, 300, marks=pytest.mark.soak)])
def test_in_a_storm_of_refusals_locks_and_deaths_each_order_counts_once(
    impatient: World, monkeypatch: pytest.MonkeyPatch, seed: int, most: int
) -> None:
    world, chance = impatient, random.Random(seed)
    monkeypatch.setattr(write, "TURN_SECONDS", 0.05)
    world.changes["orders_batch"] = most // 3
    made = {sku: add_product(world.database, sku=sku, stock_quantity=most // 4) for sku in "ABC"}
    raws = [raw | {"items": [paper.line(chance.choice("ABC"))]} for raw in orders("X", most)]
    *taken, unreadable, worse = bad = chance.sample([raw["id"] for raw in raws], 4)
    odd: dict[str, Raw] = {unreadable: {"items": "A"}, worse: {"items": 7}}
    paper.put(world, *(raw | odd.get(raw["id"], {}) for raw in raws))
    for turn in range(4):
        dies = killed_at(world, chance.randint(10, 250)) if turn in (1, 2) else nullcontext()
        locked = shop_holds(world, made[chance.choice("ABC")]) if turn < 1 else nullcontext()
        for name in taken:
            run(world.database, TAKEN, name=f"4S-{name}")
        with dies, locked:
            world.import_orders()
        run(world.database, "DELETE FROM orders WHERE total_amount = 1")
        desk.assert_whole(world)
        whole = rows(world.database, ONCE) == [(most, most, most - len(bad))]
        assert whole or value(world.database, WATERMARK) == 0
        paper.move_cursor(world, "orders", 1)
    assert whole
    sold = {sku: sum(raw["items"][0]["sku"] == sku and raw["id"] not in bad for raw in raws) for sku in made}
    assert {sku: desk.stock(world, made[sku]) for sku in made} == {
        sku: max(0, most // 4 - sold[sku]) for sku in made
    }
