"""Oversold: told, set to zero on the channel, and given to the oldest when stock comes back."""

from __future__ import annotations

import threading

import pytest

from midas_pipelines.settings import DatabaseLimits
from midas_pipelines.store.database import Database
from midas_pipelines.sync.listings.before_sending import serve_before_push
from midas_pipelines.sync.orders.stock.pending_lines import allocate_backorders
from midas_pipelines_tests.shop import add_product, add_variant
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World


def test_an_oversold_sale_is_told_once_and_owes_the_rest(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=2)
    first = world.place(("A", 5))
    second = world.place(("A", 1))
    world.import_orders()
    assert [(line.allocated, line.backordered) for line in desk.lines(world, first)] == [(2, 3)]
    assert [(line.allocated, line.backordered) for line in desk.lines(world, second)] == [(0, 1)]
    assert desk.alerts(world) == ["oversold"]
    desk.assert_whole(world)


def test_zero_is_pushed_though_it_was_pushed_before(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    world.full()
    listed = world.listed["A"]
    world.sandbox.state.set_quantity(listed["id"], 4)  # somebody else's doing: we know of nothing
    world.place(("A", 1))
    world.import_orders()
    world.inventory()
    assert world.shown["A"][2] == 0
    assert desk.stock(world, product) == 0


def test_stock_that_comes_back_goes_to_the_oldest(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    late = world.place(("A", 2), created_at="2026-02-02T00:00:00Z")
    early = world.place(("A", 2), created_at="2026-02-01T00:00:00Z")
    world.import_orders()
    world.set(product, stock_quantity=3)
    assert allocate_backorders(world.database) == 3
    assert [desk.lines(world, one)[0].backordered for one in (early, late)] == [0, 1]
    assert desk.order(world, early).exception is None
    world.set(product, stock_quantity=5)
    assert allocate_backorders(world.database) == 1
    assert (desk.stock(world, product), desk.alerts(world)) == (4, [])
    desk.assert_whole(world)


def test_a_variant_gets_its_own_stock(world: World) -> None:
    parent = add_product(world.database)
    variant = add_variant(world.database, parent, sku="V", stock_quantity=0)
    order_id = world.place(("V", 1))
    world.import_orders()
    world.set_variant(variant, stock_quantity=1)
    assert allocate_backorders(world.database) == 1
    assert desk.order(world, order_id).exception is None
    desk.assert_whole(world)


def test_a_push_gives_returned_stock_to_who_waits_before_anyone_can_buy_it(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    world.full()
    world.place(("A", 2))
    world.import_orders()
    world.set(product, stock_quantity=5)
    world.inventory()
    assert world.shown["A"][2] == 3


def test_a_push_goes_on_without_the_orders_where_they_are_locked(postgresql_shop: Database) -> None:
    limited = DatabaseLimits(lock_seconds=0.05)
    with postgresql_shop.writing() as other, Database(postgresql_shop.engine.url, limited) as database:
        other.exec_driver_sql("LOCK TABLE marketplace_order_lines IN ACCESS EXCLUSIVE MODE")
        serve_before_push(database)


def test_a_cancelled_order_waits_for_nothing(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1)
    order_id = world.place(("A", 3))
    world.import_orders()
    world.sandbox.state.move(order_id, "cancelled")
    world.import_orders()
    world.set(product, stock_quantity=9)
    assert allocate_backorders(world.database) == 0
    assert (desk.stock(world, product), desk.order(world, order_id).exception) == (9, None)
    desk.assert_whole(world)


@pytest.mark.both_databases
def test_eight_allocators_at_once_give_each_unit_once(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    for _ in range(6):
        world.place(("A", 2))
    world.import_orders()
    world.set(product, stock_quantity=7)
    given: list[int] = []
    threads = [
        threading.Thread(target=lambda: given.append(allocate_backorders(world.database))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given.append(
        allocate_backorders(world.database)
    )  # orders that each left to another, which was busy with them
    assert (len(given), sum(given), desk.stock(world, product)) == (9, 7, 0)
    desk.assert_whole(world)
