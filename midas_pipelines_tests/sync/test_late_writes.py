"""A write that got no answer and is applied late, after a newer one: the shop wins in the end, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.models import InventoryLevel
from midas_pipelines.store.items.claims import Heartbeat
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.listings.send import send
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def item(world: World) -> int:
    """A listed product with 90 in stock."""
    product = add_product(world.database, sku="LATE", stock_quantity=90)
    world.full()
    return product


def wait_out(world: World) -> None:
    """Lets the time pass in which a late write may arrive."""
    due = "UPDATE fourseller_product_mappings SET recheck_at = '2000-01-01 00:00:00' WHERE recheck_at IS NOT NULL"
    run(world.database, due)


@pytest.mark.parametrize("attempts", [1, 3])  # of one call, or all of a run's
def test_a_quantity_that_arrives_late_is_pushed_over(world: World, item: int, attempts: int) -> None:
    world.set(item, stock_quantity=80)
    world.sandbox.faults.script(["reset-before"] * attempts)
    world.inventory()
    world.set(item, stock_quantity=7)
    world.incremental()
    world.sandbox.state.set_quantity(world.mapping(item).fourseller_product_id, 80)
    world.incremental()  # too early: it may not have arrived yet
    wait_out(world)
    world.incremental()
    assert world.shown == world.wanted
    assert (world.mapping(item).recheck_at, world.dirty) == (None, 0)


def test_content_that_arrives_late_is_pushed_over(world: World, item: int) -> None:
    before = world.sandbox.state.product(world.mapping(item).fourseller_product_id)
    old = {name: part for name, part in before.items() if name not in ("id", "created_at", "updated_at")}
    world.set(item, name="Second name")
    world.sandbox.faults.script(["reset-before"])
    world.incremental()
    world.sandbox.state.replace(before["id"], old)
    wait_out(world)
    world.incremental()
    assert world.shown == world.wanted


def test_a_delete_that_arrives_late_is_made_good(world: World, item: int) -> None:
    world.set(item, status="archived")
    world.sandbox.faults.script(["reset-before"] * 3)
    world.incremental()
    world.set(item, status="active")
    world.incremental()
    world.sandbox.state.remove(world.mapping(item).fourseller_product_id)
    wait_out(world)
    world.incremental()
    world.incremental()
    assert world.shown == world.wanted


@pytest.mark.parametrize("change", [{}, {"stock_quantity": 3}, {"name": "Another name"}])
def test_a_create_that_arrives_late_leaves_one_product(world: World, change: dict[str, Any]) -> None:
    item = add_product(world.database, sku="TWICE")
    world.sandbox.state.honour_idempotency_key = False
    world.sandbox.faults.script([None, "reset-before"])  # the listing, then the create
    world.full()
    first = world.listed["TWICE"]
    if change:
        world.set(item, **change)
        world.incremental()
    late = {name: part for name, part in first.items() if name not in ("id", "created_at", "updated_at")}
    world.sandbox.state.create(late)
    wait_out(world)
    world.incremental()
    assert world.shown == world.wanted
    assert world.mapping(item).creating_since is None


def test_a_product_of_the_same_sku_that_is_not_ours_is_left_alone(world: World) -> None:
    add_product(world.database, sku="TWICE")
    world.sandbox.faults.script([None, "reset-before"])
    world.full()
    world.sandbox.state.create({"sku": "TWICE", "title": "Somebody's", "price": "5.00"})
    wait_out(world)
    world.incremental()
    assert len(world.sandbox.state.products) == 2


def test_a_worker_whose_lease_may_be_over_sends_nothing(
    world: World, item: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.set(item, stock_quantity=7)
    monkeypatch.setattr(Heartbeat, "held", False)
    assert world.writes(world.incremental) == 0
    assert world.mapping(item).attempts == 0
    monkeypatch.undo()
    world.incremental()
    assert world.shown == world.wanted


def test_a_quantity_is_sent_with_the_moment_it_was_read(world: World, item: int) -> None:
    world.set(item, stock_quantity=7)
    context = world.sync_context()
    (change,) = Push(context, cast("FourSeller", None)).claim_batch()
    assert change.read_at is not None
    assert abs(change.read_at - datetime.now(UTC)) < timedelta(minutes=1)
    earlier = replace(change, read_at=change.read_at - timedelta(hours=1))
    sent: list[datetime] = []

    async def set_quantity(product_id: str, quantity: int, at: datetime) -> InventoryLevel:
        sent.append(at)
        return InventoryLevel(product_id=product_id, quantity=quantity)

    client = cast("FourSeller", SimpleNamespace(set_quantity=set_quantity))
    asyncio.run(send(earlier, client, context, None))
    assert sent == [earlier.read_at]


@pytest.mark.both_databases
@pytest.mark.parametrize(
    "lose", ["UPDATE midas_workers SET alive_until = '2000-01-01 00:00:00'", "DELETE FROM midas_workers"]
)
def test_a_write_of_a_lost_claim_that_lands_last_is_pushed_over(world: World, item: int, lose: str) -> None:
    world.set(item, stock_quantity=80)
    frozen = Push(world.sync_context(), cast("FourSeller", None))
    (old,) = frozen.claim_batch()
    run(world.database, lose)
    world.set(item, stock_quantity=7)
    world.incremental()

    async def wake() -> None:
        async with frozen.context.channel() as client:
            frozen.acknowledge([await send(old, client, frozen.context, None)])

    asyncio.run(wake())
    assert world.shown["LATE"][2] == 80
    world.incremental()
    assert world.shown == world.wanted
    assert world.mapping(item).acked_version == world.mapping(item).version
