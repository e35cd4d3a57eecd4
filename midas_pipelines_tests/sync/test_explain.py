"""The lineage of a number, and a changed rule run over the past."""

from __future__ import annotations

from typing import Any

import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.stock.rules import Rule
from midas_pipelines.sync.explain import explain_item, lineage
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines.sync.rules.simulate import Sold, outcome, simulate
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.world import World


@pytest.mark.both_databases
def test_the_lineage_goes_from_what_4seller_shows_to_the_order(world: World) -> None:
    add_product(world.database, sku="A-1", stock_quantity=9)
    set_rule(world.database, {"buffer": 2})
    world.full()
    order = world.place(("A-1", 3))
    world.import_orders()
    world.inventory()
    told = explain_item(world.database, "A-1")
    assert (told["on_hand"], told["available"], told["confirmed"]["quantity"]) == (6, 4, 4)
    lines = "\n".join(lineage(told))
    for words in (
        "it confirmed 4",
        "- buffer 2 = 4",
        "-3 → 6, sale:",
        f"order {order}, line 1",
        "+9 → 9, opening",
    ):
        assert words in lines
    assert lines.endswith("Nothing to send.")


def test_what_a_read_back_did_not_show_is_no_number(world: World) -> None:
    add_product(world.database, sku="A")
    world.full()
    lines = lineage(explain_item(world.database, "A"))
    assert not [line for line in lines if "None" in line]


def test_an_unknown_sku_is_a_sentence(world: World) -> None:
    with pytest.raises(WrongInput, match="No item of the shop has the SKU NOPE"):
        explain_item(world.database, "NOPE")


CASES = [
    (Sold(wanted=1, allocated=0, shown_of=1), Rule(buffer=1), (1, 0)),
    (Sold(wanted=1, allocated=0, shown_of=1), Rule(), (0, 0)),
    (Sold(wanted=1, allocated=1, shown_of=1), Rule(buffer=1), (0, 1)),
    (Sold(wanted=3, allocated=1, shown_of=5), Rule(cap=1), (2, 0)),
    (Sold(wanted=3, allocated=1, shown_of=5), Rule(cap=0), (2, 1)),
]


@pytest.mark.parametrize(("sold", "rule", "wanted"), CASES)
def test_a_rule_avoids_what_was_short_before_it_turns_good_sales_away(
    sold: Sold, rule: Rule, wanted: tuple[int, int]
) -> None:
    assert outcome(sold, rule) == wanted


def race(world: World) -> None:
    """The shop sells its last unit, and 4Seller, a moment behind, sells it again."""
    add_product(world.database, sku="A-1", stock_quantity=1)
    add_product(world.database, sku="A-2", stock_quantity=5)
    world.full()
    world.place(("A-2", 1))
    world.import_orders()
    run(world.database, "UPDATE products SET stock_quantity = 0 WHERE sku = 'A-1'")
    world.place(("A-1", 1))
    world.import_orders()


SIMULATED: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({"buffer": 1}, (1, 0)),
    ({"buffer": 5}, (1, 1)),
    ({"cap": 5}, (0, 0)),
]


@pytest.mark.parametrize(("values", "wanted"), SIMULATED)
def test_a_changed_rule_runs_over_the_ledgers_past(
    world: World, values: dict[str, Any], wanted: tuple[int, int]
) -> None:
    race(world)
    told = simulate(world.database, values)
    assert (told.sales, told.oversold) == (2, 1)
    assert (told.oversells_avoided, told.sales_turned_away) == wanted


def test_what_is_withheld_counts_items_that_sold_nothing(world: World) -> None:
    add_product(world.database, sku="A-1", stock_quantity=5)
    add_product(world.database, sku="A-2", stock_quantity=1)
    add_product(world.database, sku="A-3", stock_quantity=9, status="archived")
    told = simulate(world.database, {"buffer": 2})
    assert (told.sales, told.units_withheld, told.units_withheld_before) == (0, 3, 0)


def test_a_simulation_of_one_item_looks_at_that_item(world: World) -> None:
    race(world)
    told = simulate(world.database, {"buffer": 5}, sku="A-1")
    assert (told.sales, told.oversells_avoided, told.sales_turned_away) == (1, 1, 0)
    with pytest.raises(WrongInput, match="buffer is -1"):
        simulate(world.database, {"buffer": -1})
