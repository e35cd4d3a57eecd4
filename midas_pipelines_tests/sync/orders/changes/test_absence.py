"""Absence says nothing: what a message leaves out is as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from midas_pipelines.sandbox.state import now_text
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, Report, order_json
from midas_pipelines_tests.sync.world import World

WHOLE: Raw = order_json(
    quantity=2,
    shipping_cost="4.99",
    tax="1.01",
    total="26.00",
    sales_channel="ebay",
    customer={"name": "Ann", "email": "ann@home.example"},
    shipping_address={"line1": "Old street 1", "city": "Bonn"},
)

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "lines": ("items",),
    "total": ("total", "shipping_cost", "tax"),
    "buyer": ("customer",),
    "address": ("shipping_address",),
    "currency and channel": ("currency", "sales_channel"),
    "the day it was placed": ("created_at",),
    "all but where it stands": tuple(WHOLE.keys() - {"id", "status", "updated_at"}),
}

EMPTY: dict[str, Raw] = {
    "null lines": {"items": None},
    "a list of no lines": {"items": []},
    "null total": {"total": None, "shipping_cost": None, "tax": None},
    "a buyer of nulls": {"customer": {"name": None, "email": None}},
    "an empty buyer": {"customer": {}},
    "an empty address": {"shipping_address": {}},
    "all of it null": dict.fromkeys(WHOLE.keys() - {"id", "status", "updated_at"}),
}

BOTH_WAYS = pytest.mark.parametrize("report", [paper.polled, paper.told])


def content(world: World, order_id: str) -> Any:
    """All that an order is, but for where it stands."""
    order = desk.order(world, order_id)
    amounts = (order.total, order.lines_total, order.shipping_cost, order.tax, order.discount)
    return (
        amounts,
        (order.currency, order.sales_channel, order.placed_at, order.exception),
        paper.holdings(world, order_id),
        rows(
            world.database,
            "SELECT total_amount, shipping_cost, shipping_address, billing_address FROM orders WHERE id = :id",
            id=order.local_order_id,
        ),
        rows(
            world.database,
            "SELECT product_id, quantity, price, total_price FROM order_items WHERE order_id = :id",
            id=order.local_order_id,
        ),
    )


@BOTH_WAYS
def test_what_a_message_leaves_out_or_holds_empty_is_as_it_was(world: World, report: Report) -> None:
    product = add_product(world.database, sku="A", stock_quantity=50)
    later = WHOLE | {"status": "processing", "updated_at": now_text()}
    said = {
        case: {name: part for name, part in later.items() if name not in names}
        for case, names in LEFT_OUT.items()
    } | {case: later | fields for case, fields in EMPTY.items()}
    report(world, *(WHOLE | {"id": case} for case in said))
    before = {case: content(world, case) for case in said}
    report(world, *(message | {"id": case} for case, message in said.items()))
    for case in said:
        assert desk.order(world, case).status == "processing", case
        assert content(world, case) == before[case], case
    assert desk.stock(world, product) == 50 - 2 * len(said)
    desk.assert_whole(world)


def test_a_message_without_a_date_moves_the_status_alone(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    paper.told(world, order_json(quantity=2))
    paper.told(world, order_json(quantity=3, status="cancelled", updated_at=None))
    assert (desk.order(world, "X-1").status, desk.stock(world, product)) == ("cancelled", 5)
    assert [line.quantity for line in desk.lines(world, "X-1")] == [2]


def test_nothing_new_is_no_edit(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=5)
    paper.polled(world, order_json(customer={"name": "Ann"}))
    same = order_json(customer={"name": "Ann", "email": None}, shipping_address=None, updated_at=now_text())
    paper.put(world, same)
    assert world.import_orders().updated == 0
    assert "edited" not in desk.steps(world, "X-1")


@BOTH_WAYS
def test_what_was_left_out_at_first_sight_is_filled_in_later(world: World, report: Report) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    report(world, {"id": "X-1", "status": "pending", "created_at": WHOLE["created_at"]})
    assert (paper.holdings(world, "X-1"), desk.stock(world, product)) == ([], 5)
    report(world, WHOLE)
    assert paper.holdings(world, "X-1") == [("A", 2, 2, 0)]
    assert (desk.stock(world, product), str(desk.order(world, "X-1").total)) == (3, "26.00")
    assert "Old street 1" in str(rows(world.database, "SELECT shipping_address FROM orders"))
    desk.assert_whole(world)


def test_what_a_sparse_message_left_out_is_known_still_when_it_comes_again(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    paper.polled(world, WHOLE)
    paper.polled(world, {"id": "X-1", "status": "processing", "updated_at": now_text()})
    paper.put(world, WHOLE | {"status": "processing", "updated_at": now_text()})
    assert world.import_orders().updated == 0
    edited = {"items": [paper.line("A", 4)], "total": "46.00", "updated_at": now_text()}
    paper.polled(world, WHOLE | {"status": "processing"} | edited)
    assert (desk.stock(world, product), desk.order(world, "X-1").exception) == (5, None)


def test_an_edit_of_the_lines_alone_leaves_the_rest_known(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    paper.polled(world, WHOLE)
    edited = {"items": [paper.line("A", 4)], "total": "46.00", "shipping_cost": "4.99", "tax": "1.01"}
    paper.polled(world, {"id": "X-1", "status": "pending", "updated_at": now_text()} | edited)
    assert (desk.stock(world, product), str(desk.order(world, "X-1").total)) == (5, "46.00")
    paper.put(world, WHOLE | edited | {"updated_at": now_text()})
    assert world.import_orders().updated == 0
    desk.assert_whole(world)


@BOTH_WAYS
def test_a_new_address_leaves_the_buyer_and_a_new_buyer_the_address(world: World, report: Report) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    report(world, WHOLE)
    address = {"shipping_address": {"line1": "New street 1"}, "customer": None}
    report(world, WHOLE | address | {"updated_at": now_text()})
    buyer = {"customer": {"name": "Bea"}, "shipping_address": None}
    report(world, WHOLE | buyer | {"updated_at": now_text()})
    ((kept,),) = rows(world.database, "SELECT shipping_address FROM orders")
    assert all(part in str(kept) for part in ("New street 1", "Bea"))
    assert not any(part in str(kept) for part in ("Old street 1", "Bonn", "Ann"))


LESS = [("", 2), ("***", 2), (None, 2), ([], None), ("A", "two"), ("A", "")]
"""The SKU and quantity of a line that had two of A before."""


@BOTH_WAYS
def test_a_line_that_says_less_than_before_keeps_its_item_and_its_stock(world: World, report: Report) -> None:
    product = add_product(world.database, sku="A", stock_quantity=20)
    cases = {f"X-{number}": less for number, less in enumerate(LESS)}
    report(world, *(order_json(quantity=2, order_id=order_id) for order_id in cases))
    later = order_json(quantity=2, updated_at=now_text())
    report(
        world,
        *(
            later | {"id": order_id, "items": [{"sku": sku, "quantity": quantity, "price": "10.00"}]}
            for order_id, (sku, quantity) in cases.items()
        ),
    )
    for order_id, less in cases.items():
        assert paper.holdings(world, order_id) == [("A", 2, 2, 0)], less
    assert desk.stock(world, product) == 20 - 2 * len(cases)


@BOTH_WAYS
def test_a_masked_message_wipes_no_address(world: World, report: Report) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    report(world, WHOLE)
    masked = {"customer": {"name": "***"}, "shipping_address": {"line1": "O*** s***", "city": ""}}
    report(world, WHOLE | masked | {"updated_at": now_text()})
    ((kept,),) = rows(world.database, "SELECT shipping_address FROM orders")
    assert all(part in str(kept) for part in ("Old street 1", "Bonn", "Ann"))


def at(minutes: int, *, status: str = "pending", **fields: Any) -> Raw:
    """The order as a message of that minute has it."""
    moment = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    items = [paper.line("A", 2, title="Screen")]
    amounts = {"total": "27.00", "shipping_cost": "5.00", "tax": "2.00", "currency": "USD", "items": items}
    return order_json(status=status, updated_at=moment.isoformat(), **(amounts | fields))


def of_line(*names: str, **fields: Any) -> Raw:
    """Fields of an order whose only line lacks these, or has these."""
    whole = paper.line("A", 2, title="Screen") | fields
    return {"items": [{name: value for name, value in whole.items() if name not in names}]}


SCANT: dict[str, Raw] = {
    "no amounts": {"total": None, "shipping_cost": None, "tax": None, "currency": None},
    "no shipping, no tax": {"shipping_cost": None, "tax": None},
    "shipping in words": {"shipping_cost": "free"},
    "a total in words": {"total": "many", "currency": ["USD"]},
    "no price": of_line("price"),
    "a price in words": of_line(price="ten"),
    "no quantity, no title": of_line("quantity", "title"),
    "no SKU": of_line("sku"),
    "nothing but the SKU": of_line("quantity", "title", "price") | {"shipping_cost": None, "tax": None},
    "no lines": {"items": []},
}


@pytest.mark.parametrize("how", ["polled", "told", "in one batch"])
def test_it_stays_as_it_was(world: World, how: str) -> None:
    product = add_product(world.database, sku="A", stock_quantity=30)
    first = [at(0, order_id=name) for name in SCANT]
    later = [at(5, status="shipped", order_id=name, **scant) for name, scant in SCANT.items()]
    if how == "in one batch":
        desk.told(world, *first, *later)
    else:
        desk.told(world, *first)
        (paper.polled if how == "polled" else paper.told)(world, *later)
    for name in SCANT:
        order, (line,) = desk.order(world, name), desk.lines(world, name)
        assert (name, order.status, order.exception, order.currency) == (name, "shipped", None, "USD")
        amounts = [str(amount) for amount in (order.total, order.shipping_cost, order.tax)]
        assert amounts == ["27.00", "5.00", "2.00"]
        assert (line.sku, line.title, line.quantity, str(line.price)) == ("A", "Screen", 2, "10.00")
        assert "edited" not in desk.steps(world, name)
    assert desk.stock(world, product) == 30 - 2 * len(SCANT)
    in_shop = rows(world.database, "SELECT quantity, price FROM order_items")
    assert [(quantity, int(price)) for quantity, price in in_shop] == [(2, 10)] * len(SCANT)


def test_what_it_says_counts_with_what_it_leaves_out(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    desk.told(world, at(0))
    desk.told(world, at(5, total="37.00", shipping_cost=None, tax=None, items=[{"sku": "A", "quantity": 3}]))
    order, (line,) = desk.order(world, "X-1"), desk.lines(world, "X-1")
    assert (order.exception, str(order.total), str(order.lines_total)) == (None, "37.00", "30.00")
    assert (line.title, str(line.price), desk.stock(world, product)) == ("Screen", "10.00", 6)


def test_an_unknown_word_is_kept_and_alerted_beside_a_known_status_of_its_batch(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    desk.told(world, at(0, status="shipped"), at(5, status="with_the_neighbor"))
    order = desk.order(world, "X-1")
    assert (order.status, order.status_word) == ("shipped", "with_the_neighbor")
    assert (order.exception, desk.alerts(world)) == ("unknown_status", ["unknown_status"])
