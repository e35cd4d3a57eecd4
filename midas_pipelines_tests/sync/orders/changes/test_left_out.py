"""What a later message of an order leaves out, or spells so that it cannot be read, stays as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, order_json
from midas_pipelines_tests.sync.world import World


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
