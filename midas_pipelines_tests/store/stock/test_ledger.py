"""The ledger explains the stock, whoever changed it: first quantity and deltas add up to what the shop shows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.stock.ledger import StockMove, move_stock, unexplained_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines_tests.shop import add_product, add_variant, amend, broken_links, rows, run, value

ITEM: ItemKey = (1, None)
ENTRIES = "SELECT delta, quantity_after, source, cause, reference FROM inventory_changes ORDER BY id"


@pytest.fixture
def item(shop: Database) -> Database:
    """A shop with one product, five in stock, and nothing in the ledger but its opening."""
    add_product(shop, stock_quantity=5)
    return shop


def move(shop: Database, *deltas: int, item: ItemKey = ITEM, reference: str = "order") -> list[int]:
    """Moves an item's stock in one transaction, for as many lines of an order."""
    with shop.writing() as connection:
        return move_stock(
            connection,
            [
                StockMove(item, delta, "fourseller", "sale", f"{reference}/{line}")
                for line, delta in enumerate(deltas)
            ],
        )


def test_a_new_item_opens_its_ledger_and_the_shops_changes_follow(item: Database) -> None:
    run(item, "UPDATE products SET stock_quantity = 3")
    assert rows(item, ENTRIES) == [(5, 5, "website", "opening", None), (-2, 3, "website", "changed", None)]


def test_our_own_change_has_one_row_with_its_cause(item: Database) -> None:
    assert move(item, -2) == [-2]
    assert rows(item, ENTRIES)[1:] == [(-2, 3, "fourseller", "sale", "order/0")]
    assert _on_hand(item) == 3


def test_several_moves_of_one_item_each_have_their_row(item: Database) -> None:
    assert move(item, -1, -2, 1) == [-1, -2, 1]
    assert [after for _, after, *_ in rows(item, ENTRIES)] == [5, 4, 2, 3]
    assert (_on_hand(item), unexplained_stock(item)) == (3, [])


def test_moves_that_cancel_out_leave_the_stock_and_explain_it(item: Database) -> None:
    assert move(item, -2, 2) == [-2, 2]
    assert (_on_hand(item), unexplained_stock(item)) == (5, [])


@pytest.mark.parametrize(
    ("asked", "moved"), [((-9,), [-5]), ((-4, -4), [-4, -1]), ((-5, -1), [-5, 0]), ((0,), [0])]
)
def test_a_take_stops_at_zero(item: Database, asked: tuple[int, ...], moved: list[int]) -> None:
    assert move(item, *asked) == moved
    assert (_on_hand(item), unexplained_stock(item)) == (5 + sum(moved), [])


def test_where_stock_is_below_zero_already_nothing_is_taken(item: Database) -> None:
    run(item, "UPDATE products SET stock_quantity = -3")
    assert move(item, -1) == [0]
    assert move(item, 4, reference="back") == [4]
    assert (_on_hand(item), unexplained_stock(item)) == (1, [])


def test_an_item_that_is_gone_moves_nothing(item: Database) -> None:
    assert move(item, -1, item=(99, None)) == move(item, -1, item=(1, 99)) == [0]


def test_variants_and_products_are_moved_apart(item: Database) -> None:
    variant = add_variant(item, 1, stock_quantity=8)
    move(item, -3, item=(1, variant))
    assert (_on_hand(item), value(item, "SELECT stock_quantity FROM product_variants")) == (5, 5)
    assert unexplained_stock(item) == []


def test_a_cause_moves_stock_once(item: Database) -> None:
    move(item, -1)
    with pytest.raises(sa.exc.IntegrityError):
        move(item, -1)
    assert (_on_hand(item), unexplained_stock(item)) == (4, [])


def test_a_move_that_is_rolled_back_leaves_neither_row_nor_change(item: Database) -> None:
    with item.engine.connect() as connection:
        move_stock(connection, [StockMove(ITEM, -1, "fourseller", "sale", "order/0")])
        connection.rollback()
    assert (_on_hand(item), len(rows(item, ENTRIES))) == (5, 1)


def test_our_own_change_marks_the_item_dirty_like_any_other(item: Database) -> None:
    run(item, "UPDATE fourseller_product_mappings SET dirty_since = NULL")
    move(item, -1)
    assert value(item, "SELECT dirty_since IS NOT NULL FROM fourseller_product_mappings")


def test_takers_at_once_never_take_more_than_there_is(item: Database) -> None:
    run(item, "UPDATE products SET stock_quantity = 20")

    def take(number: int) -> int:
        return sum(move(item, -3, reference=f"order {number}"))

    with ThreadPoolExecutor(8) as pool:
        taken = sum(pool.map(take, range(12)))
    assert (taken, _on_hand(item), unexplained_stock(item)) == (-20, 0, [])


def test_the_shop_and_the_engine_at_once_lose_nothing(item: Database) -> None:
    run(item, "UPDATE products SET stock_quantity = 100")

    def sell(number: int) -> None:
        if number % 2:
            move(item, -1, reference=f"order {number}")
        else:
            run(item, "UPDATE products SET stock_quantity = stock_quantity - 1")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sell, range(24)))
    assert (_on_hand(item), unexplained_stock(item), broken_links(item)) == (76, [], [])


def test_many_items_that_shop_and_engine_change_at_once_keep_their_rows_in_order(shop: Database) -> None:
    items = [
        add_product(shop, stock_quantity=40) for _ in range(24)
    ]  # so many that triggers run once for all

    def sell(number: int) -> None:
        if number % 2:
            with shop.writing() as connection:
                names = [(product, f"order {number}/{product}") for product in items]
                move_stock(
                    connection, [StockMove((id, None), -1, "fourseller", "sale", name) for id, name in names]
                )
        else:
            for product in items[number % 5 :: 2]:
                run(shop, f"UPDATE products SET stock_quantity = stock_quantity + 1 WHERE id = {product}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sell, range(12)))
    assert (unexplained_stock(shop), broken_links(shop)) == ([], [])


HARM_TO_THE_LEDGER = {
    "the newest row that is gone": ("DELETE FROM inventory_changes WHERE id = 4", True),
    "a recent row": ("UPDATE inventory_changes SET delta = -3 WHERE id = 3", True),
    "a recent row that is gone": ("DELETE FROM inventory_changes WHERE id = 3", True),
    "an older row": ("UPDATE inventory_changes SET delta = 9 WHERE id = 1", False),
}


@pytest.mark.parametrize(("harm", "seen"), HARM_TO_THE_LEDGER.values(), ids=HARM_TO_THE_LEDGER)
def test_of_the_last_days_every_row_is_added_up_and_of_those_before_the_quantity_they_left(
    item: Database, harm: str, seen: bool
) -> None:
    add_product(item, stock_quantity=7)
    run(item, "UPDATE products SET stock_quantity = 4 WHERE id = 1")  # the third row
    run(item, "UPDATE products SET stock_quantity = 3 WHERE id = 1")
    amend(item, "UPDATE inventory_changes SET created_at = '2026-01-01 00:00:00+00:00' WHERE id < 3")
    assert unexplained_stock(item) == unexplained_stock(item, 7) == []
    amend(item, harm)
    assert unexplained_stock(item)
    assert bool(unexplained_stock(item, 7)) is seen


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 6))])
def test_after_any_changes_by_plain_sql_the_ledger_is_exact(shop: Database, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(3):
        add_product(shop, stock_quantity=chance.randint(0, 9))
    for step in range(40):
        with (
            suppress(sa.exc.IntegrityError),
            shop.writing() as connection,
        ):  # some name a product that is gone
            for statement in chance.choices(CHANGES, k=chance.randint(1, 3)):
                connection.execute(sa.text(statement), _parameters(chance, step))
        assert unexplained_stock(shop) == broken_links(shop) == [], (seed, step)
    written = value(shop, "SELECT max(id) FROM inventory_changes")
    assert written > 20
    for old in range(0, written + 1, 5):  # wherever the last days begin
        amend(
            shop, f"UPDATE inventory_changes SET created_at = '2026-01-01 00:00:00+00:00' WHERE id <= {old}"
        )
        assert unexplained_stock(shop, 7) == [], (seed, old)


CHANGES: Sequence[str] = (
    "UPDATE products SET stock_quantity = stock_quantity + :n WHERE id = :product",
    "UPDATE products SET stock_quantity = :n",
    "UPDATE products SET stock_quantity = stock_quantity, name = 'same' WHERE id = :product",
    "UPDATE product_variants SET stock_quantity = stock_quantity - :n WHERE id = :variant",
    "UPDATE product_variants SET stock_quantity = :n, product_id = :product WHERE id = :variant",
    "UPDATE product_variants SET product_id = NULL WHERE id = :variant",
    "UPDATE product_variants SET product_id = :product WHERE product_id IS NULL",
    "DELETE FROM products WHERE id = :product",
    "DELETE FROM product_variants WHERE id = :variant",
    "INSERT INTO products (id, name, slug, price, stock_quantity) "
    "SELECT :product, 'Part', 'p-' || CAST(:unique AS TEXT), 1, :n "
    "WHERE NOT EXISTS (SELECT 1 FROM products WHERE id = :product)",
    "INSERT INTO product_variants (id, product_id, variant_type, variant_value, stock_quantity) "
    "SELECT :variant, id, 'a', 'b', :n FROM products WHERE id = :product "
    "AND NOT EXISTS (SELECT 1 FROM product_variants WHERE id = :variant)",
)


def _parameters(chance: random.Random, step: int) -> dict[str, int]:
    return {
        "n": chance.randint(-3, 9),
        "product": chance.randint(1, 4),
        "variant": chance.randint(1, 4),
        "unique": step * 1000 + chance.randint(0, 999),
    }


def _on_hand(shop: Database) -> int:
    return int(value(shop, "SELECT stock_quantity FROM products WHERE id = 1"))
