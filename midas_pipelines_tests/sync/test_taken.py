"""A 2xx is read: what the answer shows otherwise was not taken, is tried again and shown."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from midas_pipelines.fourseller.models import Product, ProductDraft
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.sync.listings.diff import alike, not_taken
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines_tests.shop import add_image, add_product, value
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


def a_mapping(**columns: Any) -> Mapping:
    """An item's row that knows nothing but its id."""
    return Mapping(**(dict.fromkeys(Mapping.__slots__) | columns))


ANSWERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "as sent": ({"title": "Screen", "price": "10.0", "inventory": {"quantity": 5}, "status": "Active"}, None),
    "the id alone": ({}, None),
    "another title": ({"title": "SCREEN"}, None),
    "another price": ({"price": "9.00"}, "the price 9.00 for 10.00"),
    "another quantity": ({"inventory": {"quantity": 4}}, "the quantity 4 for 5"),
    "the hub's own word for active": ({"status": "Live"}, None),
    "another status": ({"status": "draft"}, "the status draft for active"),
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_what_the_answer_shows_otherwise_was_not_taken(answer: dict[str, Any], expected: str | None) -> None:
    found = not_taken(DRAFT, Product.model_validate({"id": "P1", **answer}), a_mapping())
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


# the hub's own form of our words

FORMS = ("title-case", "html-stripped", "images-rewritten", "skus-respelled")


@pytest.fixture
def reworded(world: World) -> World:
    """Three items on a hub that keeps other words and pictures than it is sent."""
    world.sandbox.habits.set(*FORMS)
    for number in range(3):
        made = add_product(
            world.database,
            sku=f"A-{number}",
            name=f"screen no {number}",
            description="<p>New &amp; <b>fine</b></p>",
        )
        add_image(world.database, made)
    assert world.calls(world.full) == {"GET": 1, "POST": 3}
    return world


def reconciled(world: World) -> Any:
    return asyncio.run(reconcile(world.sync_context(read_back_grace_seconds=0)))


def test_a_hub_that_rewords_costs_no_writes_and_shows_no_discrepancy(reworded: World) -> None:
    for _ in range(3):
        assert reworded.calls(reworded.full) == {"GET": 1}
    for _ in range(2):
        report = reconciled(reworded)
        assert (report.equal, report.discrepancies, report.pushed) == (3, 0, 0)
    assert value(reworded.database, "SELECT count(*) FROM sync_conflicts") == 0


@pytest.mark.parametrize("title", ["Bought Elsewhere", "SCREEN NO 1"])
@pytest.mark.parametrize("looked", [0, 1])
def test_a_persons_edit_there_is_found_and_set_right_once(reworded: World, looked: int, title: str) -> None:
    for _ in range(looked):
        reworded.full()
    reworded.listed["a-1"]["title"] = title
    report = reconciled(reworded)
    assert (report.discrepancies, report.differing) == (1, {"content": 1})
    assert reworded.listed["a-1"]["title"] == "Screen No 1"
    assert (reconciled(reworded).discrepancies, reworded.writes(reworded.full)) == (0, 0)


@pytest.mark.parametrize(
    "columns", [{"name": "another screen"}, {"price": Decimal("3.00")}, {"stock_quantity": 1}]
)
def test_a_change_of_the_shops_is_one_write_there_and_nobodys_edit(
    reworded: World, columns: dict[str, Any]
) -> None:
    reworded.full()
    reworded.set(1, **columns)
    assert reconciled(reworded).discrepancies == 0
    assert reworded.writes(reworded.full) + reworded.writes(reworded.full) <= 1
    assert (reworded.dirty, reconciled(reworded).discrepancies) == (0, 0)
    assert value(reworded.database, "SELECT count(*) FROM sync_conflicts") == 0


def test_an_edited_price_there_is_set_right_once(reworded: World) -> None:
    reworded.full()
    reworded.listed["a-1"]["price"] = "99.00"
    assert reconciled(reworded).differing == {"price": 1}
    assert (reconciled(reworded).discrepancies, reworded.writes(reworded.full)) == (0, 0)
    assert reworded.listed["a-1"]["price"] == "10.00"


def test_a_hub_that_rewords_only_later_is_not_taken_for_an_editor(world: World) -> None:
    add_product(world.database, sku="A-1", name="screen no 1", description="<p>Fine</p>")
    world.full()
    world.listed["A-1"].update(title="Screen No 1", description="Fine")
    assert world.calls(world.full) == {"GET": 1}
    assert reconciled(world).discrepancies == 0
    world.listed["A-1"]["title"] = "SCREEN NO 1"
    assert reconciled(world).discrepancies == 1


def test_words_that_stay_as_they_were_are_not_acknowledged(world: World) -> None:
    product = add_product(world.database, name="Screen")
    world.full()
    world.sandbox.habits.set("product-updates-ignored")
    world.set(product, name="Better")
    for _ in range(2):
        assert world.full().failed == 1
    assert "the old content" in reason(world)
    world.sandbox.habits.set()
    world.full()
    assert (world.shown, world.dirty) == (world.wanted, 0)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({"title": "SCREEN!"}, True),
        ({"title": "Screens"}, False),
        ({"sku": "a"}, True),
        ({"sku": "B"}, False),
    ],
)
def test_the_hubs_form_has_the_same_letters_and_digits(shown: dict[str, Any], expected: bool) -> None:
    product = Product.model_validate(DRAFT.model_dump() | {"id": "P1"} | shown)
    assert alike(DRAFT, product) is expected


def test_what_a_list_leaves_out_was_not_edited(reworded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub whose list shows little of a product: what it shows is judged, and nothing is written for the rest."""
    state, names = reworded.sandbox.state, ("id", "sku", "title", "price", "inventory")
    find = state.find
    monkeypatch.setattr(
        state, "find", lambda **asked: [{name: one[name] for name in names} for one in find(**asked)]
    )
    for _ in range(2):
        assert reworded.writes(reworded.full) == 0
    reworded.listed["a-1"]["title"] = "Bought Elsewhere"
    assert reconciled(reworded).differing == {"content": 1}
    assert reworded.listed["a-1"]["title"] == "Screen No 1"


def test_a_create_that_is_quarantined_as_it_is_written_is_not_counted_as_created(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        add_product(world.database)
    state = world.sandbox.state
    create = state.create
    monkeypatch.setattr(state, "create", lambda draft, key=None: {**create(draft, key), "id": "P1"})
    report = world.full()
    assert (report.created, report.quarantined) == (1, 1)
