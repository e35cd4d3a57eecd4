"""Orders that change after their import, lines mapped late, goods that come back."""

from __future__ import annotations

import random

import pytest

from midas_pipelines.sync.orders.changes.edits import shift
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order
from midas_pipelines.sync.orders.stock import pending_lines
from midas_pipelines.sync.orders.stock.units import is_fully_shipped, restock_units
from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

SHIFTS = [
    ({"wanted": 3, "allocated": 3, "released": 0, "backordered": 0}, (0, 0)),
    ({"wanted": 5, "allocated": 3, "released": 0, "backordered": 0}, (2, 0)),
    ({"wanted": 1, "allocated": 3, "released": 0, "backordered": 0}, (-2, 0)),
    ({"wanted": 1, "allocated": 1, "released": 0, "backordered": 2}, (0, 2)),
    ({"wanted": 0, "allocated": 1, "released": 0, "backordered": 2}, (-1, 2)),
    ({"wanted": 2, "allocated": 3, "released": 2, "backordered": 0}, (1, 0)),
    ({"wanted": 0, "allocated": 3, "released": 0, "backordered": 0, "shipped": 2}, (-1, 0)),
]


@pytest.mark.parametrize(("line", "wanted"), SHIFTS)
def test_what_an_edit_does_to_a_line(line: dict[str, int], wanted: tuple[int, int]) -> None:
    assert shift(**line) == wanted


@pytest.mark.parametrize(
    ("after", "left"),
    [((("A", 1),), 9), ((("A", 5),), 5), ((("A", 3), ("B", 2)), 7), ((("A", 12),), 0)],
)
def test_an_edit_moves_the_stock_by_the_difference(
    world: World, after: tuple[tuple[str, int], ...], left: int
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    add_product(world.database, sku="B", stock_quantity=10)
    order_id = world.place(("A", 3))
    world.import_orders()
    desk.edit(world, order_id, *after)
    assert world.import_orders().moved_on == 1
    assert world.import_orders().moved_on == 0
    assert desk.stock(world, product) == left
    assert value(world.database, "SELECT sum(quantity) FROM order_items") == sum(count for _, count in after)
    desk.assert_whole(world)


def test_a_line_taken_out_gives_its_stock_back(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=10)
    product = add_product(world.database, sku="B", stock_quantity=10)
    order_id = world.place(("A", 3), ("B", 2))
    world.import_orders()
    desk.edit(world, order_id, ("A", 3))
    world.import_orders()
    assert desk.stock(world, product) == 10
    desk.assert_whole(world)


@pytest.mark.both_databases
def test_a_new_address_reaches_the_shop_until_it_ships(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 1))
    world.import_orders()
    desk.edit(world, order_id, shipping_address={"line1": "New street 1"})
    world.import_orders()
    assert "New street 1" in str(value(world.database, "SELECT shipping_address FROM orders"))


def test_an_edit_of_what_has_shipped_is_for_a_person(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 3))
    world.import_orders()
    desk.pack(world, order_id)
    desk.edit(world, order_id, ("A", 1))
    world.import_orders()
    assert (desk.stock(world, product), desk.order(world, order_id).exception) == (7, "edited")


def test_an_older_word_that_comes_late_changes_nothing(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 3))
    world.import_orders()
    desk.edit(world, order_id, ("A", 9), updated_at="2020-01-01T00:00:00Z")
    assert desk.told(world, world.sandbox.state.orders[order_id]) == ["superseded"]
    assert desk.stock(world, product) == 7


def test_any_row_of_edits_leaves_the_ledger_whole(world: World) -> None:
    chance = random.Random(5)
    for sku in "ABC":
        add_product(world.database, sku=sku, stock_quantity=8)
    order_id = world.place(("A", 3))
    world.import_orders()
    for _ in range(12):
        count = chance.randint(1, 3)
        desk.edit(world, order_id, *(("ABC"[place], chance.randint(1, 6)) for place in range(count)))
        world.import_orders()
        desk.assert_whole(world)
    world.sandbox.state.move(order_id, "cancelled")
    world.import_orders()
    assert [q for (q,) in rows(world.database, "SELECT stock_quantity FROM products")] == [8, 8, 8]


def test_a_line_mapped_late_takes_its_stock_once(world: World) -> None:
    order_id = world.place(("LATER", 2))
    world.import_orders()
    assert desk.order(world, order_id).exception == "unmapped"
    product = add_product(world.database, sku="LATER", stock_quantity=5)
    assert world.import_orders().mapped == 1
    assert world.import_orders().mapped == 0
    assert (desk.stock(world, product), desk.order(world, order_id).exception) == (3, None)
    desk.assert_whole(world)


def test_a_person_maps_a_line(world: World) -> None:
    product = add_product(world.database, sku="OURS", stock_quantity=1)
    order_id = world.place(("THEIRS", 2))
    world.import_orders()
    row = desk.order(world, order_id).id
    assert pending_lines.map_line(world.database, row, 1, (product, None), OrderContext()) is True
    assert pending_lines.map_line(world.database, row, 1, (product, None), OrderContext()) is False
    assert [(line.allocated, line.backordered) for line in desk.lines(world, order_id)] == [(1, 1)]
    assert desk.order(world, order_id).exception == "oversold"
    desk.assert_whole(world)


def test_returns_by_line_give_back_no_more_than_was_taken(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 4))
    world.import_orders()
    assert _return(world, order_id, None) == 0  # nothing has left yet
    desk.pack(world, order_id)
    desk.sync(world)
    back = [_return(world, order_id, units) for units in ({1: 1}, {1: 2}, {1: 9}, None)]
    assert back == [1, 2, 1, 0]
    world.sandbox.state.move(order_id, "refunded")
    world.import_orders()
    assert desk.stock(world, product) == 10
    desk.assert_whole(world)


def test_a_refund_after_shipping_restocks_nothing_but_a_return_does(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 4))
    world.import_orders()
    desk.pack(world, order_id)
    desk.sync(world)
    world.sandbox.state.move(order_id, "refunded")
    desk.sync(world)
    assert (desk.stock(world, product), desk.shop_status(world, order_id)) == (6, "shipped")
    assert _return(world, order_id, None) == 4
    desk.assert_whole(world)


def _return(world: World, order_id: str, units: dict[int, int] | None) -> int:
    row = desk.order(world, order_id).id
    with world.database.writing() as connection:
        order = lock_order(connection, row)
        whole = is_fully_shipped(order, desk.shop_status(world, order_id))
        return restock_units(order, "returned", units=units, all_shipped=whole)
