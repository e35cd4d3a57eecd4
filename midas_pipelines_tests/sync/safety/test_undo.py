"""`midas undo`: what a run wrote is put back where 4Seller still shows it; the rest is listed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.sandbox.state import Json
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines.sync.product_sync import Mode, sync_products
from midas_pipelines.sync.reconcile.conflicts import release_pin
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.safety.undo import UndoReport, undo_run
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.world import World

RUN = "run-under-test"


def sync(world: World, run_id: str = RUN, mode: Mode = Mode.INCREMENTAL) -> None:
    asyncio.run(sync_products(replace(world.sync_context(), run_id=run_id), mode))


def undo(world: World, name: str = RUN) -> UndoReport:
    return asyncio.run(undo_run(world.sync_context(), name))


@pytest.fixture
def listed(world: World) -> World:
    """Three items on 4Seller at 10.00."""
    for number in (1, 2, 3):
        add_product(world.database, sku=f"S{number}", name=f"Part {number}")
    sync(world, "the first run", Mode.FULL)
    return world


@pytest.mark.both_databases
def test_price_and_content_come_back_and_stay(listed: World) -> None:
    before = listed.shown
    listed.set(1, price=Decimal("99.00"), stock_quantity=3)
    listed.set(2, name="Renamed by mistake")
    sync(listed)
    assert listed.shown != before
    report = undo(listed)
    assert (report.put_back, [row["field"] for row in report.left]) == (2, ["quantity"])
    title, _, _ = before["S1"]
    assert listed.shown == before | {"S1": (title, Decimal("10.00"), 3)}
    sync(listed, "the next run")
    sync(listed, "a full run", Mode.FULL)
    assert listed.shown["S1"] == (title, Decimal("10.00"), 3)
    assert listed.shown["S2"] == before["S2"]
    with pytest.raises(WrongInput, match="all of it is undone"):
        undo(listed)


def test_what_was_changed_since_is_left(listed: World) -> None:
    listed.set(1, price=Decimal("99.00"), name="Renamed")
    sync(listed)
    (key,) = [one["id"] for one in listed.listed.values() if one["sku"] == "S1"]
    listed.sandbox.state.products[key]["price"] = "55.00"
    report = undo(listed)
    assert [(row["sku"], row["field"]) for row in report.left] == [("S1", "price")]
    assert listed.shown["S1"] == ("Part 1", Decimal("55.00"), 5)


def test_a_listing_that_the_run_made_is_removed_and_one_it_removed_is_made_again(listed: World) -> None:
    before = listed.shown["S3"]
    add_product(listed.database, sku="NEW-1")
    listed.set(3, status="archived")
    sync(listed)
    assert set(listed.shown) == {"S1", "S2", "NEW-1"}
    report = undo(listed)
    assert (report.removed, report.put_back, report.left) == (1, 1, [])
    sync(listed, "the next run", Mode.FULL)
    assert asyncio.run(reconcile(listed.sync_context())).discrepancies == 0
    assert set(listed.shown) == {"S1", "S2", "S3"}
    assert listed.shown["S3"] == (*before[:2], 0)  # the shop sells none
    assert not listed.dirty
    listed.set(3, status="active", stock_quantity=4)
    sync(listed, "on sale again")
    asyncio.run(reconcile(listed.sync_context()))
    assert listed.shown["S3"] == (*before[:2], 4)
    listed.set(3, status="archived")
    sync(listed, "archived for good")
    assert set(listed.shown) == {"S1", "S2"}


def test_a_removed_listing_that_somebody_made_again_is_left(listed: World) -> None:
    listed.set(3, status="archived")
    sync(listed)
    listed.sandbox.state.create({"sku": "S3", "title": "Theirs", "price": "1.00"}, None)
    assert [row["reason"] for row in undo(listed).left] == ["4Seller lists its SKU again already."]


def test_an_adopted_listing_comes_back_as_it_was(world: World) -> None:
    theirs = {
        "sku": "S1",
        "title": "Their title",
        "price": "7.00",
        "inventory": {"quantity": 2},
        "brand": "Theirs",
    }
    world.sandbox.state.create(theirs, None)
    add_product(world.database, sku="S1", name="Our title")
    sync(world, mode=Mode.FULL)
    assert world.shown["S1"][0] == "Our title"
    undo(world)
    assert (world.listed["S1"]["brand"], world.shown["S1"]) == ("Theirs", ("Their title", Decimal("7.00"), 2))


def test_two_runs_are_undone_one_by_one_and_an_unknown_one_is_refused(listed: World) -> None:
    for number, price in enumerate(("20.00", "30.00")):
        listed.set(1, price=Decimal(price))
        sync(listed, f"run-number-{number}")
    undo(listed, "run-number-1")
    assert listed.shown["S1"][1] == Decimal("20.00")
    run(listed.database, "UPDATE fourseller_product_mappings SET pinned_fields = NULL")
    for name in ("run-nowhere", "short"):
        with pytest.raises(WrongInput):
            undo(listed, name)


def test_an_applied_plan_is_undone_by_its_hash(listed: World) -> None:
    listed.set(1, price=Decimal("20.00"))
    plan = make_plan(listed.sync_context())
    context = replace(listed.sync_context(), run_id="applied-by-a-person")
    asyncio.run(sync_products(context, agreed=plan))
    assert undo(listed, plan.hash).put_back == 1
    assert listed.shown["S1"][1] == Decimal("10.00")


def test_what_the_shop_changes_meanwhile_is_pushed_once_released(
    listed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed.set(1, price=Decimal("99.00"))
    listed.set(2, price=Decimal("99.00"))
    sync(listed)
    state = listed.sandbox.state
    replace_product = state.replace

    def meanwhile(key: str, draft: Json) -> Json:
        listed.set(1, price=Decimal("11.00"), stock_quantity=2)
        return replace_product(key, draft)

    monkeypatch.setattr(state, "replace", meanwhile)
    assert undo(listed).put_back == 2
    monkeypatch.undo()
    sync(listed, "the next run")
    assert (listed.shown["S1"][1:], listed.shown["S2"][1:]) == ((Decimal("10.00"), 2), (Decimal("10.00"), 5))
    release_pin(listed.sync_context(), 1, None)
    sync(listed, "released")
    assert listed.shown["S1"][1:] == (Decimal("11.00"), 2)
