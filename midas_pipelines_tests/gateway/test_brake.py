"""The brake in the gateway: a large change waits for a person, whoever makes it and however slowly, and sales go on."""

from __future__ import annotations

import asyncio
import time

import pytest

from midas_pipelines.store.gateway.keys import Role
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines.sync.product_sync import sync_products
from midas_pipelines.sync.push_loop import POLL_SECONDS
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import Gateway
from midas_pipelines_tests.shop import HARM, add_product, rows, run, value
from midas_pipelines_tests.sync.world import World

OPEN_ALERTS = "SELECT count(*) FROM alerts WHERE kind = 'brake' AND cleared_at IS NULL"


@pytest.fixture
def stocked(world: World, start: Start) -> Gateway:
    """A gateway, and twenty items on 4Seller, none of which it has pushed itself."""
    for number in range(20):
        add_product(world.database, sku=f"A-{number}")
    world.full()
    return start()


def held(gateway: Gateway) -> int:
    return int(
        value(
            gateway.world.database,
            "SELECT count(*) FROM fourseller_product_mappings WHERE dirty_since IS NOT NULL AND claimed_by IS NULL",
        )
    )


def alarmed(gateway: Gateway) -> bool:
    return bool(value(gateway.world.database, OPEN_ALERTS) == 1)


@pytest.mark.parametrize("what", HARM)
def test_too_much_harm_at_once_sends_nothing_and_tells_staff(stocked: Gateway, what: str) -> None:
    world, before = stocked.world, stocked.world.shown
    run(world.database, HARM[what], most=12)
    stocked.wait(lambda: alarmed(stocked) and held(stocked) == 12, "the brake")
    assert world.shown == before
    (alert,) = rows(world.database, "SELECT text FROM alerts WHERE kind = 'brake'")
    assert f"12 would be {what}" in alert.text
    assert "--plan FILE" in alert.text


def test_harm_is_weighed_whole_though_a_part_of_it_is_paced(stocked: Gateway) -> None:
    world = stocked.world
    run(world.database, "UPDATE products SET name = name || '!' WHERE id <= 6")
    stocked.settled()
    before = world.shown
    run(world.database, HARM["repriced"], most=12)  # six of them were pushed just now, and go a moment later
    stocked.wait(lambda: alarmed(stocked) and held(stocked) == 12, "the brake")
    assert world.shown == before


def test_everything_else_goes_on_meanwhile(stocked: Gateway) -> None:
    world = stocked.world
    run(world.database, HARM["zeroed"], most=12)
    stocked.wait(lambda: alarmed(stocked), "the brake")
    run(world.database, "UPDATE products SET stock_quantity = 3 WHERE sku = 'A-19'")
    stocked.wait(lambda: world.listed["A-19"]["inventory"]["quantity"] == 3, "a sale")
    assert sum(one["inventory"]["quantity"] == 0 for one in world.listed.values()) == 0


def test_harm_item_by_item_is_harm_all_the_same(stocked: Gateway) -> None:
    world = stocked.world
    for number in range(20):
        run(world.database, f"UPDATE products SET stock_quantity = 0 WHERE sku = 'A-{number}'")
        stocked.wait(lambda: alarmed(stocked) or not held(stocked), "the push")
    stocked.wait(lambda: alarmed(stocked), "the brake")
    time.sleep(0.5)
    zeroed = sum(one["inventory"]["quantity"] == 0 for one in world.listed.values())
    assert zeroed == 9  # one fewer than the brake's first step


def test_harm_that_was_sent_counts_however_often_the_item_changes_after_it(stocked: Gateway) -> None:
    world = stocked.world
    for number in range(20):
        run(world.database, f"UPDATE products SET stock_quantity = 0 WHERE sku = 'A-{number}'")
        stocked.wait(lambda: alarmed(stocked) or not held(stocked), "the push")
        run(world.database, f"UPDATE products SET name = name || '!' WHERE sku = 'A-{number}'")
        stocked.wait(lambda: alarmed(stocked) or not held(stocked), "the name")
    stocked.wait(lambda: alarmed(stocked), "the brake")
    assert sum(one["inventory"]["quantity"] == 0 for one in world.listed.values()) == 9


def test_a_second_worker_leaves_the_alert_open_while_anything_is_held(stocked: Gateway, start: Start) -> None:
    world = stocked.world
    run(world.database, HARM["zeroed"], most=12)
    stocked.wait(lambda: alarmed(stocked) and held(stocked) == 12, "the brake")
    second = start()
    run(world.database, "UPDATE products SET stock_quantity = 3 WHERE sku = 'A-19'")
    second.wait(lambda: world.listed["A-19"]["inventory"]["quantity"] == 3, "a sale")
    time.sleep(1.2 * POLL_SECONDS)  # each worker has looked
    assert value(world.database, "SELECT count(*) FROM alerts WHERE kind = 'brake'") == 1
    assert alarmed(stocked)


def test_what_a_person_agreed_to_goes_through(stocked: Gateway) -> None:
    world: World = stocked.world
    run(world.database, HARM["zeroed"], most=12)
    stocked.wait(lambda: alarmed(stocked) and held(stocked) == 12, "the brake")

    def applied() -> bool:  # an item that the gateway has claimed at this moment is left to the next plan
        context = world.sync_context()
        asyncio.run(sync_products(context, agreed=make_plan(context)))
        return sum(one["inventory"]["quantity"] == 0 for one in world.listed.values()) == 12

    stocked.wait(applied, "the plan")
    assert held(stocked) == 0


def test_what_is_taken_back_needs_nobody(stocked: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    world, before = stocked.world, stocked.world.shown
    monkeypatch.setattr("midas_pipelines.sync.push_loop.HELD_SECONDS", 1)
    prices = "UPDATE products SET price = price {} 1 WHERE id <= 12"
    run(world.database, prices.format("+"))
    stocked.wait(lambda: alarmed(stocked) and held(stocked) == 12, "the brake")
    run(world.database, prices.format("-"))
    stocked.wait(lambda: held(stocked) == 0 and not alarmed(stocked), "rest")
    assert world.shown == before


def test_a_call_that_would_harm_too_much_is_refused_with_the_way_out(start: Start) -> None:
    door = start(with_worker=False)
    skus = [f"A-{number}" for number in range(20)]
    for sku in skus:
        add_product(door.world.database, sku=sku)
    door.world.full()
    before = door.world.shown
    run(door.world.database, HARM["zeroed"], most=12)
    for path in ("sync/products", "sync/inventory"):
        answer = door.call("POST", path, door.key(Role.OPERATOR), json={"skus": skus})
        assert answer.status_code == 409
        assert "12 would be zeroed" in answer.json()["detail"]
    assert door.world.shown == before


def test_more_changed_listings_than_a_sync_may_send_at_once_wait_for_its_waves(start: Start) -> None:
    gateway = start(canary_items=5)
    world = gateway.world
    for number in range(12):
        add_product(world.database, sku=f"A-{number}")
    gateway.settled()
    before = [one["title"] for one in world.listed.values()]
    run(world.database, "UPDATE products SET name = name || '!'")
    gateway.wait(lambda: alarmed(gateway) and held(gateway) == 12, "the brake")
    run(world.database, "UPDATE products SET stock_quantity = 3 WHERE sku = 'A-7'")
    gateway.wait(lambda: world.listed["A-7"]["inventory"]["quantity"] == 3, "a sale")
    assert [one["title"] for one in world.listed.values()] == before
    asyncio.run(sync_products(world.sync_context()))
    assert [one["title"] for one in world.listed.values()] == [f"{title}!" for title in before]
    gateway.wait(lambda: not held(gateway), "rest")
