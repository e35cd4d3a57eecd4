"""The alert of an oversold item: told when somebody begins to wait, closed when nobody does, told again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from midas_pipelines.sandbox.state import now_text
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order
from midas_pipelines.sync.orders.stock.pending_lines import map_line
from midas_pipelines.sync.orders.stock.units import restock_units
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, line, order_json
from midas_pipelines_tests.sync.world import World

Act = Callable[[World, int], object]


def now(quantity: int, **fields: Any) -> Raw:
    """The order of A as it is now."""
    return order_json(sku="A", quantity=quantity, updated_at=now_text(), **fields)


def gives_back(world: World, order_id: str) -> int:
    """The parcel of an order is back on the shelf."""
    with world.database.writing() as connection:
        order = lock_order(connection, desk.order(world, order_id).id)
        return restock_units(order)


def maps(world: World, product: int) -> None:
    """An operator says what the order sold."""
    paper.polled(world, order_json(items=[line("THEIRS", 3)]))
    assert owing(world) == []
    map_line(world.database, desk.order(world, "X-1").id, 1, (product, None), OrderContext())


def adds_the_sku(world: World, product: int) -> None:
    """The shop has the SKU at last."""
    paper.polled(world, order_json(items=[line("THEIRS", 3)]))
    world.set(product, sku="THEIRS")
    world.import_orders()


def asks_for_more(world: World, _: int) -> None:
    """An edit."""
    paper.polled(world, order_json(quantity=1))
    assert owing(world) == []
    paper.polled(world, now(3))


RAISED: dict[str, Act] = {
    "a sale that is polled": lambda world, _: paper.polled(world, order_json(quantity=3)),
    "a sale that is told": lambda world, _: paper.told(world, order_json(quantity=3)),
    "a line of no quantity": lambda world, _: paper.polled(world, order_json(items=[line("A", None)] * 3)),
    "a line that a person maps": maps,
    "a line that the poll maps": adds_the_sku,
    "an edit": asks_for_more,
}


@pytest.mark.parametrize("act", RAISED.values(), ids=RAISED)
def test_what_raises_it(world: World, act: Act) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1)
    act(world, product)
    found = rows(world.database, "SELECT kind, subject, text FROM alerts WHERE cleared_at IS NULL")
    assert [(kind, subject) for kind, subject, _ in found] == [("oversold", f"item:{product}:0")]
    assert "order X-1 waits for" in found[0][2]
    assert "oversold" in desk.order(world, "X-1").exception


def owing(world: World) -> list[str]:
    """The alerts that are open about what is backordered."""
    return [kind for kind in desk.alerts(world) if kind == "oversold"]


CLOSED: dict[str, Act] = {
    "cancelled": lambda world, _: paper.polled(world, now(3, status="cancelled")),
    "refunded": lambda world, _: paper.polled(world, now(3, status="refunded")),
    "asks for less": lambda world, _: paper.polled(world, now(1)),
    "sold something else": lambda world, _: paper.polled(world, now(1, items=[line("B", 1)])),
    "restocked": lambda world, product: (world.set(product, stock_quantity=2), world.import_orders()),
    "restocked and published": lambda world, product: (
        world.set(product, stock_quantity=2),
        world.inventory(),
    ),
}


@pytest.mark.parametrize("act", CLOSED.values(), ids=CLOSED)
def test_what_closes_it_and_what_raises_it_again(world: World, act: Act) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1)
    add_product(world.database, sku="B")
    paper.polled(world, order_json(quantity=3))
    assert owing(world) == ["oversold"]
    act(world, product)
    assert (owing(world), desk.order(world, "X-1").exception) == ([], None)
    world.place(("A", 20))
    world.import_orders()
    assert owing(world) == ["oversold"]
    desk.assert_whole(world)


def test_while_anybody_waits_it_stays_open_and_is_told_once(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=1)
    paper.polled(world, order_json(quantity=3), order_json(quantity=1, order_id="X-2"))
    paper.polled(world, now(3, status="cancelled"))
    assert (owing(world), paper.took(world, "X-2")) == ([], [1])
    paper.polled(world, now(1, order_id="X-3"), now(1, order_id="X-4"))
    paper.polled(world, now(1, order_id="X-3", status="cancelled"))
    assert owing(world) == ["oversold"]
    assert len(rows(world.database, "SELECT id FROM alerts WHERE kind = 'oversold'")) == 2


def test_a_parcel_that_comes_back_closes_it_for_who_waits(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=2)
    paper.polled(world, order_json(quantity=2), order_json(quantity=2, order_id="X-2"))
    desk.pack(world, "X-1")
    assert gives_back(world, "X-1") == 2
    world.import_orders()
    assert (owing(world), paper.took(world, "X-2")) == ([], [2])
    desk.assert_whole(world)


def test_a_parcel_that_comes_back_leaves_what_its_own_order_waits_for(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=2)
    paper.polled(world, order_json(quantity=5))
    desk.pack(world, "X-1", units={1: 2})
    assert gives_back(world, "X-1") == 2
    assert [row.backordered for row in desk.lines(world, "X-1")] == [3]
    assert (owing(world), desk.order(world, "X-1").exception) == (["oversold"], "oversold")
    world.import_orders()
    assert [row.backordered for row in desk.lines(world, "X-1")] == [1]
    desk.assert_whole(world)


def test_an_item_that_the_shop_removes_is_owed_until_the_order_ends(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1)
    paper.polled(world, order_json(quantity=3))
    world.remove(product)
    world.import_orders()
    assert owing(world) == ["oversold"]
    paper.polled(world, now(3, status="cancelled"))
    assert (owing(world), desk.order(world, "X-1").exception) == ([], None)
