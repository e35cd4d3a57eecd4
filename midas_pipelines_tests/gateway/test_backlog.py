"""A flood of product events: one import for all of them, no sale waits for them, and the process answers meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from midas_pipelines.sync.orders.intake import OrderReport
from midas_pipelines.sync.rules import set_rule
from midas_pipelines_tests.gateway.running import Gateway
from midas_pipelines_tests.gateway.test_webhooks import sale
from midas_pipelines_tests.shop import add_product, rows, value


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
    flood(gateway, 200)
    gateway.settled()
    logged = rows(gateway.world.database, "SELECT id FROM fourseller_sync_logs WHERE kind = 'orders'")
    assert len(logged) < 60
