"""A flood of product events: one import for all of them, no sale waits for them, and the process answers meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from midas_pipelines.settings import DatabaseLimits
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines.storefront.types import Backoff
from midas_pipelines.sync.orders.intake.pages import OrderReport
from midas_pipelines.sync.push_loop import PushLoop
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines_tests.gateway.running import Gateway, running_gateway, sale
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.world import World


class SlowImport:
    """Stands for an import of orders that keeps its thread busy until it is let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.go = threading.Event()

    async def __call__(self, *_: Any, **__: Any) -> OrderReport:
        self.runs += 1
        self.go.wait(30)
        return OrderReport()


@pytest.fixture
def slow_import(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowImport]:
    slow = SlowImport()
    monkeypatch.setattr("midas_pipelines.gateway.service.import_orders", slow)
    yield slow
    slow.go.set()


def flood(gateway: Gateway, events: int) -> None:
    """Three listed products under a quantity policy, edited on 4Seller, and so many events of it."""
    database = gateway.world.database
    for number in range(3):
        add_product(database, sku=f"F-{number}", stock_quantity=50)
    gateway.settled()
    set_rule(database, {"quantity_policy": "marketplace_wins"})
    state = gateway.world.sandbox.state
    for number in range(events):
        product_id = list(state.products)[number % 3]
        gateway.tell("inventory.updated", state.set_quantity(product_id, 40 - number % 30))


def pending(gateway: Gateway) -> int:
    query = "SELECT count(*) FROM marketplace_webhooks WHERE processed_at IS NULL"
    return int(value(gateway.world.database, query))


def test_while_an_import_is_under_way_probes_are_answered_and_sales_come_in(
    gateway: Gateway, slow_import: SlowImport
) -> None:
    flood(gateway, 30)
    gateway.wait(lambda: slow_import.runs, "the import")
    assert gateway.call("GET", "/healthz").status_code == 200
    gateway.tell("order.created", sale("F-0"))
    imported = "SELECT count(*) FROM marketplace_orders WHERE outcome = 'imported'"
    gateway.wait(lambda: value(gateway.world.database, imported) == 1, "the sale")
    assert slow_import.runs == 1
    gateway.wait(lambda: pending(gateway) == 30, "the outcome of the sale alone")


def test_a_flood_of_events_costs_a_few_imports(gateway: Gateway) -> None:
    gateway.world.changes["read_back_grace_seconds"] = 0.1
    flood(gateway, 40)
    gateway.settled()
    logged = rows(gateway.world.database, "SELECT id FROM fourseller_sync_logs WHERE kind = 'orders'")
    assert len(logged) < 15


@pytest.mark.only_on("postgresql")  # SQLite locks no rows
def test_calls_that_wait_for_the_database_hold_up_neither_probes_nor_webhooks_nor_pushes(
    gateway: Gateway, keys: dict[Role, str]
) -> None:
    database = gateway.world.database
    product = add_product(database, sku="W-1", stock_quantity=9)
    gateway.settled()
    gateway.tell("order.created", sale("W-1"))
    gateway.settled()
    locking = Database(database.engine.url, DatabaseLimits(idle_seconds=60))
    with locking.writing() as shops, ThreadPoolExecutor(20) as callers:
        shops.exec_driver_sql("SELECT id FROM orders FOR UPDATE")
        path, move = "orders/A-1", {"status": "processing"}
        calls = [
            callers.submit(gateway.call, "PATCH", path, keys[Role.OPERATOR], json=move) for _ in range(20)
        ]
        assert gateway.call("GET", "/readyz").status_code == 200
        run(database, f"UPDATE products SET stock_quantity = 3 WHERE id = {product}")
        state = gateway.world.sandbox.state.products
        gateway.wait(lambda: next(iter(state.values()))["inventory"]["quantity"] == 3, "the push")
        assert gateway.tell("order.created", sale("W-1", id="A-2")).status_code == 202
        answers = [call.result() for call in calls]
    assert {answer.status_code for answer in answers} == {503}
    assert "holds rows" in answers[0].json()["detail"]
    assert gateway.call("PATCH", path, keys[Role.OPERATOR], json=move).status_code == 200
    locking.close()


def test_a_task_that_fails_starts_again_and_one_that_keeps_failing_fails_the_probe(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midas_pipelines.gateway.worker.run.RESTART", Backoff(0.01, 30))
    failing = threading.Event()
    look = PushLoop._look

    async def look_or_fail(express: PushLoop) -> float:
        if failing.is_set():
            raise ZeroDivisionError
        return await look(express)

    monkeypatch.setattr(PushLoop, "_look", look_or_fail)
    with running_gateway(world) as gateway:
        failing.set()
        gateway.wait(lambda: gateway.call("GET", "/healthz").status_code == 503, "the bad news")
        assert "push items" in gateway.call("GET", "/healthz").json()["detail"]
        failing.clear()
        add_product(world.database, stock_quantity=5)
        gateway.settled()
        assert len(world.sandbox.state.products) == 1
