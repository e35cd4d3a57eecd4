"""The brake and the plan: nothing is sent that a person should see first, and what was agreed to is sent as it was."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.sync.listings.scan import ApprovedPlan, make_plan, read_plan
from midas_pipelines.sync.product_sync import sync_products
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines_tests.shop import HARM, add_product, run, value
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def twenty(world: World) -> World:
    """Twenty items, all on 4Seller."""
    for number in range(20):
        add_product(world.database, sku=f"A-{number}")
    world.full()
    return world


def harm(world: World, what: str, items: int) -> None:
    run(world.database, HARM[what], most=items)


@pytest.mark.parametrize("what", HARM)
def test_too_much_harm_waits_and_the_rest_is_sent(twenty: World, what: str) -> None:
    harm(twenty, what, 10)
    run(twenty.database, "UPDATE products SET stock_quantity = 3 WHERE sku = 'A-19'")
    before = twenty.shown
    for sync in (twenty.incremental, twenty.full):
        report = sync()
        assert f"10 would be {what}" in str(report.stopped)
        assert (report.held, len(report.held_items), report.failed) == (10, 10, 0)
    changed = {sku for sku, seen in twenty.shown.items() if seen != before[sku]}
    assert (changed, twenty.dirty) == ({"A-19"}, 10)
    assert value(twenty.database, "SELECT count(*) FROM alerts WHERE kind = 'brake'") == 1


def test_of_a_held_price_the_quantity_goes_on_being_true(twenty: World) -> None:
    harm(twenty, "repriced", 12)
    run(twenty.database, "UPDATE products SET stock_quantity = 0 WHERE sku = 'A-1'")
    before = twenty.shown["A-1"]
    twenty.incremental()
    assert twenty.shown["A-1"] == (*before[:2], 0)


def test_the_brake_ends_with_its_cause(twenty: World) -> None:
    harm(twenty, "zeroed", 12)
    assert twenty.inventory().held == 12
    run(twenty.database, "UPDATE products SET stock_quantity = 5 WHERE id <= 12")
    assert twenty.inventory().stopped is None
    assert value(twenty.database, "SELECT count(*) FROM alerts WHERE cleared_at IS NULL") == 0


@pytest.mark.parametrize("what", HARM)
def test_less_than_ten_items_never_stop(twenty: World, what: str) -> None:
    harm(twenty, what, 9)
    twenty.incremental()
    assert twenty.shown == twenty.wanted


def test_a_share_below_the_limit_never_stops(twenty: World) -> None:
    twenty.changes |= {"brake_percent": 50}
    harm(twenty, "zeroed", 10)
    twenty.incremental()
    assert twenty.shown == twenty.wanted


def test_an_inventory_push_holds_too_and_does_not_mind_what_it_would_not_send(twenty: World) -> None:
    harm(twenty, "removed", 12)
    assert twenty.inventory().held == 0
    harm(twenty, "zeroed", 20)
    run(twenty.database, "UPDATE products SET status = 'active'")
    assert twenty.inventory().held == 20


def test_what_somebody_zeroed_on_4seller_is_healed_without_a_person(twenty: World) -> None:
    for product in twenty.listed.values():
        product["inventory"]["quantity"] = 0
    asyncio.run(reconcile(twenty.sync_context(read_back_grace_seconds=0)))
    assert twenty.shown == twenty.wanted


def apply(world: World, plan: ApprovedPlan) -> int:
    report = asyncio.run(sync_products(world.sync_context(), agreed=plan))
    return report.updated + report.deleted + report.created


@pytest.mark.parametrize("what", HARM)
def test_a_plan_that_a_person_agreed_to_goes_through(twenty: World, what: str, tmp_path: Path) -> None:
    harm(twenty, what, 15)
    make_plan(twenty.sync_context(), dirty_only=True).write(tmp_path / "plan.json")
    assert apply(twenty, read_plan(tmp_path / "plan.json")) == 15
    assert twenty.shown == twenty.wanted


def test_a_plan_is_refused_when_the_world_has_moved_under_it(twenty: World) -> None:
    harm(twenty, "zeroed", 15)
    plan = make_plan(twenty.sync_context(), dirty_only=True)
    run(twenty.database, "UPDATE products SET stock_quantity = 1 WHERE sku = 'A-3'")
    with pytest.raises(WrongInput, match="is out of date: A-3 have changed"):
        apply(twenty, plan)
    assert twenty.shown["A-0"][2] == 5


def test_a_plan_sends_its_own_steps_and_no_other(twenty: World) -> None:
    harm(twenty, "repriced", 2)
    plan = make_plan(twenty.sync_context(), dirty_only=True)
    run(twenty.database, "UPDATE products SET stock_quantity = 1 WHERE sku = 'A-9'")
    assert apply(twenty, plan) == 2
    assert (twenty.shown["A-9"][2], twenty.dirty) == (5, 1)


def test_a_plan_that_was_edited_is_refused(twenty: World, tmp_path: Path) -> None:
    harm(twenty, "zeroed", 15)
    path = tmp_path / "plan.json"
    make_plan(twenty.sync_context(), dirty_only=True).write(path)
    whole = json.loads(path.read_text())
    whole["steps"][0]["quantity"] = 99
    path.write_text(json.dumps(whole))
    with pytest.raises(WrongInput, match="changed after it was written"):
        read_plan(path)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"hash": 1}', "[1, 2]", '{"made_at": "x", "hash": "y", "steps": [{"a": 1}]}']
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(WrongInput):
        read_plan(path)
