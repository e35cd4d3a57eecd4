"""On two years of orders no statement that people, schedules or the gateway run all the time reads a large table from end to end.

PostgreSQL has its own settings here, as on a server of a user's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import webhooks as gateway_webhooks
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines.store.operations.retention import KEPT, delete_old
from midas_pipelines.store.stock.ledger import unexplained_stock
from midas_pipelines.sync.privacy.due import erase_due_buyers
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.workflows import WORKFLOWS
from midas_pipelines_tests.conftest import create_upgraded_shop
from midas_pipelines_tests.copies import PostgresCopies, fresh_database
from midas_pipelines_tests.defs.conftest import Execute, environment, execute, instance, shared_instance  # noqa: F401
from midas_pipelines_tests.gateway.console.visitor import visitor_of
from midas_pipelines_tests.many_orders import scans, seed_orders, watched
from midas_pipelines_tests.many_readings import READINGS
from midas_pipelines_tests.shop import broken_links, run
from midas_pipelines_tests.sync.conftest import background_sandbox, world  # noqa: F401 - fixtures
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tables are large here."""
    monkeypatch.setattr("midas_pipelines.store.database.COUNTED_ROWS", 1_000)


def create_busy_shop(database: Database) -> None:
    """A shop with two years of orders."""
    create_upgraded_shop(database)
    seed_orders(database, 8_000)


@pytest.fixture
def shop(postgresql_copies: PostgresCopies) -> Iterator[Database]:
    """A copy of it."""
    with fresh_database(postgresql_copies, create_busy_shop) as database:
        yield database


def test_no_reading_goes_through_a_large_table(shop: Database) -> None:
    found = {name: scans(shop, reading) for name, reading in READINGS.items()}
    assert {name: statements for name, statements in found.items() if statements} == {}


def test_a_statement_that_goes_through_a_large_table_is_seen(shop: Database) -> None:
    (read,) = scans(
        shop, lambda database: run(database, "SELECT count(*) FROM marketplace_orders WHERE total > 5")
    )
    assert read.startswith("Seq Scan of marketplace_orders")
    (written,) = scans(
        shop, lambda database: run(database, "UPDATE orders SET status = 'shipped' WHERE notes = 'x'")
    )
    assert written.startswith("Seq Scan of orders by")
    assert unexplained_stock(shop) == broken_links(shop) == []  # the seed is a shop's that is well


JOBS = [one.name for one in WORKFLOWS if one.makes and not one.writes and one.name != "backup"]
"""The jobs that read the shop alone; a backup reads all of it."""


@pytest.mark.parametrize("name", JOBS)
def test_no_job_goes_through_a_large_table(execute: Execute, name: str) -> None:  # noqa: F811
    with watched() as found:
        assert execute(name).success
    assert found == []


PAGES = {
    "order_id": "O-1000",
    "order_id:path": "O-1000",
    "sku": "SKU-7",
    "sku:path": "SKU-7",
    "kind": "products",
}
"""What stands in the addresses of pages and endpoints."""
QUERIES = {
    "/api/marketplace/explain": "?sku=SKU-7",
    "/orders": "?status=pending&sales_channel=ebay&exception=no",
    "/webhooks": "?state=applied",
    "/webhooks/payload": "?id=W-1000",
    "/activity": "?days=7&what=orders",
}

LEFT_OUT = {"/live": "it never ends", "/doctor": "a person asks for it when something is wrong"}


def test_no_page_and_no_endpoint_goes_through_a_large_table(world: World) -> None:  # noqa: F811
    seen: dict[str, list[str]] = {}
    with visitor_of(world) as visitor:
        visitor.sign_in(Role.ADMIN)
        key = {"authorization": f"Bearer {visitor.key(Role.ADMIN)}"}
        for route in visitor.app.routes:
            path = re.sub(r"{(.*?)}", lambda name: PAGES.get(name[1], "1"), route.path)
            if "GET" in route.methods and path not in LEFT_OUT:
                with watched() as found:
                    answer = visitor.client.get(
                        path + QUERIES.get(path, ""), headers=key if path.startswith("/api") else {}
                    )
                assert answer.status_code < 500, (path, answer.text)
                seen[path] = found
    assert len([path for path in seen if path.startswith("/api")]) > 10
    assert {path: statements for path, statements in seen.items() if statements} == {}


ERASING = "erased_at IS NULL"
"""What the daily job that erases buyers asks: it looks at all who are kept."""


def test_no_step_of_an_order_goes_through_a_large_table(world: World) -> None:  # noqa: F811
    with watched() as found:
        first, second, unmapped = (world.place((sku, 2)) for sku in ("SKU-1", "SKU-2", "Unknown"))
        world.import_orders()
        desk.edit(world, first, ("SKU-1", 1))
        desk.market(world, second, "shipped")
        desk.sync(world)
        desk.shop_sets(world, first, "processing")
        desk.shop_packs(world, first, "1Z999AA10123456784")
        desk.sync(world)
        desk.shop_sets(world, first, "refunded")
        assert desk.told(world, world.sandbox.state.orders[unmapped] | {"status": "cancelled"}) == ["applied"]
        desk.sync(world)
        undated = {"id": "A-1", "status": "pending", "currency": "USD", "total": "10.00"}
        undated["items"] = [{"sku": "SKU-3", "quantity": 1, "price": "10.00"}]
        desk.told(world, undated)
        desk.told(world, undated | {"created_at": "2026-11-23T10:00:00Z"})
        world.inventory()
        asyncio.run(reconcile(world.sync_context()))
        erase_due_buyers(world.sync_context())
        for name in KEPT:
            assert delete_old(world.database, name, days=700, block=50)
        world.database.write(gateway_webhooks.replay, ["W-7000"])
        claimed = world.database.write(
            gateway_webhooks.claim, worker="w", lease_seconds=9, limit=9, orders=True
        )
        ended = [
            gateway_webhooks.FinishedWebhook(one, gateway_webhooks.WebhookOutcome.APPLIED) for one in claimed
        ]
        world.database.write(gateway_webhooks.finish_webhooks, ended, worker="w")
    assert "learned" in desk.steps(world, "A-1")
    assert [one for one in found if ERASING not in one] == []
