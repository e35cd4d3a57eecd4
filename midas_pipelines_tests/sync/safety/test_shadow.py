"""Shadow mode: everything runs, nothing is written to 4Seller or to the shop's orders; turning it off goes on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.orders.status.status_sync import sync_statuses
from midas_pipelines.sync.product_sync import Mode, push_inventory, sync_products
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines_tests.shop import add_product, assert_ledger_explains, rows, value
from midas_pipelines_tests.sync.world import World

SHOP = (
    "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_items), "
    "(SELECT count(*) FROM order_status_history), (SELECT sum(stock_quantity) FROM products)"
)


@pytest.fixture
def shadow(world: World) -> Iterator[SyncContext]:
    """The world's shop with one listed item and one imported order, in shadow mode from now on."""
    add_product(world.database, sku="SCR-1", stock_quantity=9)
    world.full()
    world.place(("SCR-1", 1), id="OLD")
    world.import_orders()
    world.inventory()
    settings = world.settings.model_copy(
        update={"shadow": "incremental_sync,inventory_push,order_import,status_sync"}
    )
    with Database(settings.database(), settings.limits("bulk")) as database:
        yield SyncContext(settings, database)


def every_workflow(context: SyncContext) -> None:
    async def run_all() -> None:
        await sync_products(context, Mode.FULL)
        await sync_products(context)
        await push_inventory(context, ignore_delays=True)
        await import_orders(context)
        await sync_statuses(context)
        await reconcile(context)

    asyncio.run(run_all())


@pytest.mark.both_databases
def test_nothing_is_written_and_afterwards_all_goes_on(world: World, shadow: SyncContext) -> None:
    add_product(world.database, sku="NEW-1")
    world.set(1, price=Decimal("12.00"), stock_quantity=4)
    with world.database.writing() as connection:
        connection.exec_driver_sql("UPDATE orders SET status = 'processing'")
    world.place(("SCR-1", 2), id="NEW")
    before = rows(world.database, SHOP)
    acked = world.mapping(1).acked_hash
    for _ in range(2):
        assert world.writes(lambda: every_workflow(shadow)) == 0
    assert rows(world.database, SHOP) == before
    assert world.mapping(1).acked_hash == acked
    kinds = {row.kind for row in rows(world.database, "SELECT DISTINCT kind FROM midas_shadow_writes")}
    assert kinds == {"listing", "quantity", "status", "order"}

    world.full()
    world.import_orders()
    asyncio.run(sync_statuses(world.sync_context()))
    world.inventory()
    assert world.shown == world.wanted
    assert world.sandbox.state.orders["OLD"]["status"] == "processing"
    assert value(world.database, "SELECT count(*) FROM orders") == 2
    assert value(world.database, "SELECT stock_quantity FROM products WHERE id = 1") == 2
    assert_ledger_explains(world.database)


def test_one_workflow_alone(world: World, shadow: SyncContext) -> None:
    world.set(1, stock_quantity=4)
    settings = world.settings.model_copy(update={"shadow": "inventory_push"})
    context = SyncContext(settings, world.database)
    assert world.writes(lambda: asyncio.run(push_inventory(context))) == 0
    world.set(1, price=Decimal("12.00"))
    assert world.writes(lambda: asyncio.run(sync_products(context))) == 1
