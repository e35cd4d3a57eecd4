"""Questions about all orders: whoever breaks a row is found and named, and an order that is right is never accused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.store.orders.checks import (
    needing_a_person,
    stale_orders,
    unbalanced_orders,
    unexplained_deductions,
    unpaired_orders,
)
from midas_pipelines.store.orders.listing import last_import, open_orders, sales_between
from midas_pipelines.store.schema.tables import marketplace_order_lines as lines
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.sync.orders.changes.exceptions import dismiss
from midas_pipelines.sync.orders.intake.poll import Window
from midas_pipelines.sync.orders.model.order_log import lock_order
from midas_pipelines_tests.shop import add_order, add_product, amend, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

CHECKS = {"total": unbalanced_orders, "pairing": unpaired_orders, "deductions": unexplained_deductions}


def sell(world: World, first: str, second: str) -> list[str]:
    """Three orders to import: 2 of the first; 3 of the second; 1 of each, of which the second is backordered."""
    add_product(world.database, sku=first, stock_quantity=100)
    add_product(world.database, sku=second, stock_quantity=3)
    return [world.place(*lines) for lines in ([(first, 2)], [(second, 3)], [(first, 1), (second, 1)])]


@pytest.fixture
def sold(world: World) -> list[str]:
    """Three orders of A and B."""
    placed = sell(world, "A", "B")
    world.import_orders()
    assert failed(world) == {}
    return placed


def count(world: World) -> int:
    """The orders on record, of whatever day."""
    return int(
        sales_between(
            world.database, datetime(1970, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
        )["orders"]
    )


def failed(world: World) -> dict[str, set[str]]:
    """The checks that find something, with the orders that they name."""
    found = {name: check(world.database) for name, check in CHECKS.items()}
    return {name: {_named(row) for row in rows} for name, rows in found.items() if rows}


def _named(row: dict[str, Any]) -> str:
    return str(row["order"] or row["order_number"])


BROKEN: dict[str, tuple[list[str], dict[str, list[int | str]]]] = {
    "a cent more on the order": (
        ["UPDATE orders SET total_amount = total_amount + 0.01 WHERE id = {order[0]}"],
        {"total": [0]},
    ),
    "a cent less on an item": (
        ["UPDATE order_items SET total_price = total_price - 0.01 WHERE id = {item[1]}"],
        {"total": [1]},
    ),
    "a tax that nobody paid": (
        ["UPDATE marketplace_orders SET tax = 1 WHERE id = {ours[2]}"],
        {"total": [2]},
    ),
    "an item deleted": (["DELETE FROM order_items WHERE id = {item[0]}"], {"total": [0]}),
    "a shop order copied": (
        [
            "INSERT INTO orders (order_number, total_amount, status, shipping_address, billing_address, "
            "payment_status) SELECT '4S-COPY', total_amount, status, shipping_address, billing_address, "
            "payment_status FROM orders WHERE id = {order[0]}"
        ],
        {"pairing": ["4S-COPY"]},
    ),
    "a shop order deleted": (["DELETE FROM orders WHERE id = {order[1]}"], {"pairing": [1]}),
    "a tie lost": (
        ["UPDATE marketplace_orders SET local_order_id = NULL WHERE id = {ours[0]}"],
        {"pairing": [0, "4S-{0}"]},
    ),
    "a tie to nothing": (
        ["UPDATE marketplace_orders SET local_order_id = 999 WHERE id = {ours[0]}"],
        {"pairing": [0, "4S-{0}"]},
    ),
    "a unit taken too few": (
        ["UPDATE marketplace_order_lines SET allocated = allocated - 1 WHERE id = {line[0]}"],
        {"deductions": [0]},
    ),
    "two errors that cancel out": (
        [
            "UPDATE marketplace_order_lines SET allocated = allocated - 1 WHERE id = {line[0]}",
            "UPDATE marketplace_order_lines SET allocated = allocated + 1 WHERE id = {line[2]}",
        ],
        {"deductions": [0, 2]},
    ),
    "more sold than taken": (
        [
            "UPDATE marketplace_order_lines SET quantity = 9 WHERE id = {line[0]}",
            "UPDATE order_items SET quantity = 9 WHERE id = {item[0]}",
        ],
        {"deductions": [0]},
    ),
    "backordered no more": (
        ["UPDATE marketplace_order_lines SET backordered = 0 WHERE id = {line[3]}"],
        {"deductions": [2]},
    ),
    "given back in one place": (
        ["UPDATE marketplace_order_lines SET released = 1 WHERE id = {line[1]}"],
        {"deductions": [1]},
    ),
    "other units in the shop's line": (
        ["UPDATE order_items SET quantity = 7 WHERE id = {item[0]}"],
        {"deductions": [0]},
    ),
    "our line deleted": (["DELETE FROM marketplace_order_lines WHERE id = {line[1]}"], {"deductions": [1]}),
}


def ids(world: World, orders: list[str]) -> dict[str, list[int]]:
    """The ids of these orders, of their lines and of what the shop has of them, in the order of the lines."""
    query = sa.select(
        marketplace_orders.c.id, marketplace_orders.c.local_order_id, lines.c.id, lines.c.order_item_id
    ).join_from(marketplace_orders, lines)
    found = []
    with world.database.reading() as connection:
        for order in orders:
            of_order = query.where(marketplace_orders.c.marketplace_order_id == order).order_by(lines.c.line)
            found += connection.execute(of_order).all()
    ours, shops, line, item = (list(column) for column in zip(*found, strict=True))
    return {"ours": ours, "order": shops, "line": line, "item": item}


def test_who_breaks_a_row_is_found_and_the_order_named(world: World) -> None:
    placed: dict[str, list[str]] = {}
    for number, case in enumerate(BROKEN):
        placed[case] = sell(world, f"A-{number}", f"B-{number}")
    world.import_orders()
    assert failed(world) == {}
    expected, wrong_lines = dict[str, set[str]](), 0
    for case, (statements, named) in BROKEN.items():
        known = ids(world, placed[case])
        for statement in statements:
            run(world.database, statement.format(**known))
        for check, orders in named.items():
            names = {
                one.format(*placed[case]) if isinstance(one, str) else placed[case][one] for one in orders
            }
            expected[check] = expected.get(check, set()) | names
            assert failed(world)[check] == expected[check], case
        wrong_lines += len(named.get("deductions", ()))
        assert len(unexplained_deductions(world.database)) == wrong_lines, case
        assert failed(world) == expected, case


@pytest.mark.parametrize(
    "change", ["DELETE FROM inventory_changes", "UPDATE inventory_changes SET delta = delta - 1"]
)
def test_a_ledger_row_that_is_lost_or_changed_is_found(world: World, sold: list[str], change: str) -> None:
    amend(world.database, f"{change} WHERE reference = 'fourseller:{sold[1]}:1'")
    assert failed(world) == {"deductions": {sold[1]}}
    (row,) = unexplained_deductions(world.database)
    assert (row["line"], row["sku"], row["sold"], row["line_holds"]) == (1, "B", 3, 3)
    assert row["ledger_says"] in (0, 4)


def test_a_line_that_is_gone_is_known_from_the_ledger(world: World, sold: list[str]) -> None:
    run(world.database, "DELETE FROM marketplace_orders WHERE id = 3")
    found = unexplained_deductions(world.database)
    assert [(row["order"], row["line"], row["ledger_says"]) for row in found] == [(sold[2], "1", 1)]


def test_an_order_named_like_another_with_its_line_is_not_mixed_up(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    for order in ("X", "X:1", "X+2", "X:1+2", "12", "1"):
        world.place(("A", 2), ("A", 3), id=order)
    world.import_orders()
    for order in ("X", "X:1+2", "1"):
        desk.edit(world, order, ("A", 5), ("A", 1))
    world.import_orders()
    assert failed(world) == {}


AMOUNTS = [
    ("USD", ["10.00", "0.333", "0.333", "0.334"], {}, "11.00"),
    ("USD", ["0.125", "0.125"], {"shipping_cost": "0.005"}, "0.255"),
    ("USD", ["19.99"], {"tax": "1.6492", "discount": "2.5"}, "19.1392"),
    ("KWD", ["9.999", "9.999", "9.999"], {"shipping_cost": "1.255"}, "31.252"),
    ("KWD", ["0.001", "0.004"], {"tax": "0.001"}, "0.006"),
    ("JPY", ["12800", "1"], {"shipping_cost": "500"}, "13301"),
    ("EUR", [], {"shipping_cost": "4.99"}, "4.99"),
    ("EUR", ["99999999.99"], {}, "99999999.99"),
    ("EUR", ["10.00"], {"discount": "10.00"}, "0.00"),
    ("KWD", ["1.00"], {"shipping_cost": "0.005"}, "1.005"),
    ("JPY", ["333.4", "333.4", "333.4"], {}, "1000"),
    ("JPY", ["1000.4"], {}, "999.6"),
]


def test_parts_of_a_cent_are_no_false_alarm(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=10_000)
    for currency, prices, extras, total in AMOUNTS:
        items = [{"sku": "A", "quantity": 1, "price": price} for price in prices]
        world.place(items=items, currency=currency, total=total, **({"shipping_cost": "0"} | extras))
    assert (world.import_orders().imported, failed(world)) == (len(AMOUNTS), {})


@pytest.mark.parametrize(("total", "found"), [("30.02", 1), ("30.00", 0), ("29.98", 1)])
def test_fine_prices_excuse_no_more_than_their_half_cents(world: World, total: str, found: int) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    items = [{"sku": "A", "quantity": 3, "price": "9.999"}]
    world.place(items=items, shipping_cost="0", currency="KWD", total=total)
    world.import_orders()
    assert len(unbalanced_orders(world.database)) == found


def test_what_the_marketplace_added_up_otherwise_is_found_in_both_amounts(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    order = world.place(("A", 1), total="19.99")
    world.import_orders()
    (row,) = unbalanced_orders(world.database)
    assert (row["order"], "currency" in row) == (order, False)  # a hub may write anything there
    assert row["total_amount"] == Decimal("19.99")
    assert Decimal(str(row["items_and_extras"])) == Decimal("14.99")
    assert Decimal(str(row["marketplace_total"])) == Decimal("19.99")


@pytest.mark.parametrize(("total", "exception"), [("1000", None), ("1001", "total_mismatch")])
def test_the_check_agrees_with_the_import_on_yen(world: World, total: str, exception: str | None) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    items = [{"sku": "A", "quantity": 3, "price": "333.4"}]
    order = world.place(items=items, shipping_cost="0", currency="JPY", total=total)
    world.import_orders()
    assert desk.order(world, order).exception == exception
    assert failed(world) == ({} if exception is None else {"total": {order}})


def test_an_order_whose_total_is_not_the_marketplaces_any_more_is_found(
    world: World, sold: list[str]
) -> None:
    run(world.database, "UPDATE orders SET total_amount = 4.99 WHERE id = 1")
    run(world.database, "UPDATE order_items SET price = 0, total_price = 0 WHERE order_id = 1")  # it adds up
    assert failed(world) == {"total": {sold[0]}}


@pytest.mark.parametrize("age", [0, 40])
def test_an_item_that_a_person_added_to_the_shops_order_is_found(
    world: World, sold: list[str], age: int
) -> None:
    """Also one added now to an order before the days that are checked."""
    long_ago = datetime.now(UTC) - timedelta(days=age)
    for table, column in (("marketplace_orders", "imported_at"), ("order_processing_logs", "created_at")):
        changed = f"UPDATE {table} SET {column} = '{long_ago:%Y-%m-%d %H:%M:%S}.000000+00:00'"
        amend(world.database, f"{changed} WHERE marketplace_order_id = '{sold[0]}'")
    run(
        world.database,
        "INSERT INTO order_items (order_id, product_name, quantity, price, total_price) VALUES (1, 'Case', 1, 3, 3)",
    )
    for days in (30, None):
        (row,) = unbalanced_orders(world.database, days)
        assert (row["order"], Decimal(str(row["items_and_extras"])) - row["total_amount"]) == (sold[0], 3)


def test_a_total_that_a_person_has_dismissed_is_no_offence_until_it_is_another(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    order, other = world.place(("A", 1), total="19.99"), world.place(("A", 1), total="19.99")
    world.import_orders()
    with world.database.writing() as connection:
        seen = dismiss(lock_order(connection, desk.order(world, order).id))
    assert (seen, desk.order(world, order).exception) == (["total_mismatch"], None)
    assert failed(world) == {"total": {other}}
    run(world.database, "UPDATE order_items SET total_price = total_price + 1")
    assert failed(world) == {"total": {order, other}}


def test_a_total_is_that_of_its_own_lines_after_the_shop_has_deleted_an_order(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    world.place(("A", 1))
    world.import_orders()
    run(world.database, "DELETE FROM orders")
    world.place(("A", 1))  # whose item has the id of the deleted one's where SQLite gives it again
    world.import_orders()
    assert unbalanced_orders(world.database) == []


def test_a_deleted_order_is_no_offence_once_a_person_has_dismissed_it(world: World, sold: list[str]) -> None:
    run(world.database, "DELETE FROM orders WHERE id IN (1, 2)")
    desk.sync(world)
    assert failed(world) == {"pairing": {sold[0], sold[1]}}
    assert desk.dismissed(world, sold[0]) == ["deleted"]
    assert failed(world) == {"pairing": {sold[1]}}


def test_only_a_poll_that_read_orders_counts_as_a_look(world: World) -> None:
    assert last_import(world.database) is None
    world.import_orders()
    first = last_import(world.database)
    assert first is not None
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=5)
    run(world.database, "UPDATE fourseller_sync_logs SET started_at = '2026-01-02 03:04:05.000000+00:00'")
    world.import_orders(Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)))
    world.faults(s500=1.0)
    with pytest.raises(Exception, match="4Seller"):
        world.import_orders()
    assert last_import(world.database) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_who_needs_a_person_is_listed_with_the_word_for_it_the_oldest_first(world: World) -> None:
    for order, fields in (("first", {}), ("second", {"items": "A"})):
        world.place(("NONE", 1), id=order, **fields)
        world.import_orders()
    found = needing_a_person(world.database)
    assert [(row["order"], row["exception"]) for row in found] == [
        ("first", "unmapped"),
        ("second", "quarantined"),
    ]
    assert found[0]["number"] == "4S-first"
    assert "lines cannot be read" in found[1]["reason"]
    with world.database.writing() as connection:
        dismiss(lock_order(connection, desk.order(world, "second").id))
    assert [row["order"] for row in needing_a_person(world.database)] == ["first"]
    add_product(world.database, sku="NONE")
    world.import_orders()
    assert needing_a_person(world.database) == []


def test_an_order_is_stale_while_it_is_open_and_not_before_its_time(world: World, sold: list[str]) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=15)).strftime("%Y-%m-%d %H:%M:%S.000000+00:00")
    for order, status in zip(sold, ("pending", "processing", "shipped"), strict=True):
        run(
            world.database,
            "UPDATE marketplace_orders SET placed_at = :at, status = :status WHERE marketplace_order_id = :id",
            at=long_ago if world.database.is_postgresql else long_ago[:26],
            status=status,
            id=order,
        )
    assert [row["order"] for row in stale_orders(world.database, 14)] == sold[:2]
    assert stale_orders(world.database, 16) == []


def test_the_work_that_is_open_is_counted(world: World, sold: list[str]) -> None:
    world.place(("NONE", 2))
    world.import_orders()
    assert open_orders(world.database) == 4
    assert count(world) == value(world.database, "SELECT count(*) FROM orders") == 4
    add_order(world.database)  # the shop's own
    assert (count(world), failed(world)) == (4, {})


def test_a_check_of_days_looks_at_what_changed_and_at_what_waits_for_a_person(
    world: World, sold: list[str]
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=40)
    moved = {"marketplace_orders": "imported_at", "inventory_changes": "created_at"}
    for table, column in (*moved.items(), ("order_processing_logs", "created_at")):
        amend(world.database, f"UPDATE {table} SET {column} = '{long_ago:%Y-%m-%d %H:%M:%S}.000000+00:00'")
    run(world.database, "UPDATE order_items SET total_price = total_price + 1, quantity = 9")
    run(world.database, "UPDATE marketplace_orders SET exception = NULL")

    def found() -> list[set[str]]:
        checks = (unbalanced_orders, unexplained_deductions)
        return [{_named(row) for row in check(world.database, 30)} for check in checks]

    assert found() == [set(), set()]
    run(world.database, "UPDATE marketplace_orders SET exception = 'edited' WHERE id = 1")
    with world.database.writing() as connection:
        lock_order(connection, 2).log("shipped", "Later.")
    assert found() == [{sold[0], sold[1]}, {sold[0], sold[1]}]
    with world.database.writing() as connection:  # as a retry of one that was quarantined leaves it
        for step in ("imported", "deducted"):
            lock_order(connection, 3).log(step, "Now.")
    assert found() == [set(sold[:3]), set(sold[:3])]
    assert failed(world)["total"] == set(sold)
