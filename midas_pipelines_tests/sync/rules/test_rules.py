"""Channel rules: the arithmetic, who wins, what they touch, and what 4Seller shows because of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.store.stock.rule_changes import list_rules, rules_history, said_by
from midas_pipelines.store.stock.rules import Rule, available, channel_price, mark_rules_due, merge
from midas_pipelines.sync.explain import explain_item
from midas_pipelines.sync.rules.edit import (
    arithmetic,
    clear_rule,
    set_rule,
    sound,
)
from midas_pipelines_tests.shop import add_category, add_product, add_variant, run, shift_rules, value
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.threads import at_once

ARITHMETIC = [
    (10, Rule(), 10),
    (-3, Rule(), 0),
    (10, Rule(buffer=2), 8),
    (1, Rule(buffer=2), 0),
    (10, Rule(allocation=50), 5),
    (9, Rule(allocation=50), 4),
    (9, Rule(allocation=0), 0),
    (10, Rule(cap=3), 3),
    (10, Rule(buffer=1, allocation=50, cap=3), 3),
    (5, Rule(buffer=1, allocation=50, cap=3), 2),
    (0, Rule(fixed=7), 7),
    (10, Rule(exclude=True, fixed=7), 0),
    (2**31 - 1, Rule(allocation=99), (2**31 - 1) * 99 // 100),
]


@pytest.mark.parametrize(("on_hand", "rule", "shown"), ARITHMETIC)
def test_available_is_the_least_of_cap_and_the_share_of_what_the_buffer_leaves(
    on_hand: int, rule: Rule, shown: int
) -> None:
    assert available(on_hand, rule) == shown
    assert arithmetic(on_hand, rule)[-1] == f"available = {shown}"


def test_a_minimum_price_raises_and_never_lowers() -> None:
    rule = Rule(minimum_price=Decimal("9.00"))
    assert channel_price(Decimal("8.00"), rule) == Decimal("9.00")
    assert channel_price(Decimal("12.00"), rule) == Decimal("12.00")


def test_rules_merge_field_by_field_and_the_most_specific_value_wins() -> None:
    channel = {"channel": "fourseller", "buffer": 1, "cap": 50, "policy": "manual"}
    category = {"category_id": 1, "category": "screens", "buffer": 2, "price_policy": "source_wins"}
    item = {"product_id": 9, "cap": 5}
    rule = merge([channel, category, item])
    assert (rule.buffer, rule.cap) == (2, 5)
    assert (rule.policy("price"), rule.policy("quantity")) == ("source_wins", "manual")
    assert rule.origins["buffer"] == "the rule of category screens"


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "says nothing"),
    ({"buffer": -1}, "buffer is -1"),
    ({"cap": 2**40}, "whole number"),
    ({"allocation": 101}, "101 %"),
    ({"fixed": 1, "cap": 2}, "takes the place of cap"),
    ({"minimum_price": Decimal("0")}, "above 0"),
    ({"minimum_price": Decimal("NaN")}, "above 0"),
    ({"policy": "coin_toss"}, "source_wins"),
]


@pytest.mark.parametrize(("values", "words"), BAD)
def test_a_bad_rule_is_refused_with_a_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongInput, match=words) as refused:
        sound(values)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    "scope",
    [{"sku": "NO-SUCH"}, {"category": "no-such"}, {"sku": "A", "category": "b"}],
)
def test_a_rule_about_nothing_in_the_shop_is_refused(shop: Database, scope: dict[str, str]) -> None:
    with pytest.raises(WrongInput):
        set_rule(shop, {"buffer": 1}, **scope)  # type: ignore[arg-type]


def clean(shop: Database) -> None:
    run(shop, "UPDATE fourseller_product_mappings SET dirty_since = NULL")


def dirty(shop: Database) -> int:
    found: int = value(shop, "SELECT count(*) FROM fourseller_product_mappings WHERE dirty_since IS NOT NULL")
    return found


@pytest.mark.both_databases
def test_a_changed_rule_marks_the_items_it_touches_and_only_those(shop: Database) -> None:
    above = add_category(shop, "Parts")
    below = add_category(shop, "Screens")
    run(shop, "UPDATE categories SET parent_id = :above WHERE id = :below", above=above, below=below)
    slug = value(shop, "SELECT slug FROM categories WHERE id = :id", id=above)
    one, _ = add_product(shop, sku="ONE", category_id=below), add_product(shop, sku="TWO")
    parent = add_product(shop, sku="PARENT", category_id=above)
    add_variant(shop, parent, sku="V-1")
    add_variant(shop, parent, sku="V-2")
    for scope, touched in (({"sku": "ONE"}, 1), ({"sku": "V-1"}, 1), ({"category": slug}, 4), ({}, 5)):
        clean(shop)
        assert set_rule(shop, {"buffer": 1}, **scope) == touched == dirty(shop)  # type: ignore[arg-type]
    clean(shop)
    assert clear_rule(shop, sku="V-1") == 1
    assert dirty(shop) == 1
    assert one


@pytest.mark.both_databases
def test_a_rule_begins_and_ends_by_itself(world: World) -> None:
    add_product(world.database, sku="A-1", stock_quantity=10)
    world.full()
    now = datetime.now(UTC)
    set_rule(
        world.database,
        {"cap": 3},
        sku="A-1",
        valid_from=now + timedelta(seconds=1),
        valid_until=now + timedelta(hours=1),
    )
    world.incremental()
    assert world.shown["A-1"][2] == 10
    shift_rules(world.database, seconds=-5)
    world.incremental()
    assert world.shown["A-1"][2] == 3
    shift_rules(world.database, seconds=-7200)
    world.incremental()
    assert world.shown["A-1"][2] == 10


def test_another_field_leaves_the_rule_its_end(world: World) -> None:
    add_product(world.database, sku="A-1", stock_quantity=10)
    set_rule(world.database, {"cap": 1}, sku="A-1", valid_until=datetime.now(UTC) + timedelta(hours=1))
    set_rule(world.database, {"buffer": 2}, sku="A-1")
    assert explain_item(world.database, "A-1")["available"] == 1
    shift_rules(world.database, seconds=-7200)
    assert explain_item(world.database, "A-1")["available"] == 10


@pytest.mark.both_databases
def test_fields_that_several_people_set_at_once_are_one_rule(shop: Database) -> None:
    add_product(shop, sku="A-1", stock_quantity=10)
    set_rule(shop, {"low_stock": 1}, sku="A-1")
    fields = ({"buffer": 2}, {"cap": 5}, {"allocation": 50}, {"cover_days": 9})
    at_once([partial(set_rule, shop, one, sku="A-1", by="ann") for one in fields])
    with shop.reading() as connection:
        (rule,), history = list_rules(connection), rules_history(connection, None)
    assert said_by(rule) == {"low_stock": 1, "buffer": 2, "cap": 5, "allocation": 50, "cover_days": 9}
    assert [len(said_by(row)) for row in history] == [5, 4, 3, 2, 1]


def test_nothing_of_a_rule_that_has_ended_comes_back_with_a_new_one(world: World) -> None:
    add_product(world.database, sku="A-1", stock_quantity=10)
    set_rule(world.database, {"cap": 1}, sku="A-1", valid_until=datetime.now(UTC) + timedelta(hours=1))
    shift_rules(world.database, seconds=-7200)
    set_rule(world.database, {"buffer": 2}, sku="A-1")
    assert explain_item(world.database, "A-1")["available"] == 8


def test_4seller_shows_what_the_rules_leave(world: World) -> None:
    category = add_category(world.database)
    slug = value(world.database, "SELECT slug FROM categories WHERE id = :id", id=category)
    add_product(world.database, sku="A-1", stock_quantity=10, category_id=category)
    add_product(world.database, sku="A-2", stock_quantity=10)
    world.full()
    set_rule(world.database, {"buffer": 2})
    set_rule(world.database, {"allocation": 50}, category=slug)
    set_rule(world.database, {"cap": 3}, sku="A-1")
    world.inventory()
    assert (world.shown["A-1"][2], world.shown["A-2"][2]) == (3, 8)
    clear_rule(world.database, sku="A-1")
    world.inventory()
    assert world.shown["A-1"][2] == 4
    assert world.dirty == 0


def test_nothing_left_by_the_rules_is_shown_as_out_of_stock_and_comes_back_on_the_same_product(
    world: World,
) -> None:
    product = add_product(world.database, sku="A-1", stock_quantity=2)
    world.full()
    first = world.mapping(product).fourseller_product_id
    set_rule(world.database, {"buffer": 2}, sku="A-1")
    world.incremental()
    assert world.shown["A-1"][2] == 0
    world.set(product, stock_quantity=9)
    world.incremental()
    assert world.shown["A-1"][2] == 7
    assert world.mapping(product).fourseller_product_id == first


def test_an_excluded_item_leaves_4seller_and_returns_when_it_is_included(world: World) -> None:
    product = add_product(world.database, sku="A-1")
    add_product(world.database, sku="A-2")
    world.full()
    set_rule(world.database, {"exclude": True})
    set_rule(world.database, {"exclude": False}, sku="A-2")
    world.incremental()
    assert set(world.listed) == {"A-2"}
    assert "rule" in world.mapping(product).reason
    assert world.calls(world.full) == {"GET": 1}
    clear_rule(world.database)
    world.incremental()
    assert set(world.listed) == {"A-1", "A-2"}


def test_a_minimum_price_is_what_4seller_shows(world: World) -> None:
    add_product(world.database, sku="A-1", price=Decimal("5.00"))
    set_rule(world.database, {"minimum_price": Decimal("7.50")}, sku="A-1")
    world.full()
    assert world.shown["A-1"][1] == Decimal("7.50")
    assert world.calls(world.full) == {"GET": 1}


def test_explain_prints_the_arithmetic_with_the_rule_behind_each_step(shop: Database) -> None:
    add_product(shop, sku="A-1", stock_quantity=9)
    set_rule(shop, {"buffer": 2})
    set_rule(shop, {"allocation": 50, "minimum_price": Decimal("20")}, sku="A-1")
    told = explain_item(shop, "A-1")
    assert told["arithmetic"] == [
        "on hand = 9",
        "- buffer 2 = 7: the rule of channel fourseller",
        "x allocation 50 %, rounded down = 3: this item's rule",
        "available = 3",
        "price = 20.00 USD: minimum 20.00, raised from 10.00: this item's rule",
    ]


@pytest.mark.both_databases
def test_a_rule_set_while_the_shop_holds_the_row_reaches_the_item(shop: Database) -> None:
    add_product(shop, sku="A-1")
    add_product(shop, sku="A-2")
    clean(shop)
    if not shop.is_postgresql:
        return
    with shop.writing() as holder:
        holder.exec_driver_sql(
            "SELECT 1 FROM fourseller_product_mappings WHERE sku IS NULL LIMIT 1 FOR UPDATE"
        )
        set_rule(shop, {"buffer": 1})
    assert mark_rules_due(shop) > 0
    assert dirty(shop) == 2
