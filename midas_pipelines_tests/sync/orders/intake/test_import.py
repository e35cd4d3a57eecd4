"""Order import: each sale exactly once, with its stock, its ledger and its story, whatever it looks like."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.errors import FourSellerError
from midas_pipelines.fourseller.models import read_order
from midas_pipelines.sandbox.state import now_text
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.cursors import read_cursor
from midas_pipelines.store.orders.payload_vault import PayloadUnreadable, vault_of
from midas_pipelines.store.privacy.keys import new_key
from midas_pipelines.store.schema.tables import store
from midas_pipelines.sync.orders.intake.importer import import_sales
from midas_pipelines.sync.orders.intake.poll import WATERMARK, Window
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import read_sale
from midas_pipelines_tests.shop import add_product, add_variant, assert_ledger_explains, rows, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.paper import order_json
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.threads import at_once
from midas_pipelines_tests.vaults import VAULT

# once


def test_an_order_arrives_with_its_lines_its_stock_and_its_story(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    order = world.place(("A", 3))
    report = world.import_orders()
    assert (report.fetched, report.imported, report.exceptions, report.failed) == (1, 1, 0, 0)
    assert desk.stock(world, product) == 7
    assert [line.allocated for line in desk.lines(world, order)] == [3]
    local = rows(world.database, "SELECT total_amount, status, order_number FROM orders")[0]
    assert (Decimal(str(local[0])), local[1], local[2]) == (Decimal("34.99"), "pending", f"4S-{order}")
    steps = rows(world.database, "SELECT step FROM order_processing_logs ORDER BY id")
    assert [step for (step,) in steps] == ["imported", "deducted"]
    assert_ledger_explains(world.database)


def test_the_same_order_again_changes_nothing(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    world.place(("A", 3))
    world.import_orders()
    for _ in range(3):
        report = world.import_orders()
        assert (report.imported, report.already_known) == (0, 1)
    assert desk.stock(world, product) == 7
    assert value(world.database, "SELECT count(*) FROM order_processing_logs") == 2


def test_an_order_twice_in_one_page_counts_once_and_its_newest_word_holds(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    raw = order_json("A", 3)
    later = raw | {"status": "cancelled", "updated_at": now_text()}
    sales = [read_sale(read_order(one)) for one in (later, raw, raw)]
    imported = import_sales(world.database, sales, OrderContext(vault=VAULT))
    assert (imported.imported, imported.already_known) == (1, 2)
    assert (desk.stock(world, product), desk.order(world, "X-1").status) == (10, "cancelled")


@pytest.mark.both_databases
def test_eight_importers_of_the_same_orders_import_each_once(world: World) -> None:
    products = [add_product(world.database, sku=f"S{place}", stock_quantity=100) for place in range(5)]
    sales = [
        read_sale(
            read_order(
                order_json(order_id=f"X-{number}")
                | {
                    "items": [
                        {"sku": f"S{(number + place) % 5}", "quantity": 1, "price": "1"} for place in range(3)
                    ]
                }
            )
        )
        for number in range(20)
    ]
    counts: list[int] = []

    def importer(turn: int) -> Callable[[], None]:
        mine = sales[turn:] + sales[:turn]
        return lambda: counts.append(import_sales(world.database, mine, OrderContext(vault=VAULT)).imported)

    at_once([importer(turn) for turn in range(8)])
    assert sum(counts) == 20
    assert sum(100 - desk.stock(world, product) for product in products) == 60
    assert value(world.database, "SELECT count(*) FROM orders") == 20
    assert_ledger_explains(world.database)


@pytest.mark.both_databases
def test_stock_never_falls_below_zero_under_eight_importers_and_the_shop_itself(world: World) -> None:
    products = [add_product(world.database, sku=f"S{place}", stock_quantity=20) for place in range(2)]

    def importer(number: int) -> Callable[[], None]:
        def act() -> None:
            for turn in range(4):
                sale = read_sale(read_order(order_json(f"S{turn % 2}", 2, f"X-{number}-{turn}")))
                import_sales(world.database, [sale], OrderContext(vault=VAULT))

        return act

    def shop_sells() -> None:
        statement = (
            "UPDATE products SET stock_quantity = stock_quantity - 1 WHERE id = :id AND stock_quantity > 0"
        )
        for turn in range(10):
            run(world.database, statement, id=products[turn % 2])

    at_once([*(importer(number) for number in range(8)), shop_sells])
    assert_ledger_explains(world.database)
    taken = value(world.database, "SELECT sum(allocated) FROM marketplace_order_lines")
    changed = "SELECT coalesce(sum(delta), 0) FROM inventory_changes WHERE cause = 'changed'"
    sold = -value(world.database, changed)
    assert sum(desk.stock(world, product) for product in products) == 40 - taken - sold
    backordered = value(world.database, "SELECT sum(quantity - allocated) FROM marketplace_order_lines")
    assert taken + backordered == 64


@pytest.mark.both_databases
def test_dying_in_the_middle_of_an_import_leaves_nothing_half_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    world.place(("A", 3))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("midas_pipelines.sync.orders.model.order_log.OrderContext.line_steps", die)
        with pytest.raises(KeyboardInterrupt):
            world.import_orders()
    assert (desk.stock(world, product), value(world.database, "SELECT count(*) FROM orders")) == (10, 0)
    assert world.import_orders().imported == 1
    assert desk.stock(world, product) == 7
    assert_ledger_explains(world.database)


# which orders are read


def test_the_second_poll_reads_only_what_changed_since_the_watermark(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    world.sync_context(orders_overlap_minutes=0)
    old = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    world.place(("A", 1), created_at=old, updated_at=old)
    world.place(("A", 1))
    assert world.import_orders().fetched == 2
    world.place(("A", 1))
    assert world.import_orders().fetched == 2  # the newest of before, and the new one


@pytest.mark.parametrize("minutes", [-14, 120])
def test_a_skewed_clock_of_4sellers_loses_no_order(world: World, minutes: int) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    skew = timedelta(minutes=minutes)
    for number in range(3):
        then = (datetime.now(UTC) + skew).isoformat()
        world.place(("A", 1), id=f"X-{number}", created_at=then, updated_at=then)
        assert world.import_orders().imported == 1


def test_a_row_that_appears_late_is_found_within_the_overlap(world: World) -> None:
    world.place(("A", 1))
    world.import_orders()
    late = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    world.place(("A", 1), created_at=late, updated_at=late)
    assert world.import_orders().imported == 1


def test_a_page_that_fails_midway_keeps_the_watermark_and_what_was_read(world: World) -> None:
    world.import_orders()
    for _ in range(150):
        world.place(("A", 1))
    script: list[str | None] = [None, "503", "503", "503"]
    world.sandbox.faults.script(script)
    with pytest.raises(FourSellerError):
        world.import_orders()
    assert value(world.database, "SELECT count(*) FROM orders") == 100
    assert read_cursor(world.database, WATERMARK) is None
    assert world.import_orders().imported == 50


def test_an_order_without_an_updated_at_is_found_by_the_day_it_was_placed(world: World) -> None:
    world.place(("A", 1))
    world.import_orders()
    world.place(("A", 1), updated_at=None)
    assert world.import_orders().imported == 1


def test_a_status_that_moved_without_its_updated_at_is_found(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    world.place(("A", 1))
    order = world.place(("A", 1), updated_at=None)
    world.import_orders()
    world.sandbox.state.orders[order]["status"] = "cancelled"
    world.import_orders()
    assert desk.stock(world, product) == 4


def test_a_backfill_moves_no_watermark(world: World) -> None:
    world.place(("A", 1))
    day = datetime.now(UTC)
    report = world.import_orders(Window(day - timedelta(days=1), day + timedelta(days=1)))
    assert report.imported == 1
    assert read_cursor(world.database, WATERMARK) is None


def test_orders_before_the_first_day_are_left_alone(world: World) -> None:
    world.sync_context(orders_since=datetime.now(UTC) - timedelta(days=1))
    old = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    world.place(("A", 1), created_at=old)
    world.place(("A", 1))
    assert world.import_orders().imported == 1


# exceptions


def test_a_line_that_maps_to_nothing_is_imported_and_marked(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    order = world.place(("A", 1), ("NOPE", 2))
    assert world.import_orders().exceptions == 1
    assert desk.order(world, order).exception == "unmapped"
    assert [line.exception for line in desk.lines(world, order)] == [None, "unmapped"]
    assert desk.stock(world, product) == 4


def test_shortage_goes_to_the_later_order(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    early = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    second = world.place(("A", 4))
    first = world.place(("A", 3), created_at=early)
    world.import_orders()
    assert [line.allocated for line in desk.lines(world, first)] == [3]
    assert [line.allocated for line in desk.lines(world, second)] == [2]
    assert (desk.order(world, first).exception, desk.order(world, second).exception) == (None, "oversold")
    assert desk.stock(world, product) == 0
    assert_ledger_explains(world.database)


def test_one_item_on_two_lines_is_taken_line_by_line(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=5)
    order = world.place(("A", 3), ("A", 3))
    world.import_orders()
    assert [line.allocated for line in desk.lines(world, order)] == [3, 2]
    assert_ledger_explains(world.database)


def test_stock_that_is_negative_already_gives_nothing(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=-3)
    order = world.place(("A", 1))
    world.import_orders()
    assert (desk.stock(world, product), desk.lines(world, order)[0].allocated) == (-3, 0)


QUANTITIES: dict[str, tuple[Any, int, int]] = {  # as given, kept, taken
    "zero": (0, 0, 0),
    "negative": (-2, -2, 0),
    "missing": (None, 1, 1),
}


@pytest.mark.both_databases
def test_an_odd_quantity_is_imported_for_a_person_to_see(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    for name, (given, *_) in QUANTITIES.items():
        items = [{"sku": "A", "quantity": given, "price": "10.00"}]
        world.sandbox.state.orders[name] = order_json(order_id=name, items=items)
    assert world.import_orders().imported == len(QUANTITIES)
    for name, (_, kept, taken) in QUANTITIES.items():
        line = desk.lines(world, name)[0]
        assert (line.quantity, line.allocated) == (kept, taken)
        assert "quantity" in desk.order(world, name).exception
    assert desk.stock(world, product) == 4


SPARSE: dict[str, dict[str, Any]] = {
    "only an id": {"id": "X-1"},
    "everything null": dict.fromkeys(order_json()) | {"id": "X-1"},
    "no lines": order_json(items=[]),
    "a line of nothing": order_json(items=[{}]),
    "no total": order_json(total=None),
    "an unknown status": order_json(status="Teleported"),
    "a short id": order_json() | {"id": "0"},
}


@pytest.mark.both_databases
def test_missing_fields_never_refuse_a_sale(world: World) -> None:
    add_product(world.database, sku="A")
    for name, raw in SPARSE.items():
        order_id = raw["id"] if raw["id"] == "0" else name
        world.sandbox.state.orders[order_id] = raw | {"id": order_id}
    report = world.import_orders()
    assert (report.imported, report.failed) == (len(SPARSE), 0)


@pytest.mark.both_databases
def test_an_order_of_250_lines_is_imported_whole(world: World) -> None:
    for number in range(250):
        run(
            world.database,
            "INSERT INTO products (name, slug, sku, price, stock_quantity) VALUES ('P', :s, :s, 10, 2)",
            s=f"P{number:03}",
        )
    order = world.place(*((f"P{number:03}", 1) for number in range(250)))
    assert world.import_orders().imported == 1
    assert sum(line.allocated for line in desk.lines(world, order)) == 250
    assert_ledger_explains(world.database)


SCRIPTS: dict[str, Any] = {
    "Arabic": "شاشة هاتف",
    "Hebrew": "מסך לטלפון",
    "Chinese": "手机屏幕",
    "emoji": "👩‍👩‍👧‍👦 screen",
    "a NUL": "screen\x00",
    "half a surrogate": "screen \ud83d",
    "very long": "x" * 3000,
    "SQL": "'; DROP TABLE orders; --",
}


@pytest.mark.both_databases
def test_texts_in_any_script_are_imported(world: World) -> None:
    for name, text in SCRIPTS.items():
        raw = order_json(
            order_id=f"X-{text}"[:150], customer={"name": text}, shipping_address={"line1": text}
        )
        raw["items"][0] |= {"title": text, "sku": text}
        world.sandbox.state.orders[name] = raw
    report = world.import_orders()
    assert (report.imported, report.failed) == (len(SCRIPTS), 0)


AMOUNTS: dict[str, tuple[dict[str, Any], bool]] = {
    "lines and shipping": ({"shipping_cost": "5.00", "total": "15.00"}, True),
    "tax": ({"tax": "0.83", "total": "10.83"}, True),
    "tax by another name": ({"total_tax": 0.83, "total": "10.83"}, True),
    "a discount": ({"discount": "2.50", "total": "7.50"}, True),
    "a negative discount": ({"discount": "-2.50", "total": "7.50"}, True),
    "a list of discounts": ({"discounts": [{"amount": "1.00"}, {"amount": 1.5}], "total": "7.50"}, True),
    "a cent too much": ({"total": "10.01"}, False),
    "an unnamed tax": ({"total": "10.83"}, False),
}


@pytest.mark.parametrize(("fields", "adds_up"), AMOUNTS.values(), ids=AMOUNTS)
def test_the_source_total_is_kept_and_checked_to_the_cent(fields: dict[str, Any], adds_up: bool) -> None:
    sale = read_sale(read_order(order_json(**fields)))
    assert (sale.total, sale.adds_up) == (Decimal(fields["total"]), adds_up)


HUGE: dict[str, dict[str, Any]] = {
    "the total": {"total": "1000000000000"},
    "the total in powers of ten": {"total": "1E+400"},
    "the shipping": {"shipping_cost": "100000000"},
    "a price": {"items": [{"sku": "A", "quantity": 1, "price": "1E+30"}]},
    "price times quantity": {"items": [{"sku": "A", "quantity": 2147483647, "price": "99999999"}]},
    "lines that cancel out": {
        "items": [
            {"sku": "A", "quantity": 9, "price": "99999999"},
            {"sku": "A", "quantity": 9, "price": "-99999999"},
        ]
    },
}


@pytest.mark.both_databases
def test_an_amount_too_large_for_the_tables_is_missing_and_the_sale_is_taken(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=50)
    for name, fields in HUGE.items():
        world.sandbox.state.orders[name] = order_json(order_id=name, **fields)
    report = world.import_orders()
    assert (report.imported, report.failed) == (len(HUGE), 0)
    assert {desk.order(world, name).outcome for name in HUGE} == {"imported"}
    assert desk.stock(world, product) == 0
    assert world.import_orders().failed == 0


def test_an_order_that_cannot_be_read_is_set_aside_and_imported_once_it_can(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    broken = order_json() | {"items": "three of A"}
    world.sandbox.state.orders["X-1"] = broken
    world.sandbox.state.orders["X-2"] = order_json(order_id="X-2")
    report = world.import_orders()
    assert (report.imported, report.failed) == (1, 1)
    assert "lines cannot be read" in desk.order(world, "X-1").reason
    mended = order_json(quantity=3, status="processing", updated_at=now_text())
    world.sandbox.state.orders["X-1"] = mended
    assert world.import_orders().imported == 1
    order = desk.order(world, "X-1")
    assert (order.outcome, order.reason, order.status) == ("imported", None, "processing")
    assert (order.total, order.placed_at is None) == (Decimal("30.00"), False)
    assert desk.stock(world, product) == 1


@pytest.mark.both_databases
def test_an_order_number_that_the_shop_has_taken_sets_aside_that_order_alone(world: World) -> None:
    for order_id in ("X-1", "X-2"):
        world.sandbox.state.orders[order_id] = order_json(order_id=order_id)
    run(
        world.database,
        "INSERT INTO orders (order_number, total_amount, shipping_address, billing_address) "
        "VALUES ('4S-X-1', 1, '{}', '{}')",
    )
    report = world.import_orders()
    assert (report.imported, report.failed) == (1, 1)


# which item a line sold


def test_a_renamed_sku_is_found_by_the_4seller_product(world: World) -> None:
    product = add_product(world.database, sku="OLD", stock_quantity=5)
    world.full()
    sold = world.listed["OLD"]["id"]
    world.set(product, sku="NEW")
    world.sandbox.state.place(
        order_json() | {"items": [{"sku": "OLD", "product_id": sold, "quantity": 1, "price": "10.00"}]}
    )
    world.import_orders()
    assert desk.stock(world, product) == 4


def test_a_variant_gives_from_its_own_stock(world: World) -> None:
    parent = add_product(world.database, sku="P", stock_quantity=50)
    variant = add_variant(world.database, parent, sku="V", stock_quantity=5)
    world.place(("V", 2), ("P", 1))
    world.import_orders()
    found = value(world.database, "SELECT stock_quantity FROM product_variants WHERE id = :id", id=variant)
    assert (found, desk.stock(world, parent)) == (3, 50)
    assert_ledger_explains(world.database)


@pytest.mark.both_databases
@pytest.mark.parametrize("sku", ["P", "V"])
def test_a_sale_of_what_the_shop_has_just_removed_is_imported_unmapped(world: World, sku: str) -> None:
    product = add_product(world.database, sku="P")
    parent = add_product(world.database)
    variant = add_variant(world.database, parent, sku="V")
    world.full()
    order = world.place((sku, 1))
    world.remove(product)
    run(world.database, "DELETE FROM product_variants WHERE id = :id", id=variant)
    report = world.import_orders()
    assert (report.imported, report.failed) == (1, 0)
    assert desk.order(world, order).exception == "unmapped"


def test_a_sale_of_an_archived_item_takes_its_stock(world: World) -> None:
    product = add_product(world.database, sku="A", status="archived", stock_quantity=5)
    world.place(("A", 1))
    world.import_orders()
    assert desk.stock(world, product) == 4


# status

FIRST_SIGHT: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "cancelled": ({"status": "cancelled"}, 0, "cancelled", "paid"),
    "refunded": ({"status": "refunded"}, 0, "cancelled", "refunded"),
    "refunded with a label": (
        {"status": "refunded", "tracking": {"number": "1Z"}},
        0,
        "cancelled",
        "refunded",
    ),
    "shipped": ({"status": "shipped"}, 1, "shipped", "paid"),
    "unpaid": ({"status": "Unpaid"}, 1, "pending", "pending"),
    "on hold": ({"status": "On-hold"}, 1, "pending", "paid"),
}


def test_the_status_at_first_sight_decides_whether_stock_is_taken(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    for name, (fields, *_) in FIRST_SIGHT.items():
        world.sandbox.state.orders[name] = order_json(order_id=name, **fields)
    world.import_orders()
    query = "SELECT status, payment_status FROM orders WHERE order_number = :number"
    for name, (_, taken, status, payment) in FIRST_SIGHT.items():
        assert desk.lines(world, name)[0].allocated == taken
        assert rows(world.database, query, number=f"4S-{name}") == [(status, payment)]
    assert desk.stock(world, product) == 9 - sum(taken for _, taken, *_ in FIRST_SIGHT.values())


MOVES: dict[str, tuple[list[str], str, int, bool]] = {
    "forward": (["processing", "shipped", "delivered"], "delivered", 1, False),
    "steps missed": (["delivered"], "delivered", 1, False),
    "late": (["shipped", "processing", "pending"], "shipped", 1, False),
    "cancelled": (["cancelled"], "cancelled", 0, False),
    "cancelled again and again": (["cancelled", "pending", "cancelled"], "cancelled", 0, False),
    "refunded before it left": (["refunded"], "refunded", 0, False),
    "cancelled, then refunded": (["cancelled", "refunded"], "refunded", 0, False),
    "refunded after it left": (["shipped", "refunded"], "refunded", 1, False),
    "cancelled after it left": (["shipped", "cancelled"], "shipped", 1, True),
    "shipped after it was cancelled": (["cancelled", "shipped"], "cancelled", 0, True),
}


def test_status_goes_forward_only_and_gives_back_once(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=15)
    for name in MOVES:
        world.place(("A", 1), id=name)
    world.import_orders()
    for turn in range(3):
        for name, (words, *_) in MOVES.items():
            if turn < len(words):
                world.sandbox.state.edit_order(name, {"status": words[turn], "updated_at": now_text()})
        world.import_orders()
        world.import_orders()
    logged = "SELECT step FROM order_processing_logs WHERE marketplace_order_id = :id"
    for name, (_, ends, taken, refused) in MOVES.items():
        steps = [step for (step,) in rows(world.database, logged, id=name)]
        assert (name, desk.order(world, name).status) == (name, ends)
        assert (steps.count("refused_transition"), steps.count("released")) == (refused, 1 - taken)
    assert desk.stock(world, product) == 15 - sum(taken for _, _, taken, _ in MOVES.values())
    assert_ledger_explains(world.database)


def test_an_oversold_order_gives_back_only_what_it_took(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=2)
    order = world.place(("A", 5))
    world.import_orders()
    world.set(product, stock_quantity=10)
    world.sandbox.state.move(order, "cancelled")
    world.import_orders()
    assert desk.stock(world, product) == 12


@pytest.mark.both_databases
def test_a_cancellation_from_eight_sides_at_once_gives_back_once(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    import_sales(world.database, [read_sale(read_order(order_json(quantity=3)))], OrderContext(vault=VAULT))
    gone = read_sale(read_order(order_json(quantity=3, status="cancelled", updated_at=now_text())))
    at_once([lambda: import_sales(world.database, [gone], OrderContext(vault=VAULT))] * 8)
    assert desk.stock(world, product) == 5
    assert_ledger_explains(world.database)


@pytest.mark.both_databases
def test_cancellations_and_sales_of_the_same_items_at_once_never_fail(world: World) -> None:
    for place in range(4):
        add_product(world.database, sku=f"S{place}", stock_quantity=50)
    skus = [f"S{place}" for place in range(4)]

    def lines(shift: int) -> list[dict[str, Any]]:
        return [{"sku": sku, "quantity": 1, "price": "1"} for sku in skus[shift:] + skus[:shift]]

    def sale(order_id: str, shift: int, status: str = "pending") -> Any:
        return read_sale(read_order(order_json(order_id=order_id, items=lines(shift), status=status)))

    import_sales(world.database, [sale(f"OLD-{n}", n % 4) for n in range(16)], OrderContext(vault=VAULT))

    def act(turn: int) -> Callable[[], object]:
        mixed = [sale(f"OLD-{(turn * 2 + n) % 16}", n % 4, "cancelled") for n in range(4)]
        mixed += [sale(f"NEW-{turn}-{n}", (turn + n) % 4) for n in range(4)]
        return lambda: import_sales(world.database, mixed, OrderContext(vault=VAULT))

    at_once([act(turn) for turn in range(8)])
    stock = value(world.database, "SELECT sum(stock_quantity) FROM products")
    assert stock == 200 - 32 * 4
    assert_ledger_explains(world.database)


@pytest.mark.parametrize("status", ["shipped", "cancelled"])
def test_an_order_that_the_shop_has_deleted_still_follows_4seller(world: World, status: str) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    order = world.place(("A", 1))
    world.import_orders()
    run(world.database, "DELETE FROM orders")
    world.sandbox.state.edit_order(order, {"status": status, "updated_at": now_text()})
    report = world.import_orders()
    assert (report.failed, desk.order(world, order).status) == (0, status)
    assert desk.stock(world, product) == (5 if status == "cancelled" else 4)


# persons

PERSON: dict[str, Any] = {
    "customer": {"email": "secret-mail@example.com", "name": "Secret Name", "phone": "secret-phone"},
    "shipping_address": {"line1": "secret-street 1", "city": "secret-city", "postal_code": "secret-zip"},
    "billing_address": {"line1": "secret-bill"},
    "buyer_note": "leave it with secret-neighbour",
    "shipTo": {"fullName": "secret-shipto"},
    "tracking": {"carrier": "UPS", "number": "secret-parcel", "url": "https://x.example/secret-parcel"},
}


def read_all_of_ours(database: Database) -> str:
    """Every value in our own tables, as text."""
    with database.reading() as connection:
        return "\n".join(
            str(tuple(row)) for table in store.sorted_tables for row in connection.execute(sa.select(table))
        )


@pytest.mark.parametrize(
    "broken", [{}, {"total": "1E+99"}, {"customer": "Mr Secret"}], ids=["whole", "no total", "no customer"]
)
def test_no_personal_data_is_readable_in_our_tables(world: World, broken: dict[str, Any]) -> None:
    raw = order_json(**(PERSON | broken))
    raw["items"][0]["gift_message"] = "for secret-friend"
    world.sandbox.state.orders["X-1"] = raw
    world.import_orders()
    assert "secret" not in read_all_of_ours(world.database).lower()
    opened = vault_of(world.settings).open(desk.order(world, "X-1").payload)
    assert opened["items"][0]["sku"] == "A"
    assert opened == raw


def test_a_sealed_payload_opens_with_an_older_key_and_not_without(world: World) -> None:
    old, new = (new_key() for _ in range(2))
    world.sync_context(payload_key=old)
    world.sandbox.state.place(order_json())
    world.import_orders()
    payload = desk.order(world, "X-1").payload
    world.sync_context(payload_key=f"{new},{old}")
    assert vault_of(world.settings).open(payload)["id"] == "X-1"
    with pytest.raises(PayloadUnreadable, match="which is missing"):
        VAULT.open(payload)


def test_an_import_pushes_its_new_stock_back(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=10)
    world.full()
    world.place(("A", 3))
    world.import_orders()
    world.inventory()
    assert world.listed["A"]["inventory"]["quantity"] == 7
