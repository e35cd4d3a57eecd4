"""Lines that an edit moves, adds, takes out or names anew, and the stock of each."""

from __future__ import annotations

import pytest

from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.paper import holdings, line
from midas_pipelines_tests.sync.world import World

Lines = tuple[tuple[str, int], ...]
EDITS: dict[str, tuple[list[Lines], list[int], bool]] = {  # one after the other; stock of A and B; same lines
    "another order": ([(("B", 2), ("A", 1))], [9, 8], True),
    "another order and back": ([(("B", 2), ("A", 1)), (("A", 1), ("B", 2))], [9, 8], True),
    "another order and another number": ([(("B", 3), ("A", 1))], [9, 7], True),
    "the first gone": ([(("B", 2),)], [10, 8], True),
    "the first gone and back": ([(("B", 2),), (("B", 2), ("A", 4))], [6, 8], True),
    "the last gone and back, twice": (
        [(("A", 1),), (("A", 1), ("B", 2)), (("A", 1),), (("A", 1), ("B", 5))],
        [9, 5],
        True,
    ),
    "both the same": ([(("A", 1), ("A", 2))], [7, 10], False),
    "one for both": ([(("A", 3),)], [7, 10], True),
    "each for the other": ([(("A", 2), ("B", 1))], [8, 9], True),
    "nothing of it": ([(("A", 0), ("B", 0))], [10, 10], True),
    "nothing of it and back": ([(("A", 0), ("B", 0)), (("A", 1), ("B", 2))], [9, 8], True),
}


@pytest.mark.parametrize(("edits", "stock", "same_lines"), EDITS.values(), ids=EDITS)
def test_each_edit_ends_with_what_4seller_says(
    world: World, edits: list[Lines], stock: list[int], same_lines: bool
) -> None:
    for sku in "AB":
        add_product(world.database, sku=sku, stock_quantity=10)
    order_id = world.place(("A", 1), ("B", 2))
    world.import_orders()
    for edit in edits:
        desk.edit(world, order_id, *edit)
        world.import_orders()
        sold = sorted((sku, count) for sku, count in edit if count)
        assert sorted((sku, count) for sku, count, _, _ in holdings(world, order_id)) == sold
    found = rows(world.database, "SELECT stock_quantity FROM products ORDER BY id")
    assert [quantity for (quantity,) in found] == stock
    assert (len(desk.lines(world, order_id)) == 2) is same_lines
    desk.assert_whole(world)


def test_lines_in_another_order_are_no_edit(world: World) -> None:
    for sku in "AB":
        add_product(world.database, sku=sku)
    order_id = world.place(("A", 1), ("B", 2))
    world.import_orders()
    desk.edit(world, order_id, ("B", 2), ("A", 1))
    assert world.import_orders().moved_on == 0
    assert desk.steps(world, order_id) == ["imported", "deducted"]


@pytest.mark.parametrize("sku", ["AMZ-SKU", None])
def test_an_unmapped_line_whose_product_id_is_filled_in_takes_its_stock(
    world: World, sku: str | None
) -> None:
    product = add_product(world.database, sku="A")
    world.full()
    order_id = world.place((sku, 2))
    world.import_orders()
    assert desk.order(world, order_id).exception == "unmapped"
    tied = line(sku, 2, product_id=world.listed["A"]["id"])
    world.sandbox.state.edit_order(order_id, {"items": [tied]})
    world.import_orders()
    assert (desk.stock(world, product), desk.order(world, order_id).exception) == (3, None)
    assert value(world.database, "SELECT product_id FROM order_items") == product
    desk.assert_whole(world)


def test_a_line_without_sku_that_gets_one_takes_its_stock(world: World) -> None:
    product = add_product(world.database, sku="A")
    order_id = world.place((None, 2))
    world.import_orders()
    desk.edit(world, order_id, ("A", 2))
    world.import_orders()
    assert holdings(world, order_id) == [("A", 2, 2, 0)]
    assert (desk.stock(world, product), desk.order(world, order_id).exception) == (3, None)
    desk.assert_whole(world)


@pytest.mark.parametrize("now", [(("U", 0),), (("A", 1),)], ids=["of nothing", "gone"])
def test_an_unmapped_line_that_ends_and_comes_back_is_mapped_once(world: World, now: Lines) -> None:
    add_product(world.database, sku="A")
    order_id = world.place(("A", 1), ("U", 2))
    world.import_orders()
    desk.edit(world, order_id, *now)
    world.import_orders()
    assert "unmapped" not in (desk.order(world, order_id).exception or "")
    desk.edit(world, order_id, ("A", 1), ("U", 3))
    world.import_orders()
    assert desk.order(world, order_id).exception == "unmapped"
    product = add_product(world.database, sku="U")
    assert [world.import_orders().mapped for _ in range(2)] == [1, 0]
    assert (desk.stock(world, product), desk.order(world, order_id).exception) == (2, None)
    desk.assert_whole(world)


def test_an_edit_of_a_line_that_can_be_mapped_now_is_no_oversale(world: World) -> None:
    order_id = world.place(("LATER", 2))
    world.import_orders()
    product = add_product(world.database, sku="LATER", stock_quantity=100)
    desk.edit(world, order_id, ("LATER", 3))
    world.import_orders()
    assert (desk.stock(world, product), desk.alerts(world)) == (97, [])
    assert desk.order(world, order_id).exception is None


def test_a_quantity_that_was_odd_and_is_mended_needs_nobody(world: World) -> None:
    product = add_product(world.database, sku="A")
    order_id = world.place(("A", 0))
    world.import_orders()
    assert desk.order(world, order_id).exception == "quantity"
    desk.edit(world, order_id, ("A", 2))
    world.import_orders()
    assert (desk.stock(world, product), desk.order(world, order_id).exception) == (3, None)


def test_an_edit_to_what_is_there_ends_an_oversale(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=2)
    order_id = world.place(("A", 5))
    world.import_orders()
    desk.edit(world, order_id, ("A", 2))
    world.import_orders()
    assert holdings(world, order_id) == [("A", 2, 2, 0)]
    assert (desk.order(world, order_id).exception, desk.alerts(world)) == (None, [])
    world.set(product, stock_quantity=10)
    world.import_orders()
    assert (holdings(world, order_id), desk.stock(world, product)) == ([("A", 2, 2, 0)], 10)


def test_an_order_of_250_lines_is_edited_whole(world: World) -> None:
    skus = [f"P{number:03}" for number in range(250)]
    for sku in skus:
        add_product(world.database, sku=sku, stock_quantity=2)
    order_id = world.place(*((sku, 1) for sku in skus))
    world.import_orders()
    desk.edit(world, order_id, *((sku, 2) for sku in reversed(skus)))
    world.import_orders()
    assert sum(row.allocated for row in desk.lines(world, order_id)) == 500
    desk.assert_whole(world)
