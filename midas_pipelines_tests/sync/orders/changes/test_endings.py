"""Orders that end: what had left stays gone, what had not is free, and what ended is backordered nothing."""

from __future__ import annotations

import pytest

from midas_pipelines.sandbox.state import now_text
from midas_pipelines.store.orders.checks import unexplained_deductions
from midas_pipelines.sync.orders.changes.exceptions import resolve_conflict
from midas_pipelines.sync.orders.model.order_log import lock_order
from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, line, order_json
from midas_pipelines_tests.sync.world import World


def units(world: World, order_id: str) -> list[tuple[int, int, int, int]]:
    """Of each line: taken, given back, backordered, shipped."""
    return [
        (row.allocated, row.released, row.backordered, row.shipped) for row in desk.lines(world, order_id)
    ]


def restocked(world: World, product: int, stock: int) -> int:
    """The stock that is left after the shop has set it and everybody who waits was served."""
    world.set(product, stock_quantity=stock)
    world.import_orders()
    return desk.stock(world, product)


def settle(world: World, order_id: str, decision: str) -> None:
    """An operator decides; nothing is back on the shelf."""
    with world.database.writing() as connection:
        order = lock_order(connection, desk.order(world, order_id).id)
        resolve_conflict(order, decision, restock=False)


@pytest.mark.parametrize("told", [False, True], ids=["before 4Seller knew", "after 4Seller knew"])
def test_a_refund_frees_what_has_not_left_of_an_order_shipped_in_part(world: World, told: bool) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 4))
    world.import_orders()
    desk.pack(world, order_id, units={1: 2})
    if told:
        desk.sync(world)
    world.sandbox.state.edit_order(order_id, {"status": "refunded"})
    world.import_orders()
    assert (units(world, order_id), desk.stock(world, product)) == ([(4, 2, 0, 2)], 8)
    desk.assert_whole(world)


def test_a_refunded_order_waits_for_nothing(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=2)
    order_id = world.place(("A", 5))
    world.import_orders()
    desk.pack(world, order_id, units={1: 2})
    desk.sync(world)
    world.sandbox.state.edit_order(order_id, {"status": "refunded"})
    world.import_orders()
    assert (units(world, order_id), desk.order(world, order_id).exception) == ([(2, 0, 0, 2)], None)
    assert (restocked(world, product, 10), desk.alerts(world)) == (10, [])
    desk.assert_whole(world)


def test_an_order_settled_as_cancelled_waits_for_nothing(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=2)
    order_id = world.place(("A", 5))
    world.import_orders()
    desk.pack(world, order_id, units={1: 2})
    world.sandbox.state.edit_order(order_id, {"status": "cancelled"})
    world.import_orders()
    assert desk.order(world, order_id).exception == "conflict,oversold"
    settle(world, order_id, "cancelled")
    assert (units(world, order_id), desk.order(world, order_id).exception) == ([(2, 0, 0, 2)], None)
    assert (restocked(world, product, 10), desk.alerts(world)) == (10, [])
    desk.assert_whole(world)


def test_an_order_that_asks_for_nothing_and_is_cancelled_gives_back_once(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    order_id = world.place(("A", 2))
    world.import_orders()
    nothing = {"items": [line("A", 0)], "total": "0", "shipping_cost": "0"}
    world.sandbox.state.edit_order(order_id, nothing | {"status": "cancelled"})
    world.import_orders()
    assert (units(world, order_id), desk.stock(world, product)) == ([(2, 2, 0, 0)], 5)
    assert desk.order(world, order_id).exception is None
    desk.assert_whole(world)


@pytest.mark.parametrize("seen", [True, False], ids=["seen before", "at first sight"])
def test_nobody_is_asked_to_map_what_was_cancelled(world: World, seen: bool) -> None:
    if seen:
        paper.polled(world, order_json("U", 2))
    paper.polled(world, order_json("U", 2, status="cancelled", updated_at=now_text()))
    assert desk.order(world, "X-1").exception is None
    product = add_product(world.database, sku="U")
    assert (world.import_orders().mapped, desk.stock(world, product)) == (0, 5)


def test_what_was_shipped_and_is_refunded_takes_its_stock_when_it_is_mapped(world: World) -> None:
    gone = {"tracking": {"number": "1Z"}}
    paper.polled(world, order_json("U", 2, status="shipped", **gone))
    paper.polled(world, order_json("U", 2, status="refunded", updated_at=now_text(), **gone))
    product = add_product(world.database, sku="U")
    assert [world.import_orders().mapped for _ in range(2)] == [1, 0]
    assert (desk.stock(world, product), desk.order(world, "X-1").exception) == (3, None)
    desk.assert_whole(world)


def test_an_edit_after_a_part_has_left_is_shown_and_changes_nothing(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 4))
    world.import_orders()
    desk.pack(world, order_id, units={1: 2})
    for count in (3, 6, 1):
        desk.edit(world, order_id, ("A", count))
        world.import_orders()
        assert desk.order(world, order_id).exception == "edited"
        assert (units(world, order_id), desk.stock(world, product)) == ([(4, 0, 0, 2)], 6)
    assert str(value(world.database, "SELECT total_amount FROM orders")) == "44.99"
    assert desk.steps(world, order_id).count("edited") == 3
    desk.assert_whole(world)


def test_a_line_without_quantity_counts_as_one_however_it_is_mapped(world: World) -> None:
    paper.polled(world, order_json(items=[line("U", None)]))
    assert desk.order(world, "X-1").exception == "quantity,unmapped"
    product = add_product(world.database, sku="U", stock_quantity=1)
    world.import_orders()
    assert (desk.order(world, "X-1").exception, desk.stock(world, product)) == ("quantity", 0)
    found = rows(world.database, "SELECT exception FROM marketplace_order_lines")
    assert found == [("quantity",)]
    desk.assert_whole(world)


def test_a_line_without_quantity_that_is_not_there_is_owed(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    world.full()
    paper.told(world, order_json(items=[line("A", None)]))
    assert (desk.order(world, "X-1").exception, desk.alerts(world)) == ("oversold,quantity", ["oversold"])
    world.set(product, stock_quantity=1)
    world.inventory()
    assert (desk.stock(world, product), world.shown["A"][2]) == (0, 0)
    assert desk.order(world, "X-1").exception == "quantity"


def now(*lines: Raw, **fields: object) -> Raw:
    """The order with these lines, as it is now."""
    total = f"{10 * sum(one['quantity'] for one in lines)}.00"
    given = {"items": list(lines), "total": total, "updated_at": now_text()}
    return order_json(**given | fields)


def settled(world: World, decision: str, *, restock: bool = False) -> None:
    """An operator ends the conflict."""
    assert "conflict" in desk.order(world, "X-1").exception
    with world.database.writing() as connection:
        order = lock_order(connection, desk.order(world, "X-1").id)
        resolve_conflict(order, decision, restock=restock)


def cancelled_and_open_again(world: World, quantity: int) -> None:
    """An order of A that 4Seller cancelled and then has as pending."""
    for status in ("pending", "cancelled", "pending"):
        paper.polled(world, now(line("A", quantity), status=status))


def test_a_line_that_never_left_an_ended_order_takes_nothing_when_it_is_mapped(world: World) -> None:
    add_product(world.database, sku="A")
    both = [line("A"), line("U")]
    paper.polled(world, now(*both))
    desk.pack(world, "X-1", units={1: 1})
    paper.polled(world, now(*both, status="cancelled"))
    settled(world, "cancelled")
    late = add_product(world.database, sku="U")
    world.import_orders()
    assert desk.stock(world, late) == 5


def test_an_ended_order_owes_nothing_when_its_line_is_mapped(world: World) -> None:
    paper.polled(world, now(line("U")))
    desk.pack(world, "X-1")
    paper.polled(world, now(line("U"), status="refunded"))
    add_product(world.database, sku="U", stock_quantity=0)
    world.import_orders()
    assert [row.backordered for row in desk.lines(world, "X-1")] == [0]
    assert desk.alerts(world) == []


def test_a_conflict_that_ends_in_a_refund_asks_nobody_and_takes_nothing(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    paper.polled(world, now(line("A", 2)))
    paper.polled(world, now(line("A", 2), status="cancelled"))
    paper.polled(world, now(line("A", 2), status="shipped"))
    paper.polled(world, now(line("A", 2), status="refunded"))
    order = desk.order(world, "X-1")
    assert (order.status, order.exception, desk.stock(world, product)) == ("refunded", None, 5)


def test_staff_are_told_of_what_an_order_owes_that_was_settled_as_shipped(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=2)
    cancelled_and_open_again(world, 2)
    world.set(product, stock_quantity=0)
    settled(world, "shipped")
    assert [row.backordered for row in desk.lines(world, "X-1")] == [2]
    assert desk.alerts(world) == ["oversold"]


def test_an_edit_after_one_that_was_left_to_a_person_is_carried_out_whole(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=50)
    add_product(world.database, sku="B", stock_quantity=50)
    cancelled_and_open_again(world, 2)
    paper.polled(world, now(line("A", 3)))
    settled(world, "shipped")
    paper.polled(world, now(line("B", 3)))
    assert paper.holdings(world, "X-1") == [("B", 3, 3, 0)]
    assert str(desk.order(world, "X-1").total) == "30.00"


# the check of deductions


def test_the_check_accepts_what_settling_says_was_never_on_the_shelf(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=0)
    paper.polled(world, now(line("A", 2)))
    paper.polled(world, now(line("A", 2), status="cancelled"))
    desk.shop_packs(world, "X-1", desk.UPS)
    desk.sync(world)
    settled(world, "shipped")
    assert unexplained_deductions(world.database) == []


def test_the_check_accepts_a_shipped_order_that_was_settled_as_cancelled(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    paper.polled(world, now(line("A", 4)))
    desk.pack(world, "X-1", units={1: 3})
    paper.polled(world, now(line("A", 4), status="shipped"))
    paper.polled(world, now(line("A", 4), status="cancelled"))
    settled(world, "cancelled", restock=True)
    assert unexplained_deductions(world.database) == []
