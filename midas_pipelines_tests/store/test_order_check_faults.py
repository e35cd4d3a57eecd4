"""What is known to be wrong with the questions about orders; a case leaves this file when it is mended."""

from __future__ import annotations

import pytest

from midas_pipelines.store.order_checks import unbalanced_orders
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.locking import lock_order
from midas_pipelines.sync.orders.retrying import dismiss
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World


@pytest.mark.xfail(strict=True, reason="half a cent is a little more than 0.005 in SQLite's floating point")
def test_half_a_cent_of_shipping_is_no_false_alarm(world: World) -> None:
    if world.database.is_postgresql:
        pytest.skip("PostgreSQL counts in decimals, and is right")
    add_product(world.database, sku="A", stock_quantity=100)
    item = {"sku": "A", "quantity": 1, "price": "1.00"}
    world.place(items=[item], shipping_cost="0.005", currency="KWD", total="1.005")
    world.import_orders()
    assert unbalanced_orders(world.database) == []


@pytest.mark.xfail(strict=True, reason="the total that the marketplace gave is not looked at again")
def test_an_order_whose_total_is_not_the_marketplaces_any_more_is_found(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    world.place(("A", 2))
    world.import_orders()
    run(world.database, "UPDATE orders SET total_amount = 4.99")  # items and order alike: it adds up
    run(world.database, "UPDATE order_items SET price = 0, total_price = 0")
    assert len(unbalanced_orders(world.database)) == 1


@pytest.mark.xfail(
    strict=True, reason="the check stays red for ever for an order that a person has looked at"
)
def test_a_total_that_a_person_has_dismissed_is_no_offence(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    order = world.place(("A", 1), total="19.99")
    world.import_orders()
    with world.database.writing() as connection:
        seen = dismiss(connection, lock_order(connection, desk.order(world, order).id), Clerk())
    assert (seen, desk.order(world, order).exception) == (["total_mismatch"], None)
    assert unbalanced_orders(world.database) == []
