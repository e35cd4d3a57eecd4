"""A 2xx is read: what the answer shows otherwise was not taken, is tried again and shown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from midas_pipelines.fourseller.models import Product, ProductDraft
from midas_pipelines.sync.taken import not_taken
from midas_pipelines_tests.shop import add_product, value
from midas_pipelines_tests.sync.world import World

DRAFT = ProductDraft.model_validate(
    {
        "title": "Screen",
        "sku": "A",
        "price": Decimal("10.00"),
        "status": "active",
        "inventory": {"quantity": 5},
    }
)

ANSWERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "as sent": ({"title": "Screen", "price": "10.0", "inventory": {"quantity": 5}, "status": "Active"}, None),
    "the id alone": ({}, None),
    "another title": ({"title": "SCREEN"}, None),
    "another price": ({"price": "9.00"}, "the price 9.00 for 10.00"),
    "another quantity": ({"inventory": {"quantity": 4}}, "the quantity 4 for 5"),
    "another status": ({"status": "draft"}, "the status draft for active"),
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_what_the_answer_shows_otherwise_was_not_taken(answer: dict[str, Any], expected: str | None) -> None:
    found = not_taken(DRAFT, Product.model_validate({"id": "P1", **answer}))
    assert found is None if expected is None else expected in (found or "")


def reason(world: World) -> str:
    found: str = value(world.database, "SELECT reason FROM fourseller_product_mappings")
    return found


WRITES = {
    "stock-ignored": ({"stock_quantity": 2}, "the quantity 5 for 2"),
    "product-updates-ignored": ({"price": Decimal("8.00")}, "the price 10.00 for 8.00"),
}


@pytest.mark.parametrize(("habit", "change", "words"), [(h, *w) for h, w in WRITES.items()], ids=WRITES)
def test_a_write_without_effect_is_not_acknowledged_and_tried_again(
    world: World, habit: str, change: dict[str, Any], words: str
) -> None:
    product = add_product(world.database)
    world.full()
    world.sandbox.habits.set(habit)
    world.set(product, **change)
    assert (world.incremental().failed, world.dirty) == (1, 1)
    assert words in reason(world)
    world.sandbox.habits.set()
    world.full()
    assert (world.shown, world.dirty) == (world.wanted, 0)


def test_a_create_that_was_taken_in_part_is_no_second_product(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_product(world.database)
    state = world.sandbox.state
    create = state.create
    monkeypatch.setattr(
        state, "create", lambda draft, key=None: create({**draft, "inventory": {"quantity": 1}}, key)
    )
    assert world.full().failed == 1
    world.full()
    assert (world.shown, world.dirty) == (world.wanted, 0)


def test_a_deletion_without_effect_leaves_nothing_for_sale_and_is_tried_again(world: World) -> None:
    product = add_product(world.database)
    world.full()
    world.sandbox.habits.set("deletes-ignored")
    world.set(product, status="archived")
    for _ in range(2):
        world.incremental()
    (left,) = world.sandbox.state.products.values()
    assert (left["inventory"]["quantity"], world.dirty) == (0, 1)
    assert "after its deletion" in reason(world)
    world.sandbox.habits.set()
    world.full()
    assert (world.sandbox.state.products, world.dirty) == ({}, 0)
