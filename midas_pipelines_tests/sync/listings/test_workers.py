"""Several workers on one dirty set, in threads and in processes: each write once, no item pushed twice at a time."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from midas_pipelines.store.items import claims
from midas_pipelines.store.items.claims import Heartbeat
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.plan import Change
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.product_sync import Mode, sync_products
from midas_pipelines_tests.shop import add_product, run, value
from midas_pipelines_tests.sync.syncing import one_sync, start_syncing
from midas_pipelines_tests.sync.world import WRITES, World

pytestmark = pytest.mark.both_databases

ITEMS = 20


def by_threads(world: World, kind: str) -> None:
    """Three workers, each a thread with an event loop of its own."""
    failures: list[BaseException] = []

    def work(context: SyncContext) -> None:
        try:
            asyncio.run(one_sync(context, kind))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(world.sync_context(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def by_processes(world: World, kind: str) -> None:
    """Three workers, each a process."""
    running = [start_syncing(world.settings, [kind]) for _ in range(3)]
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0, 0]


def assert_never_two_at_once(world: World) -> None:
    """No two writes of one product were under way at the same time."""
    spans: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for call in world.sandbox.calls.last:
        if call["method"] in WRITES and call["path"].count("/") > 2:
            ended = datetime.fromisoformat(call["at"])
            spans[call["path"].split("/")[3]].append((ended - timedelta(milliseconds=call["ms"]), ended))
    for of_product in spans.values():
        of_product.sort()
        assert all(one[1] <= two[0] for one, two in pairwise(of_product))


@pytest.mark.parametrize(("drain", "kind"), [(by_threads, "incremental"), (by_processes, "full")])
def test_workers_together_create_each_item_once(
    world: World, drain: Callable[[World, str], None], kind: str
) -> None:
    for _ in range(ITEMS):
        add_product(world.database)
    world.sync_context(in_flight=2)
    world.sandbox.faults.latency_ms = 5.0
    drain(world, kind)
    assert world.sandbox.calls.counts["POST", 201] == ITEMS
    assert world.shown == world.wanted
    assert world.dirty == 0


def test_workers_together_push_each_quantity_once(world: World) -> None:
    products = [add_product(world.database) for _ in range(ITEMS)]
    world.full()
    for product in products:
        world.set(product, stock_quantity=1)
    world.sync_context(in_flight=2)
    world.sandbox.faults.latency_ms = 5.0
    world.sandbox.calls.clear()
    by_threads(world, "inventory")
    assert_never_two_at_once(world)
    assert world.writes() == ITEMS
    assert world.shown == world.wanted


def test_workers_and_a_busy_shop_end_equal(world: World) -> None:
    products = [add_product(world.database) for _ in range(10)]
    world.full()
    world.sandbox.faults.latency_ms = 2.0
    done = threading.Event()

    def sell() -> None:
        for quantity in range(60):
            world.set(products[quantity % 10], stock_quantity=quantity)
        done.set()

    shop = threading.Thread(target=sell)
    shop.start()
    while not done.is_set():
        by_threads(world, "inventory")
        assert_never_two_at_once(world)
        world.sandbox.calls.clear()
    shop.join()
    world.inventory()
    assert world.shown == world.wanted


def test_what_a_living_worker_has_claimed_is_left_to_it(world: World) -> None:
    add_product(world.database)
    heartbeat = Heartbeat(world.database, "busy")
    heartbeat.begin()
    with world.database.writing() as connection:
        assert len(claims.claim(connection, worker="busy", lease_seconds=60, limit=10)) == 1
    assert world.incremental().scanned == 0
    heartbeat.end()
    assert world.incremental().created == 1


def test_a_claim_that_its_living_worker_does_not_know_of_ends_in_time(world: World) -> None:
    """The database was cut off while it answered the commit."""
    add_product(world.database)
    heartbeat = Heartbeat(world.database, "busy")
    heartbeat.begin()
    with world.database.writing() as connection:
        claims.claim(connection, worker="busy", lease_seconds=60, limit=1)
    run(world.database, "UPDATE fourseller_product_mappings SET claimed_until = '2000-01-01 00:00:00'")
    assert world.incremental().created == 1
    heartbeat.end()


def test_what_a_dead_worker_had_claimed_is_free_at_once(world: World) -> None:
    add_product(world.database)
    with world.database.writing() as connection:
        assert len(claims.claim(connection, worker="dead", lease_seconds=3600, limit=10)) == 1
    assert world.incremental().created == 1
    assert value(world.database, "SELECT max(attempts) FROM fourseller_product_mappings") == 0


def test_a_sku_whose_holder_is_being_pushed_is_waited_for(world: World) -> None:
    old = add_product(world.database, sku="HANDED")
    world.full()
    world.set(old, sku="OTHER")
    add_product(world.database, sku="HANDED")
    heartbeat = Heartbeat(world.database, "busy")
    heartbeat.begin()
    with world.database.writing() as connection:
        claims.claim(connection, worker="busy", lease_seconds=60, limit=1)
    report = world.incremental()
    assert (report.created, report.failed) == (0, 1)
    heartbeat.end()
    world.incremental()
    assert world.shown == world.wanted


def test_a_chain_of_skus_waits_for_the_one_that_is_being_pushed(world: World) -> None:
    first, second, third = (add_product(world.database, sku=sku) for sku in ("A", "B", "C"))
    world.full()
    for item, sku in ((first, "D"), (second, "A"), (third, "B")):
        world.set(item, sku=sku)
    heartbeat = Heartbeat(world.database, "busy")
    heartbeat.begin()
    with world.database.writing() as connection:
        assert len(claims.claim(connection, worker="busy", lease_seconds=60, limit=1)) == 1
    assert world.incremental().failed == 2
    heartbeat.end()
    world.incremental()
    world.incremental()
    assert world.shown == world.wanted


def test_a_run_cancelled_midway_leaves_no_claim_and_no_duplicate(world: World) -> None:
    for _ in range(ITEMS):
        add_product(world.database)
    world.sandbox.state.honour_idempotency_key = False
    world.sandbox.faults.latency_ms = 5.0

    async def stop_soon() -> None:
        sync = asyncio.create_task(sync_products(world.sync_context(), Mode.FULL))
        await asyncio.sleep(0.05)
        sync.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sync
        await asyncio.sleep(0.02)  # what was on its way arrives

    asyncio.run(stop_soon())
    held = "SELECT count(*) FROM fourseller_product_mappings WHERE claimed_by IS NOT NULL"
    assert value(world.database, held) == 0
    assert value(world.database, "SELECT outcome FROM fourseller_sync_logs") == "failed"
    world.full()
    assert world.shown == world.wanted


def test_the_first_few_are_claimed_at_once_and_then_many(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(50):
        add_product(world.database)
    claimed: list[int] = []

    def counted(push: Push, *given: Any) -> list[Change]:
        changes = whole(push, *given)
        claimed.append(len(changes))
        return changes

    whole = Push.claim_batch
    monkeypatch.setattr(Push, "claim_batch", counted)
    world.changes |= {"in_flight": 8}
    world.full()
    assert claimed == [2, 16, 24, 8, 0]
