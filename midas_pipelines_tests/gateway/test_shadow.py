"""The gateway in shadow mode: webhooks, changes and calls change nothing at 4Seller and nothing in the shop."""

from __future__ import annotations

from decimal import Decimal

import pytest

from midas_pipelines.store.gateway.keys import Role
from midas_pipelines.sync.reconcile import product_events
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import sale
from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.world import World

SHOP = (
    "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_items), (SELECT max(status) FROM orders), "
    "(SELECT sum(stock_quantity) FROM products)"
)
ALL = "incremental_sync,inventory_push,order_import,status_sync"


def test_every_door_is_shut(world: World, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "midas_pipelines.gateway.worker.run.KEEP_SECONDS", 0.1
    )  # what it notes is written so often
    monkeypatch.setattr(product_events, "ORDER_SECONDS", 0.2)  # no order comes that would explain a quantity
    add_product(world.database, sku="SCR-1", stock_quantity=9)
    world.full()
    world.place(("SCR-1", 1), id="OLD")
    world.import_orders()
    world.full()
    before, writes = rows(world.database, SHOP), world.writes()
    product = next(iter(world.sandbox.state.products.values()))
    world.changes["read_back_grace_seconds"] = 0
    gateway = start(shadow=ALL)
    key = gateway.key(Role.OPERATOR)
    gateway.tell("order.created", sale("SCR-1"))
    gateway.tell("order.cancelled", sale("SCR-1", id="OLD", status="cancelled"))
    gateway.tell("product.updated", {**product, "price": "1.00"})
    gateway.tell("product.deleted", {"id": product["id"]})
    world.set(1, price=Decimal("12.00"))
    add_product(world.database, sku="NEW-1", stock_quantity=0)
    done = "SELECT count(*) FROM marketplace_webhooks WHERE processed_at IS NULL"
    gateway.wait(lambda: value(world.database, done) == 0, "the webhooks")
    gateway.wait(
        lambda: value(world.database, "SELECT count(*) FROM midas_shadow_writes WHERE kind = 'listing'") == 2,
        "the kept writes",
    )
    calls = [
        ("PATCH", "orders/OLD", {"status": "processing"}),
        ("PATCH", "orders/OLD", {"status": "refunded"}),
        ("PATCH", "orders/OLD", {"shipment": {"carrier": "UPS", "number": "1Z999AA10123456784"}}),
        ("POST", "sync/products", {"skus": ["SCR-1"]}),
        ("POST", "sync/inventory", {"skus": ["SCR-1"]}),
        ("POST", "orders", None),
    ]
    for method, path, body in calls:
        assert gateway.call(method, path, key, json=body).status_code < 500
    assert world.writes() == 0
    assert rows(world.database, SHOP) == before
    assert writes > 0
