"""Workers: several on one database, stopped gently, killed, with a channel or a Dagster that is down."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from midas_pipelines.gateway.service import Service
from midas_pipelines.gateway.worker import run as supervisor
from midas_pipelines.gateway.worker.reports import APART_SECONDS, DagsterEvents, due
from midas_pipelines.gateway.worker.run import Supervisor
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.notifications import Notifications
from midas_pipelines.store.items.claims import Heartbeat
from midas_pipelines.store.operations.rate_limit import SharedPace
from midas_pipelines.storefront.types import Backoff
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines.sync.safety.undo import undo_run
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import SECRET, Gateway, running_gateway, sale, wait_until
from midas_pipelines_tests.shop import add_product, rows, run, shift_rules, value
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import PAYLOAD_KEY

HELD = "SELECT count(*) FROM fourseller_product_mappings WHERE claimed_by IS NOT NULL"
COMMAND = "from midas_pipelines.cli import main; main()"


def shown(world: World) -> dict[str, int]:
    return {one["sku"]: one["inventory"]["quantity"] for one in world.sandbox.state.products.values()}


def test_a_change_by_plain_sql_is_on_the_channel_in_a_moment(gateway: Gateway) -> None:
    product = add_product(gateway.world.database, sku="A-1", stock_quantity=5)
    gateway.settled()
    run(gateway.world.database, "UPDATE products SET stock_quantity = 4 WHERE id = :id", id=product)
    gateway.wait(lambda: shown(gateway.world) == {"A-1": 4}, "the quantity")


def test_a_sale_does_not_wait_behind_bulk_work_for_the_rate_limit(start: Start) -> None:
    gateway = start(rate_limit=50.0)
    database = gateway.world.database
    product = add_product(database, sku="A-1", stock_quantity=5)
    gateway.settled()
    bulk = SharedPace(database, 50.0)
    for _ in range(500):  # two minutes of the whole rate
        bulk.reserve(12)
    run(database, "UPDATE products SET stock_quantity = 4 WHERE id = :id", id=product)
    gateway.wait(lambda: shown(gateway.world)["A-1"] == 4, "the quantity")


def test_a_sale_does_not_wait_behind_many_new_items(start: Start) -> None:
    gateway = start(rate_limit=20.0, in_flight=50)
    database = gateway.world.database
    product = add_product(database, sku="A-1", stock_quantity=5)
    gateway.settled()
    many = ", ".join(f"('B', 'b-{number}', 'B-{number}', 10, 5, 'active')" for number in range(100))
    run(database, f"INSERT INTO products (name, slug, sku, price, stock_quantity, status) VALUES {many}")
    gateway.wait(lambda: len(shown(gateway.world)) > 2, "the first of them")
    run(database, "UPDATE products SET stock_quantity = 4 WHERE id = :id", id=product)
    gateway.wait(lambda: shown(gateway.world)["A-1"] == 4, "the quantity")
    assert len(shown(gateway.world)) < 30


def test_beside_a_sync_the_worker_lists_one_new_item_at_a_time(world: World, start: Start) -> None:
    database = world.database
    run(database, "INSERT INTO fourseller_sync_logs (kind, scope) VALUES ('products', 'all')")
    gateway = start(in_flight=50)
    for number in range(8):
        add_product(database, sku=f"B-{number}")
    held = "SELECT count(*) FROM fourseller_product_mappings WHERE claimed_by IS NOT NULL"
    at_once = {0}
    gateway.wait(lambda: at_once.add(value(database, held)) or len(shown(gateway.world)) == 8, "all of them")
    assert max(at_once) <= 2  # one is sent while what came of the one before is written


def test_what_the_worker_wrote_is_undone_by_the_hour(start: Start) -> None:
    gateway = start()
    world = gateway.world
    product = add_product(world.database, sku="A-1", price="10.00")
    gateway.settled()
    run(world.database, "UPDATE midas_listing_writes SET run_id = 'gateway-2026-01-01T13'")
    before = world.shown
    world.set(product, price=Decimal("99.00"))
    gateway.settled()
    assert world.shown["A-1"][1] == Decimal("99.00")
    hours = "SELECT DISTINCT run_id FROM midas_listing_writes WHERE action = 'update'"
    name = value(world.database, hours)
    assert re.fullmatch(r"gateway-20\d\d-\d\d-\d\dT\d\d", name)
    assert asyncio.run(undo_run(world.sync_context(), name)).put_back == 1
    assert world.shown == before


def test_a_rule_begins_and_ends_with_nobody_but_the_worker(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midas_pipelines.gateway.worker.run.KEEP_SECONDS", 0.2)
    gateway = start()
    add_product(gateway.world.database, sku="A-1", stock_quantity=5)
    gateway.settled()
    now = datetime.now(UTC)
    dates = {"valid_from": now + timedelta(hours=1), "valid_until": now + timedelta(hours=3)}
    set_rule(gateway.world.database, {"cap": 2}, sku="A-1", **dates)
    gateway.settled()
    assert shown(gateway.world) == {"A-1": 5}
    shift_rules(gateway.world.database, seconds=-7200)
    gateway.wait(lambda: shown(gateway.world) == {"A-1": 2}, "the beginning")
    shift_rules(gateway.world.database, seconds=-7200)
    gateway.wait(lambda: shown(gateway.world) == {"A-1": 5}, "the end")


def test_a_burst_on_few_items_costs_few_pushes(world: World, start: Start) -> None:
    ids = [add_product(world.database, stock_quantity=100_000) for _ in range(5)]
    world.full()  # so that the gateway has pushed none of them just now
    gateway = start()
    gateway.world.sandbox.calls.clear()
    for number in range(250):
        run(
            gateway.world.database,
            "UPDATE products SET stock_quantity = stock_quantity - 1 WHERE id = :id",
            id=ids[number % 5],
        )
    gateway.settled()
    assert sorted(shown(gateway.world).values()) == [99_950] * 5
    assert gateway.world.calls()["PATCH"] <= 5 * 6


def test_a_stock_that_falls_to_nothing_is_not_held_back(gateway: Gateway) -> None:
    product = add_product(gateway.world.database, sku="A-1", stock_quantity=100)
    gateway.settled()
    for quantity in (99, 98, 97, 96, 0):
        run(gateway.world.database, f"UPDATE products SET stock_quantity = {quantity} WHERE id = {product}")
        time.sleep(0.02)
    gateway.wait(lambda: shown(gateway.world) == {"A-1": 0}, "nothing")


@pytest.mark.both_databases
def test_two_gateways_share_the_work_and_never_collide(start: Start) -> None:
    first, second = start(), start()
    world = first.world
    keys = [f"A-{number}" for number in range(5)]
    for key in keys:
        add_product(world.database, sku=key, stock_quantity=100)
    first.settled()
    threads = [
        threading.Thread(
            target=lambda gateway, part: [
                gateway.tell("order.created", sale(keys[number % 5], id=f"O-{part}-{number}"))
                for number in range(10)
            ],
            args=(gateway, part),
        )
        for part, gateway in enumerate((first, second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.settled()
    assert value(world.database, "SELECT count(*) FROM orders") == 20
    assert {row.stock_quantity for row in rows(world.database, "SELECT stock_quantity FROM products")} == {92}
    assert set(shown(world).values()) == {92}
    assert len(world.sandbox.state.products) == len(keys)


def test_a_gentle_stop_leaves_no_claim_behind(world: World) -> None:
    world.sandbox.faults.latency_ms = 300
    with running_gateway(world) as gateway:
        for _ in range(10):
            add_product(world.database)
        claimed = "SELECT count(*) FROM fourseller_product_mappings WHERE claimed_by > ''"
        gateway.wait(lambda: value(world.database, claimed), "a claim")
    assert value(world.database, HELD) == 0
    assert len(world.sandbox.state.products) == len(
        {one["sku"] for one in world.sandbox.state.products.values()}
    )


@pytest.fixture
def process(world: World) -> Any:
    """Starts `midas gateway`, or another command, as a process of its own; gives it with its first line."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str, before: str = "") -> tuple[subprocess.Popen[str], str]:
        environment = os.environ | {
            "MIDAS_DATABASE_URL": world.database.engine.url.render_as_string(hide_password=False),
            "FOURSELLER_API_URL": world.background.url,
            "FOURSELLER_API_KEY": world.background.config.api_key,
            "FOURSELLER_SELLER_ID": world.background.config.seller_id,
            "FOURSELLER_WEBHOOK_SECRET": SECRET,
            "MIDAS_PAYLOAD_KEY": PAYLOAD_KEY,
            "MIDAS_LIST_LAG_SECONDS": "0",  # what a kill leaves in doubt is looked up at once
            "PYTHONUNBUFFERED": "1",
        }
        called = [sys.executable, "-c", before + COMMAND, *(command or ("gateway", "--port", "0"))]
        child = subprocess.Popen(called, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout is not None
        return child, child.stdout.readline()

    yield begin
    for child in started:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def end_at_once(child: subprocess.Popen[str], world: World) -> None:
    """Kills a worker, and lets its lease end at once instead of after fifteen seconds."""
    child.kill()
    child.wait()
    run(world.database, "DELETE FROM midas_workers")


def test_a_sigkill_loses_nothing(world: World, start: Start, process: Callable[..., Any]) -> None:
    world.sandbox.faults.latency_ms = 300
    for number in range(20):
        add_product(world.database, sku=f"A-{number}", stock_quantity=50)
    child, told = process()
    door = start(with_worker=False)
    door.client.base_url = next(word for word in told.split() if word.startswith("http")).rstrip(";")
    for number in range(20):
        placed = world.place((f"A-{number}", 1))
        assert door.tell("order.created", world.sandbox.state.orders[placed]).status_code == 202
    door.wait(lambda: value(world.database, HELD), "a claim")
    end_at_once(child, world)
    waiting = "SELECT count(*) FROM marketplace_webhooks"
    assert value(world.database, waiting) == 20
    world.sandbox.faults.latency_ms = 0
    child, _ = process("worker")  # by then the last write of the one that was killed has arrived
    door.settled()
    assert value(world.database, "SELECT count(*) FROM orders") == 20
    assert set(shown(world).values()) == {49}
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 0


BROKEN = """
from midas_pipelines.gateway.worker import run as supervisor
from midas_pipelines.storefront.types import Backoff
from midas_pipelines.sync.push_loop import PushLoop

async def fail(_):
    raise ZeroDivisionError

supervisor.RESTART, supervisor.MANY_FAILURES, supervisor.BROKEN_SECONDS = Backoff(0.01, 30), 2, 0.1
PushLoop._look = fail
"""


def test_a_process_whose_task_cannot_go_on_ends_with_1(process: Callable[..., Any]) -> None:
    child, _ = process(before=BROKEN)
    assert child.wait() == 1


def test_a_worker_alone_brings_changes_to_the_channel_and_stops_gently(
    world: World, start: Start, process: Callable[..., Any]
) -> None:
    door = start(with_worker=False)
    ids = [add_product(world.database, sku=f"A-{number}", stock_quantity=5) for number in range(10)]
    child, told = process("worker")
    assert told == "The worker is at work.\n"
    door.settled()
    run(world.database, "UPDATE products SET stock_quantity = 4 WHERE id = :id", id=ids[0])
    door.wait(lambda: shown(world)["A-0"] == 4, "the quantity")
    world.sandbox.faults.latency_ms = 300
    run(world.database, "UPDATE products SET stock_quantity = 3")
    door.wait(lambda: value(world.database, HELD), "a claim")
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 0
    assert value(world.database, HELD) == 0


def test_a_channel_that_is_down_costs_no_item_an_attempt_for_long(gateway: Gateway) -> None:
    gateway.world.faults(s503=1.0)
    for _ in range(8):
        add_product(gateway.world.database)
    gateway.wait(lambda: gateway.service.worker and gateway.service.worker.trouble, "the trouble")
    assert value(gateway.world.database, "SELECT max(attempts) FROM fourseller_product_mappings") <= 2
    gateway.world.faults()
    gateway.settled()
    assert len(gateway.world.sandbox.state.products) == 8
    assert gateway.service.worker is not None
    assert gateway.service.worker.trouble is None


def test_workers_are_woken_by_a_commit_of_anyone(shop: Database) -> None:
    woken = threading.Event()
    with Notifications(shop, lambda what: woken.set()):
        time.sleep(0.3)
        woken.clear()
        add_product(shop)
        assert woken.wait(0.5)


class History:
    """A Dagster that can be slow or down."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.down = self.refused = False

    def report_runless_asset_event(self, asset_event: Any) -> None:
        if self.down:
            self.refused = True
            raise ConnectionError("down")
        self.events.append(asset_event)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_dagster_hears_one_sum_for_each_asset_of_the_shops_day(zone: str) -> None:
    history = History()
    lineage = DagsterEvents(load_settings(timezone=zone), history)
    lineage.start()
    for _ in range(1000):
        lineage.note("inventory_levels", "pushed", 0.04)
    lineage.note("imported_orders", "applied")
    lineage.stop(patience=60)
    told = {event.asset_key.to_user_string(): event.metadata for event in history.events}
    days = {event.asset_key.to_user_string(): event.partition for event in history.events}
    assert days == {"inventory_levels": None, "imported_orders": f"{datetime.now(ZoneInfo(zone)):%Y-%m-%d}"}
    assert len(history.events) == 2
    assert set(told) == {"inventory_levels", "imported_orders"}
    assert told["inventory_levels"]["pushed"].value == 1000
    assert told["inventory_levels"]["p99_seconds"].value == 0.04


@pytest.mark.parametrize(
    ("pushed_at", "now", "expected"),
    [
        ({}, 0.5, ["inventory"]),
        ({"orders": 100.0}, 100.5, ["inventory"]),
        ({"inventory": 100.0}, 100.0 + APART_SECONDS - 1, []),
        ({"inventory": 100.0}, 100.0 + APART_SECONDS, ["inventory"]),
    ],
)
def test_an_asset_is_told_of_at_once_after_a_quiet_minute_and_once_a_minute_after_that(
    pushed_at: dict[str, float], now: float, expected: list[str]
) -> None:
    assert due(pushed_at, {"inventory": object()}, now) == expected


def test_a_busy_minute_is_one_event_and_its_rest_comes_with_the_end() -> None:
    history = History()
    lineage = DagsterEvents(load_settings(), history)
    lineage.start()
    lineage.note("inventory", "pushed")
    wait_until(lambda: history.events, "the first event")
    for _ in range(5):
        lineage.note("inventory", "pushed")
        time.sleep(0.02)
    assert len(history.events) == 1
    lineage.stop(patience=60)
    assert [event.metadata["pushed"].value for event in history.events] == [1, 5]


def test_what_dagster_could_not_hear_is_told_later_and_nobody_waits() -> None:
    history = History()
    history.down = True
    lineage = DagsterEvents(load_settings(), history)
    lineage.start()
    started = time.monotonic()
    lineage.note("inventory", "pushed")
    assert time.monotonic() - started < 0.1
    wait_until(lambda: history.refused, "the failure")
    history.down = False
    lineage.note("inventory", "pushed")
    lineage.stop(patience=60)
    assert [event.metadata["pushed"].value for event in history.events] == [2]


def test_a_day_keeps_its_sales_beside_what_the_gateway_did(shop: Database) -> None:
    history = History()
    lineage = DagsterEvents(load_settings(), history, shop)
    lineage.start()
    lineage.note("imported_orders", "applied")
    lineage.stop(patience=60)
    (event,) = history.events
    shown = {name: fact.value for name, fact in event.metadata.items()}
    assert shown == {"applied": 1, "dagster/partition_row_count": 0}


def test_a_real_dagster_shows_it_in_the_assets_history(tmp_path: Any) -> None:
    import dagster as dg

    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    lineage = DagsterEvents(load_settings(dagster_home=str(tmp_path)))
    lineage.start()
    lineage.note("inventory_levels", "pushed", 0.05)
    lineage.stop(patience=30)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("inventory_levels"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["pushed"].value == 1


WORK = (
    "SELECT counts, requests, seconds, outcome FROM fourseller_sync_logs WHERE kind = 'gateway' ORDER BY id"
)


def test_what_the_gateway_pushed_is_in_the_log_once_it_ends(world: World) -> None:
    with running_gateway(world) as gateway:
        for _ in range(5):
            add_product(world.database, stock_quantity=5)
        gateway.settled()
    ((counts, requests, seconds, outcome),) = logged(world)
    assert (counts["scanned"], counts["created"], counts["delivered"]) == (5, 5, 5)
    assert outcome == "done"
    assert requests == counts["calls"]["requests"] >= counts["calls"]["writes"] == 5
    assert 0 < seconds <= counts["calls"]["seconds"] + 0.001
    assert 0 < counts["slowest_seconds"] <= counts["delivered_seconds"]
    assert sum(counts["delivered_within"].values()) == 5


def test_each_minute_of_work_is_a_row_and_an_idle_one_is_none(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midas_pipelines.gateway.worker.run.KEEP_SECONDS", 0.1)
    monkeypatch.setattr("midas_pipelines.gateway.worker.reports.MINUTE_SECONDS", 0.2)
    gateway = start()
    for number in (1, 2):
        add_product(gateway.world.database, stock_quantity=5)
        gateway.wait(lambda number=number: created(gateway.world) == number, "the row")
    time.sleep(0.5)
    assert all(row[0]["scanned"] or row[0]["calls"]["requests"] for row in logged(gateway.world))


def test_calls_that_fail_are_in_the_row_with_those_that_do_not(world: World) -> None:
    world.sandbox.faults.script(["503", "503"])
    with running_gateway(world) as gateway:
        add_product(world.database, stock_quantity=5)
        gateway.settled()
    calls = logged(world)[0][0]["calls"]
    assert 2 == calls["failed"] < calls["requests"]


def test_sums_wait_while_the_database_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midas_pipelines.gateway.worker.run.KEEP_SECONDS", 0.1)
    monkeypatch.setattr("midas_pipelines.gateway.worker.reports.MINUTE_SECONDS", 0.2)
    away = sa.exc.OperationalError("INSERT", None, Exception("away"))

    def refuse(*_: object) -> None:
        raise away

    with running_gateway(world) as gateway:
        with monkeypatch.context() as broken:
            broken.setattr("midas_pipelines.gateway.worker.reports.note_work", refuse)
            add_product(world.database, stock_quantity=5)
            gateway.settled()
            time.sleep(0.5)
            assert not logged(world)
        gateway.wait(lambda: created(world) == 1, "the row")


def test_a_gateway_stops_quietly_while_the_database_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise sa.exc.OperationalError("UPDATE", None, Exception("away"))

    end = Heartbeat.end

    def end_and_refuse(
        heartbeat: Heartbeat,
    ) -> None:  # one that goes on would beat in the databases of other tests
        end(heartbeat)
        refuse()

    async def start_and_stop() -> None:
        async with Service(world.settings, world.database, with_worker=True).running():
            monkeypatch.setattr("midas_pipelines.store.gateway.webhooks.release_webhooks", refuse)
            monkeypatch.setattr("midas_pipelines.store.items.claims.Heartbeat.end", end_and_refuse)
            monkeypatch.setattr("midas_pipelines.gateway.worker.run.Worker._write_down", refuse)

    asyncio.run(start_and_stop())


def logged(world: World) -> list[tuple[Any, ...]]:
    found = rows(world.database, WORK)
    return [
        (json.loads(counts) if isinstance(counts, str) else counts, *rest)
        for counts, *rest in map(tuple, found)
    ]


def created(world: World) -> int:
    return sum(counts["created"] for counts, *_ in logged(world))


@pytest.mark.parametrize(
    ("error", "traced"), [(sa.exc.OperationalError("x", None, Exception("gone")), False), (KeyError(), True)]
)
def test_a_database_that_is_away_is_one_line_and_a_bug_is_traced(
    error: Exception, traced: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RESTART", Backoff(first=0.01, longest=0.01))

    async def fail_once() -> None:
        watch, tries = Supervisor(), 0
        again = asyncio.Event()

        async def work(beat: supervisor.Beat) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise error
            again.set()
            await watch.pause(60)

        watch.start("push", work)
        await again.wait()
        await watch.stop(5)

    asyncio.run(fail_once())
    (record,) = caplog.records
    assert bool(record.exc_info) is traced
    assert type(error).__name__ in record.getMessage()
