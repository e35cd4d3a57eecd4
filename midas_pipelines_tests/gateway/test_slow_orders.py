"""One order that the shop's database takes long to write, or whose rows the shop has locked, keeps no other order waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from midas_pipelines.gateway.worker import webhook_worker
from midas_pipelines.gateway.worker.webhook_worker import WebhookWorker
from midas_pipelines.settings import DatabaseLimits, Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.payload_vault import vault_of
from midas_pipelines.sync.orders.intake.batch import import_order_webhooks
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import Gateway, sale, wait_until
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.only_on("postgresql")

OTHERS = 8
FOREVER = DatabaseLimits(role="worker", lock_seconds=600, statement_seconds=600, idle_seconds=600)
GATE = "SELECT pg_advisory_xact_lock(77)"
"""Held, it makes the triggers of `slow_trigger` take as long as the transaction that holds it."""
SLEEP = "BEGIN WHILE NOT pg_try_advisory_xact_lock(77) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NEW; END"

ITEM = "INSERT ON order_items FOR EACH ROW WHEN (NEW.product_name = 'Slow')"
ORDER = "ON orders {} FOR EACH ROW WHEN (NEW.order_number LIKE '4S-S%')"
TRIGGERS = {
    "its lines": f"TRIGGER slow BEFORE {ITEM}",
    "its order": f"TRIGGER slow BEFORE INSERT {ORDER.format('')}",
    "its status": f"TRIGGER slow BEFORE UPDATE {ORDER.format('')}",
    "its commit": f"CONSTRAINT TRIGGER slow AFTER INSERT {ORDER.format('DEFERRABLE INITIALLY DEFERRED')}",
}
LOCKS = {
    "its item": "SELECT id FROM products WHERE sku = 'S' FOR UPDATE",
    "its row": "SELECT id FROM orders WHERE order_number = '4S-S' FOR UPDATE",
}
KNOWN = ("its status", "its row")
"""What is slow about a change of an order that is known already."""
APPLIED = "SELECT count(*) FROM marketplace_webhooks WHERE outcome = 'applied'"
OF_SLOW = "SELECT outcome FROM marketplace_webhooks WHERE subject LIKE 'order:S%'"


def slow(name: str = "S", **fields: Any) -> dict[str, Any]:
    return sale(
        "S", id=name, items=[{"sku": "S", "title": "Slow", "quantity": 2, "price": "10.00"}], **fields
    )


def slow_trigger(database: Database, what: str) -> None:
    run(database, f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $${SLEEP}$$")
    run(database, f"CREATE {TRIGGERS[what]} EXECUTE FUNCTION slow()")


@contextmanager
def held(database: Database, statement: str) -> Iterator[None]:
    """A transaction of the shop's that has run the statement, and says nothing more."""
    with Database(database.engine.url, FOREVER) as shops, shops.writing() as connection:
        connection.exec_driver_sql(statement)
        yield


@pytest.fixture
def door(start: Start, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway that only stores webhooks, in a shop where no wait ends by itself."""
    monkeypatch.setattr(Settings, "limits", lambda _, role: FOREVER.model_copy(update={"role": role}))
    door = start(with_worker=False)
    add_product(door.world.database, sku="S", stock_quantity=50)
    add_product(door.world.database, sku="W", stock_quantity=500)
    return door


def tell_others(door: Gateway, first: int, last: int) -> None:
    for number in range(first, last):
        door.tell("order.created", sale("W", id=f"W-{number}"))


@pytest.mark.parametrize("what", [*TRIGGERS, *LOCKS])
def test_the_others_of_its_batch_and_those_that_come_later_are_applied_while_one_is_slow(
    door: Gateway, start: Start, what: str
) -> None:
    database = door.world.database
    if what in KNOWN:
        paper.polled(door.world, slow())
    if what in TRIGGERS:
        slow_trigger(database, what)
    with held(database, LOCKS.get(what, GATE)):
        tell_others(door, 0, OTHERS // 2)
        later = {"status": "cancelled", "updated_at": "2026-11-23T11:00:00Z"} if what in KNOWN else {}
        door.tell("order.created", slow(**later))
        tell_others(door, OTHERS // 2, OTHERS)
        start()
        door.wait(lambda: value(database, APPLIED) == OTHERS, "the others")
        tell_others(door, OTHERS, OTHERS + 2)
        door.wait(lambda: value(database, APPLIED) == OTHERS + 2, "those that come later")
        assert rows(database, OF_SLOW) == [(None,)]
    door.settled()
    assert rows(database, OF_SLOW) == [("applied",)]
    assert desk.order(door.world, "S").status == ("cancelled" if what in KNOWN else "pending")
    desk.assert_whole(door.world)


def test_more_slow_orders_than_are_imported_at_once_are_retried(
    door: Gateway, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_worker, "SLOW_ORDERS", 1)
    database = door.world.database
    slow_trigger(database, "its order")
    with held(database, GATE):
        for name in ("S-1", "S-2", "S-3"):
            door.tell("order.created", slow(name))
        tell_others(door, 0, 3)
        start()
        door.wait(lambda: value(database, APPLIED) == 3, "the others")
        assert rows(database, OF_SLOW) == [(None,)] * 3
    door.settled()
    assert rows(database, OF_SLOW) == [("applied",)] * 3
    assert value(database, "SELECT stock_quantity FROM products WHERE sku = 'S'") == 50 - 3 * 2


def test_a_slow_order_that_waits_for_its_turn_is_not_tried_in_another_batch(
    door: Gateway, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try costs the others of the batch the time that a statement may take."""
    tried = list[str]()

    def import_noted(context: Any, orders: Any, vault: Any, *, hurried: bool) -> Any:
        tried.extend(order["id"] for order in orders if hurried)
        return import_order_webhooks(context, orders, vault, hurried=hurried)

    monkeypatch.setattr(webhook_worker, "SLOW_ORDERS", 1)
    monkeypatch.setattr(webhook_worker, "import_order_webhooks", import_noted)
    database = door.world.database
    slow_trigger(database, "its order")
    next_try = "SELECT min(next_attempt_at) FROM marketplace_webhooks WHERE outcome IS NULL"
    with held(database, GATE):
        for name in ("S-1", "S-2", "S-3"):
            door.tell("order.created", slow(name))
        tell_others(door, 0, 3)
        start()
        first = door.wait(lambda: value(database, next_try), "the first try")
        door.wait(lambda: value(database, next_try) > first, "the second one")
    door.settled()
    assert sorted(tried) == ["S-1", "S-2", "S-3", "W-0", "W-1", "W-2"]


def test_an_order_that_fails_beside_a_slow_one_costs_that_no_attempt(door: Gateway, start: Start) -> None:
    database = door.world.database
    slow_trigger(database, "its order")
    fails = "BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'ZZ001'; END"
    run(database, f"CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $${fails}$$")
    when = "WHEN (NEW.order_number = '4S-F')"
    run(database, f"CREATE TRIGGER a BEFORE INSERT ON orders FOR EACH ROW {when} EXECUTE FUNCTION fails()")
    attempts = "SELECT attempts FROM marketplace_webhooks WHERE subject = 'order:{}'"
    with held(database, GATE):
        door.tell("order.created", slow())
        door.tell("order.created", sale("W", id="F"))
        start()
        door.wait(lambda: value(database, attempts.format("F")), "the first try")
        assert value(database, attempts.format("S")) == 0


def test_an_order_whose_quarantined_row_is_locked_delays_no_other(start: Start) -> None:
    door = start(with_worker=False)
    database, unreadable = door.world.database, sale("W", id="Q") | {"items": "A"}
    add_product(database, sku="W", stock_quantity=50)
    paper.polled(door.world, unreadable)
    with held(database, "SELECT id FROM marketplace_orders WHERE marketplace_order_id = 'Q' FOR UPDATE"):
        door.tell("order.updated", unreadable)
        tell_others(door, 0, 3)
        start()
        door.wait(lambda: value(database, APPLIED) == 3, "the others")
        assert value(database, "SELECT sum(attempts) FROM marketplace_webhooks WHERE outcome IS NULL") == 0
    door.settled()
    assert (
        value(database, "SELECT outcome FROM marketplace_webhooks WHERE subject = 'order:Q'") == "quarantined"
    )


def test_two_events_of_a_slow_order_are_applied_in_their_order(door: Gateway, start: Start) -> None:
    database = door.world.database
    slow_trigger(database, "its order")
    with held(database, GATE):
        door.tell("order.updated", slow(status="cancelled", updated_at="2026-11-23T11:00:00Z"))
        door.tell("order.created", slow())
        tell_others(door, 0, 1)
        start()
        door.wait(lambda: value(database, APPLIED) == 1, "the other")
        door.tell("order.updated", slow(status="refunded", updated_at="2026-11-23T12:00:00Z"))
    door.settled()
    assert desk.order(door.world, "S").status == "refunded"
    assert value(database, "SELECT stock_quantity FROM products WHERE sku = 'S'") == 50
    desk.assert_whole(door.world)


def test_a_worker_that_stops_ends_the_slow_order_before_it_releases_its_claims(door: Gateway) -> None:
    world = door.world
    slow_trigger(world.database, "its order")
    door.tell("order.created", slow())
    tell_others(door, 0, 1)
    context, gate = world.sync_context(), held(world.database, GATE)

    async def work() -> None:
        finished: list[Any] = []
        given: Any = (None, vault_of(world.settings), None, lambda one, _: finished.append(one))
        worker = WebhookWorker(context, *given)
        with gate:
            running = asyncio.create_task(worker.run(lambda: None, orders=True))
            while not finished:  # noqa: ASYNC110 - the other one
                await asyncio.sleep(0.01)
            worker.stop()
            await running
            releasing = asyncio.create_task(worker.release())
            await asyncio.sleep(0.1)
        await releasing

    asyncio.run(work())
    assert (rows(world.database, OF_SLOW), value(world.database, APPLIED)) == ([("applied",)], 2)


def test_a_slow_order_of_a_poll_is_imported_after_all_others(world: World) -> None:
    for sku in "SW":
        add_product(world.database, sku=sku, stock_quantity=500)
    slow_trigger(world.database, "its lines")
    paper.put(world, *(sale("W", id=f"W-{n}") for n in range(9)), slow(), sale("S", id="S-2"))
    imported = "SELECT count(*) FROM orders"
    with ThreadPoolExecutor(1) as thread:
        with held(world.database, GATE):
            report = thread.submit(world.import_orders)
            wait_until(lambda: value(world.database, imported) == 10, "the others")
        assert report.result().imported == 11
    desk.assert_whole(world)
