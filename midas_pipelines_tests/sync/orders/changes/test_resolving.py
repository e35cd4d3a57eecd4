"""Orders that ended, or that a person settled: what is mapped, edited, backordered and counted afterwards."""

from __future__ import annotations

from midas_pipelines.sandbox.state import now_text
from midas_pipelines.store.orders.checks import unexplained_deductions
from midas_pipelines.sync.orders.changes.close import resolve_conflict
from midas_pipelines.sync.orders.model.order_log import lock_order
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, line, order_json
from midas_pipelines_tests.sync.world import World


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
