"""First come, first served: who waits is served before anybody new, however the stock came back."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.sandbox.state import now_text
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.stock.pending_lines import (
    CannotChangeLine,
    allocate_backorders,
    map_line,
    substitute_item,
)
from midas_pipelines_tests.shop import add_product, add_variant, run
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, Report, holdings, line, order_json, took
from midas_pipelines_tests.sync.world import World

BOTH_WAYS = pytest.mark.parametrize("report", [paper.polled, paper.told])


def sale(name: str, quantity: int, day: int, **fields: Any) -> Raw:
    """An order for so many of A, placed on that day, as it is now."""
    placed = f"2026-02-{day:02}T00:00:00Z"
    return order_json("A", quantity, name, created_at=placed, updated_at=now_text(), **fields)


@BOTH_WAYS
def test_a_new_order_does_not_get_what_another_waits_for(world: World, report: Report) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    report(world, sale("OLD", 3, day=1))
    world.set(product, stock_quantity=4)
    report(world, sale("NEW", 3, day=2))
    assert took(world, "OLD", "NEW") == [3, 1]
    assert [desk.order(world, name).exception for name in ("OLD", "NEW")] == [None, "oversold"]
    desk.assert_whole(world)


@BOTH_WAYS
@pytest.mark.parametrize("word", ["cancelled", "refunded"])
def test_what_an_order_frees_goes_to_who_waits_and_not_to_the_new_one_beside_it(
    world: World, report: Report, word: str
) -> None:
    add_product(world.database, sku="A", stock_quantity=2)
    report(world, sale("HOLDS", 2, day=1))
    report(world, sale("WAITS", 2, day=2))
    report(world, sale("HOLDS", 2, day=1, status=word), sale("NEW", 2, day=3))
    assert took(world, "HOLDS", "WAITS", "NEW") == [0, 2, 0]
    desk.assert_whole(world)


@BOTH_WAYS
def test_an_order_that_asks_for_more_waits_its_turn(world: World, report: Report) -> None:
    product = add_product(world.database, sku="A", stock_quantity=2)
    report(world, sale("YOUNG", 2, day=9))
    report(world, sale("OLD", 2, day=1))
    world.set(product, stock_quantity=2)
    report(world, sale("YOUNG", 4, day=9))
    assert holdings(world, "OLD") == [("A", 2, 2, 0)]
    assert holdings(world, "YOUNG") == [("A", 4, 2, 2)]
    desk.assert_whole(world)


@BOTH_WAYS
def test_what_an_order_no_longer_asks_for_goes_to_who_waits(world: World, report: Report) -> None:
    add_product(world.database, sku="A", stock_quantity=4)
    report(world, sale("HOLDS", 4, day=1))
    report(world, sale("WAITS", 2, day=2))
    report(world, sale("HOLDS", 1, day=1), sale("NEW", 2, day=3))
    assert took(world, "HOLDS", "WAITS", "NEW") == [1, 2, 1]
    desk.assert_whole(world)


def test_a_line_that_a_person_maps_waits_behind_who_waits_already(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    paper.polled(world, sale("OLD", 2, day=1), sale("LATE", 2, day=2, items=[line("THEIRS", 2)]))
    world.set(product, stock_quantity=3)
    assert map_line(world.database, desk.order(world, "LATE").id, 1, (product, None), OrderContext())
    assert took(world, "OLD", "LATE") == [2, 1]
    desk.assert_whole(world)


def test_a_substitute_is_for_who_waits_for_it_already(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=0)
    other = add_product(world.database, sku="B", stock_quantity=0)
    paper.polled(world, sale("OLD", 2, day=1, items=[line("B", 2)]), sale("LATE", 2, day=2))
    late = desk.order(world, "LATE").id
    world.set(other, stock_quantity=3)
    with pytest.raises(CannotChangeLine, match="fewer than 2"):
        substitute_item(world.database, late, 1, (other, None), OrderContext())
    world.set(other, stock_quantity=4)
    substitute_item(world.database, late, 1, (other, None), OrderContext())
    assert took(world, "OLD", "LATE") == [2, 2]
    desk.assert_whole(world)


def test_a_line_that_the_poll_maps_waits_behind_who_waits_already(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    paper.polled(world, sale("OLD", 2, day=2), sale("LATE", 2, day=1, items=[line("THEIRS", 2)]))
    world.set(product, sku="THEIRS", stock_quantity=3)
    assert world.import_orders().mapped == 1
    assert took(world, "OLD", "LATE") == [2, 1]
    desk.assert_whole(world)


@BOTH_WAYS
def test_the_day_it_was_placed_counts_and_not_the_day_it_came(world: World, report: Report) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    for name, day in (("YOUNG", 9), ("OLD", 1), ("MIDDLE", 5)):
        report(world, sale(name, 2, day=day))
    world.set(product, stock_quantity=3)
    assert allocate_backorders(world.database) == 3
    assert took(world, "OLD", "MIDDLE", "YOUNG") == [2, 1, 0]


@pytest.mark.parametrize("publish", [World.inventory, World.incremental, World.full])
def test_what_is_owed_is_never_published(world: World, publish: Callable[[World], object]) -> None:
    product = add_product(world.database, sku="A", stock_quantity=0)
    world.full()
    desk.told(world, sale("OLD", 2, day=1))
    world.set(product, stock_quantity=5)
    publish(world)
    assert (world.shown["A"][2], took(world, "OLD")) == (3, [2])


def test_what_a_line_with_a_new_sku_sold_is_never_published(world: World) -> None:
    desk.told(world, sale("OLD", 4, day=1, items=[line("NEW", 4)]))
    add_product(world.database, sku="NEW", stock_quantity=3)
    world.full()
    assert (world.shown["NEW"][2], holdings(world, "OLD")) == (0, [("NEW", 4, 3, 1)])


def test_ten_oversold_items_show_nothing_and_then_what_is_left(world: World) -> None:
    made = [add_product(world.database, sku=f"S{n}", stock_quantity=1) for n in range(10)]
    world.full()
    desk.told(world, *(order_json(f"S{n}", 3, f"X-{n}") for n in range(10)))
    world.inventory()
    assert {quantity for _, _, quantity in world.shown.values()} == {0}
    assert desk.alerts(world) == ["oversold"] * 10
    for product in made:
        world.set(product, stock_quantity=5)
    world.inventory()
    assert {quantity for _, _, quantity in world.shown.values()} == {3}
    assert desk.alerts(world) == []
    desk.assert_whole(world)


def test_items_that_are_gone_keep_nobody_from_their_stock(world: World) -> None:
    parent = add_product(world.database)
    add_variant(world.database, parent, sku="GONE", stock_quantity=0)
    product = add_product(world.database, sku="A", stock_quantity=0)
    paper.polled(world, sale("DEAD", 1, day=1, items=[line("GONE", 2)] * 201), sale("LIVE", 1, day=2))
    run(world.database, "DELETE FROM product_variants")
    world.set(product, stock_quantity=1)
    assert (allocate_backorders(world.database), took(world, "LIVE")) == (1, [1])


@pytest.mark.both_databases
def test_whoever_has_some_has_all_or_nobody_after_them_has_any(world: World) -> None:
    chance = random.Random(4)
    parent = add_product(world.database)
    columns = dict.fromkeys(("V0", "V1"), product_variants) | {"P": products}
    for sku, table in columns.items():
        if table is products:
            add_product(world.database, sku=sku, stock_quantity=0)
        else:
            add_variant(world.database, parent, sku=sku, stock_quantity=0)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    placed = {f"B-{n}": start + timedelta(minutes=chance.randint(0, 10**5)) for n in range(20)}
    sold = {name: chance.choice(list(columns)) for name in placed}
    for name, when in placed.items():
        paper.put(world, order_json(sold[name], chance.randint(1, 4), name, created_at=when.isoformat()))
    world.import_orders()
    for _ in range(12):
        sku = chance.choice(list(columns))
        table = columns[sku]
        more = sa.update(table).where(table.c.sku == sku).values(stock_quantity=chance.randint(1, 4))
        with world.database.writing() as connection:
            connection.execute(more)
        allocate_backorders(world.database)
    for sku in columns:
        mine = sorted((name for name in placed if sold[name] == sku), key=lambda name: (placed[name], name))
        owing = [holdings(world, name)[0][3] > 0 for name in mine]
        assert owing == sorted(owing)
        first = owing.index(True) if True in owing else len(mine)
        assert not any(took(world, *mine[first + 1 :]))
    desk.assert_whole(world)
