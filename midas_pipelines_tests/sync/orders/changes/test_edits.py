"""Orders that change after their import, lines mapped late, goods that come back."""

from __future__ import annotations

import random

import pytest

from midas_pipelines.sync.orders.changes.edits import shift
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.stock import pending_lines
from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.paper import holdings, line
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
    ("after", "left"), [((("A", 1),), 9), ((("A", 5),), 5), ((("A", 3), ("B", 2)), 7), ((("A", 12),), 0)]
)
def test_an_edit_moves_the_stock_by_the_difference(
    world: World, after: tuple[tuple[str, int], ...], left: int
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    add_product(world.database, sku="B", stock_quantity=10)
    order_id = world.place(("A", 3))
    world.import_orders()
    desk.edit(world, order_id, *after)
    assert world.import_orders().updated == 1
    assert world.import_orders().updated == 0
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
    assert desk.come_back(world, order_id) == 0  # nothing has left yet
    desk.pack(world, order_id)
    desk.sync(world)
    back = [desk.come_back(world, order_id, units) for units in ({1: 1}, {1: 2}, {1: 9}, {1: 1}, None)]
    assert back == [1, 2, 0, 1, 0]
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
    assert desk.come_back(world, order_id) == 4
    desk.assert_whole(world)


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


def test_each_edit_ends_with_what_4seller_says(world: World) -> None:
    orders = {}
    for case in EDITS:  # each has an A and a B of its own
        for sku in "AB":
            add_product(world.database, sku=f"{sku} {case}", stock_quantity=10)
        orders[case] = world.place((f"A {case}", 1), (f"B {case}", 2))
    world.import_orders()
    for turn in range(max(len(edits) for edits, _, _ in EDITS.values())):
        now = {case: edits[turn] for case, (edits, _, _) in EDITS.items() if turn < len(edits)}
        for case, edit in now.items():
            desk.edit(world, orders[case], *((f"{sku} {case}", count) for sku, count in edit))
        world.import_orders()
        for case, edit in now.items():
            sold = sorted((f"{sku} {case}", count) for sku, count in edit if count)
            assert sorted((sku, count) for sku, count, _, _ in holdings(world, orders[case])) == sold, case
    shelf = desk.on_shelf(world)
    for case, (_, stock, same_lines) in EDITS.items():
        assert [shelf[f"{sku} {case}"] for sku in "AB"] == stock, case
        assert (len(desk.lines(world, orders[case])) == 2) is same_lines, case
    desk.assert_whole(world)


def test_lines_in_another_order_are_no_edit(world: World) -> None:
    for sku in "AB":
        add_product(world.database, sku=sku)
    order_id = world.place(("A", 1), ("B", 2))
    world.import_orders()
    desk.edit(world, order_id, ("B", 2), ("A", 1))
    assert world.import_orders().updated == 0
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
