"""Shadow mode: everything runs, nothing is written to 4Seller or to the shop's orders; turning it off goes on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database, InShadow
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.before_sending import without_sending
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.orders.status.status_sync import change_status, sync_statuses
from midas_pipelines.sync.privacy.due import erase_due_buyers
from midas_pipelines.sync.privacy.requests import Subject, answer_request
from midas_pipelines.sync.product_sync import Mode, push_inventory, sync_products
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.safety.shadow_report import compare_shadow
from midas_pipelines_tests.shop import add_product, assert_ledger_explains, rows, run, value
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


KEPT = {
    "inventory_push": {"quantity"},
    "full_sync": {"listing"},
    "consistency_check": {"listing", "quantity"},
    "stale_work": {"listing", "quantity", "order"},
    "status_sync": {"status"},
    "buyer_erasure": {"order"},
    "true": {"listing", "quantity", "order", "status"},
}


def test_each_workflow_keeps_back_its_kinds_of_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    for named, kept in KEPT.items():
        monkeypatch.setenv("MIDAS_SHADOW", named)
        assert {kind for kind in KEPT["true"] if load_settings().shadows(kind)} == kept


@pytest.mark.parametrize("named", ["full_sync", "consistency_check", "status_sync", "buyer_erasure"])
def test_one_workflow_alone(
    world: World, shadow: SyncContext, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("MIDAS_SHADOW", named)
    settings = world.settings.model_copy(update={"shadow": load_settings().shadow})
    add_product(world.database, sku="NEW-1")
    world.set(1, stock_quantity=4)
    with world.database.writing() as connection:
        connection.exec_driver_sql("UPDATE orders SET status = 'processing'")
    world.place(("SCR-1", 2), id="NEW")
    with Database(settings.database(), settings.limits("bulk")) as database:
        every_workflow(SyncContext(settings, database))
    written = {
        "listing": "NEW-1" in world.listed,
        "quantity": world.shown["SCR-1"][2] != 8 - 2,
        "order": value(world.database, "SELECT count(*) FROM orders") == 2,
        "status": world.sandbox.state.orders["OLD"]["status"] == "processing",
    }
    assert {kind for kind, is_written in written.items() if not is_written} == KEPT[named]


def test_what_a_person_asks_for_is_not_reported_as_done(world: World, shadow: SyncContext) -> None:
    before = rows(world.database, "SELECT * FROM orders")
    with pytest.raises(InShadow, match="nothing was changed: turn it off"):
        asyncio.run(change_status(shadow, "OLD", OrderStatus.SHIPPED))
    answer = answer_request(shadow, "erase", Subject("order", "OLD"), "ada")
    assert (answer.erased, answer.left, answer.done) == ([], ["OLD"], False)
    run(
        world.database, "UPDATE marketplace_orders SET status = 'delivered', source_updated_at = '2020-01-01'"
    )
    report = erase_due_buyers(shadow)
    assert (report.erased, report.left) == (0, 1)
    assert rows(world.database, "SELECT * FROM orders") == before


def test_turned_off_while_a_run_in_shadow_mode_is_under_way(world: World, shadow: SyncContext) -> None:
    world.set(1, price=Decimal("12.00"), stock_quantity=4)
    add_product(world.database, sku="NEW-1")

    async def both() -> None:
        async with shadow.channel() as client:
            push = Push(shadow, client)
            shadow.heartbeat.begin()
            changes = push.claim_batch()  # in shadow mode, and then it is turned off
            assert (await sync_products(world.sync_context())).scanned == 0  # what is claimed is left alone
            push.acknowledge([without_sending(change) for change in changes])
            shadow.heartbeat.end()
        await sync_products(world.sync_context(), ignore_delays=True)

    asyncio.run(both())
    assert world.shown == world.wanted
    assert world.dirty == 0


def test_the_report_compares_with_what_another_connector_did(world: World, shadow: SyncContext) -> None:
    world.set(1, price=Decimal("12.00"))
    order = world.place(("SCR-1", 1), id="NEW")
    asyncio.run(sync_products(shadow))
    asyncio.run(import_orders(shadow))
    found = {row["kind"]: (row["ours"], row["theirs"]) for row in asyncio.run(compare_shadow(shadow)).differ}
    assert found["listing"] == ("quantity 8, price 12.00", "quantity 7, price 10.00")
    assert found["order"] == ("it would be imported", "no order in the shop")
    for product in world.sandbox.state.products.values():
        product |= {"price": "12.00", "inventory": {"quantity": 8}}
    with world.database.writing() as connection:
        connection.execute(sa.update(orders).values(notes=order))
    report = asyncio.run(compare_shadow(shadow))
    assert (report.kept, report.agree, report.differ) == (2, 2, [])
