"""The shop takes things away, moves them or gives their ids again, and its orders go on."""

from __future__ import annotations

import pytest

from midas_pipelines.sandbox.state import now_text
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.checks import unexplained_deductions
from midas_pipelines.store.stock.ledger import negative_stock, unexplained_stock
from midas_pipelines.sync.orders.stock.pending_lines import allocate_backorders
from midas_pipelines_tests.shop import add_product, add_variant, rows, run, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import holdings
from midas_pipelines_tests.sync.world import World

ITEMS_OF_ORDERS = "SELECT id, order_id, product_id, quantity, product_name FROM order_items ORDER BY id"


def stock_of_variant(world: World) -> int:
    """The stock of the only variant."""
    found: int = value(world.database, "SELECT stock_quantity FROM product_variants")
    return found


def assert_stock_explained(database: Database) -> None:
    """Of orders that the shop has deleted too: the ledger explains the stock and the lines."""
    for find in (unexplained_stock, negative_stock, unexplained_deductions):
        assert find(database) == [], find.__name__


# the shop's own order


def test_an_order_that_is_deleted_asks_a_person_and_frees_its_stock_when_it_ends(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    order_id = world.place(("A", 2))
    world.import_orders()
    run(world.database, "DELETE FROM orders")
    assert desk.order(world, order_id).exception == "deleted"
    desk.edit(world, order_id, ("A", 2), ("B", 1), status="cancelled")
    assert world.import_orders().failed == 0
    assert (desk.order(world, order_id).status, desk.stock(world, product)) == ("cancelled", 9)
    assert value(world.database, "SELECT count(*) FROM orders") == 0
    assert_stock_explained(world.database)


@pytest.mark.both_databases
def test_the_lines_of_a_deleted_order_never_become_anothers(world: World) -> None:
    add_product(world.database, sku="B", stock_quantity=9)
    gone = world.place(("U", 2))
    world.import_orders()
    run(world.database, "DELETE FROM orders")
    world.place(("B", 1))
    world.import_orders()  # SQLite would give the ids of the deleted order and its line again
    before = rows(world.database, ITEMS_OF_ORDERS)
    product = add_product(world.database, sku="U", stock_quantity=9)
    world.import_orders()
    desk.edit(world, gone, ("U", 7), ("B", 1))
    world.import_orders()
    assert rows(world.database, ITEMS_OF_ORDERS) == before
    assert desk.stock(world, product) == 2
    assert_stock_explained(world.database)


def test_a_deleted_order_waits_in_the_row_like_any_other_until_it_ends(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    order_id = world.place(("A", 2))
    world.import_orders()
    run(world.database, "DELETE FROM orders")
    world.set(product, stock_quantity=2)
    world.import_orders()
    assert holdings(world, order_id) == [("A", 2, 2, 0)]
    world.sandbox.state.move(order_id, "cancelled")
    world.import_orders()
    assert desk.stock(world, product) == 2
    assert_stock_explained(world.database)


def test_a_line_that_the_shop_took_out_of_its_order_is_no_hindrance(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    order_id = world.place(("A", 2), ("A", 1))
    world.import_orders()
    run(world.database, "DELETE FROM order_items WHERE quantity = 2")
    desk.edit(world, order_id, ("A", 4), ("A", 1))
    assert world.import_orders().failed == 0
    assert desk.stock(world, product) == 4
    assert [count for (count,) in rows(world.database, "SELECT quantity FROM order_items")] == [1]
    assert_stock_explained(world.database)


# products


@pytest.mark.both_databases
def test_what_a_removed_product_owes_is_owed_and_nothing_fails(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1)
    order_id = world.place(("A", 3))
    world.import_orders()
    world.remove(product)
    desk.edit(world, order_id, ("A", 5))
    assert world.import_orders().failed == 0
    assert holdings(world, order_id) == [("A", 5, 1, 4)]
    world.sandbox.state.move(order_id, "cancelled")
    assert world.import_orders().failed == 0
    assert (desk.order(world, order_id).exception, desk.alerts(world)) == (None, ["order_ended"])
    told = "SELECT detail FROM order_processing_logs WHERE step = 'released'"
    assert "no longer has the item" in value(world.database, told)
    assert_stock_explained(world.database)


@pytest.mark.both_databases
@pytest.mark.parametrize(("sku", "back"), [("A", True), ("OTHER", False)])
def test_the_id_of_a_removed_product_given_to_another_is_another_item(
    world: World, sku: str, back: bool
) -> None:
    add_product(world.database, sku="Z")
    gone = add_product(world.database, sku="A", stock_quantity=2)
    order_id = world.place(("A", 3))
    world.import_orders()
    world.remove(gone)
    new = add_product(world.database, sku=sku, stock_quantity=9)
    assert world.database.is_postgresql or new == gone
    world.import_orders()
    assert desk.stock(world, new) == (8 if back and new == gone else 9)
    world.sandbox.state.move(order_id, "cancelled")
    world.import_orders()
    assert desk.stock(world, new) == (11 if back and new == gone else 9)
    assert desk.order(world, order_id).exception is None
    assert_stock_explained(world.database)


COLUMNS = "id, name, slug, sku, price, stock_quantity"
REPLACE = f"INSERT OR REPLACE INTO products ({COLUMNS}) VALUES (:id, 'N', 'n', :sku, 5, 9)"


@pytest.mark.only_on("sqlite")  # PostgreSQL has no INSERT OR REPLACE
@pytest.mark.parametrize(("sku", "left", "after"), [("A", 8, 11), ("OTHER", 9, 9)])
def test_a_product_that_is_replaced_keeps_its_orders_only_while_it_is_the_same(
    world: World, sku: str, left: int, after: int
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=2)
    order_id = world.place(("A", 3))
    world.import_orders()
    run(world.database, REPLACE, id=product, sku=sku)
    world.import_orders()
    assert desk.stock(world, product) == left
    world.sandbox.state.move(order_id, "cancelled")
    world.import_orders()
    assert desk.stock(world, product) == after
    assert_stock_explained(world.database)


def test_a_renamed_sku_keeps_its_orders(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1)
    order_id = world.place(("A", 3))
    world.import_orders()
    world.set(product, sku="NEW", stock_quantity=9)
    world.import_orders()
    assert (holdings(world, order_id), desk.stock(world, product)) == ([("A", 3, 3, 0)], 7)
    desk.edit(world, order_id, ("A", 1))
    world.import_orders()
    assert desk.stock(world, product) == 9
    desk.assert_whole(world)


# variants


@pytest.mark.both_databases
def test_a_variant_that_moved_to_another_product_gives_and_takes_its_own_stock(world: World) -> None:
    one, other = (add_product(world.database) for _ in range(2))
    variant = add_variant(world.database, one, sku="V", stock_quantity=5)
    holds, waits = world.place(("V", 2)), world.place(("V", 9))
    world.import_orders()
    world.set_variant(variant, product_id=other)
    world.sandbox.state.move(holds, "cancelled")
    world.import_orders()
    assert (holdings(world, waits), stock_of_variant(world)) == ([("V", 9, 5, 4)], 0)
    world.set_variant(variant, stock_quantity=20)
    world.import_orders()
    assert (holdings(world, waits), stock_of_variant(world)) == ([("V", 9, 9, 0)], 16)
    desk.edit(world, waits, ("V", 1))
    world.import_orders()
    assert stock_of_variant(world) == 24
    desk.assert_whole(world)


@pytest.mark.both_databases
def test_a_variant_that_is_gone_owes_and_gives_nothing(world: World) -> None:
    parent = add_product(world.database, stock_quantity=7)
    add_variant(world.database, parent, sku="V", stock_quantity=1)
    order_id = world.place(("V", 3))
    world.import_orders()
    run(world.database, "DELETE FROM product_variants")
    assert allocate_backorders(world.database) == 0
    world.sandbox.state.move(order_id, "cancelled")
    assert world.import_orders().failed == 0
    assert desk.stock(world, parent) == 7
    assert_stock_explained(world.database)


@pytest.mark.both_databases
def test_the_id_of_a_removed_variant_given_to_another_is_another_item(world: World) -> None:
    parent = add_product(world.database)
    gone = add_variant(world.database, parent, sku="V", stock_quantity=1)
    order_id = world.place(("V", 3))
    world.import_orders()
    run(world.database, "DELETE FROM product_variants")
    new = add_variant(world.database, parent, sku="OTHER", stock_quantity=9)
    assert world.database.is_postgresql or new == gone
    world.import_orders()
    world.sandbox.state.move(order_id, "cancelled")
    world.import_orders()
    assert stock_of_variant(world) == 9
    assert_stock_explained(world.database)


def test_a_sku_with_spaces_around_it_is_the_same_on_both_sides(world: World) -> None:
    product = add_product(world.database, sku=" A ")
    world.full()
    assert list(world.listed) == ["A"]
    world.place(("A", 1))
    world.place((" A ", 1))
    world.import_orders()
    assert desk.stock(world, product) == 3


def test_a_sku_in_other_letters_is_another(world: World) -> None:
    product = add_product(world.database, sku="Ab1")
    order_id = world.place(("AB1", 1))
    world.import_orders()
    assert (desk.order(world, order_id).exception, desk.stock(world, product)) == ("unmapped", 5)


def test_a_4seller_product_that_is_tied_later_takes_the_sale_once(world: World) -> None:
    product = add_product(world.database, sku="A")
    sold = [paper.line("ZZZ", 2, product_id="P-77")]
    order_id = world.place(items=sold, total="24.99", updated_at=now_text())
    world.import_orders()
    assert desk.order(world, order_id).exception == "unmapped"
    run(world.database, "UPDATE fourseller_product_mappings SET fourseller_product_id = 'P-77'")
    assert [world.import_orders().mapped for _ in range(2)] == [1, 0]
    assert (desk.stock(world, product), desk.order(world, order_id).exception) == (3, None)
