"""Telling 4Seller of many orders: one that cannot be told holds up no other, and is not asked for over and over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from midas_pipelines_tests.shop import value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

UNREADABLE = "see the label"
Trouble = Callable[[World, list[str]], AbstractContextManager[None]]


def answers(status: int) -> Trouble:
    """4Seller answers with this status whatever it is told of these orders."""

    @contextmanager
    def trouble(world: World, orders: list[str]) -> Iterator[None]:
        for order_id in orders:
            desk.shop_sets(world, order_id, "processing")
        with desk.refused(world, status, orders=orders):
            yield

    return trouble


def unreadable(world: World, orders: list[str]) -> AbstractContextManager[None]:
    for order_id in orders:
        desk.shop_packs(world, order_id, UNREADABLE)
    return nullcontext()


def unknown_carrier(world: World, orders: list[str]) -> AbstractContextManager[None]:
    for order_id in orders:
        desk.shop_packs(world, order_id, "X-1", "Pigeon")
    return desk.refused(world, 422, carrier="Pigeon")


def cancelled_with_a_parcel(world: World, orders: list[str]) -> AbstractContextManager[None]:
    for order_id in orders:
        desk.pack(world, order_id)
        desk.shop_sets(world, order_id, "cancelled")
    return nullcontext()


def settled_as_cancelled(world: World, orders: list[str]) -> AbstractContextManager[None]:
    for order_id in orders:
        desk.pack(world, order_id)
        desk.market(world, order_id, "cancelled")
    desk.sync(world)
    for order_id in orders:
        desk.settle(world, order_id, "cancelled", restock=True)
    return nullcontext()


TROUBLES: dict[str, Trouble] = {
    "4Seller answers 500": answers(500),
    "4Seller answers 409": answers(409),
    "4Seller answers 422": answers(422),
    "unreadable numbers": unreadable,
    "a carrier that 4Seller does not know": unknown_carrier,
    "cancelled with a parcel": cancelled_with_a_parcel,
    "settled as cancelled": settled_as_cancelled,
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_a_later_order_is_told_in_the_same_run(world: World, trouble: Trouble) -> None:
    world.sync_context(status_batch=2)
    orders = [desk.sold(world, **{f"A{place}": 1}) for place in range(3)]
    with trouble(world, orders[:2]):
        desk.pack(world, orders[2])
        desk.sync(world)
        assert desk.at_4seller(world, orders[2]) == ("shipped", desk.UPS)
        desk.sync(world)
    assert desk.steps(world, orders[2]).count("tracking_pushed") == 1


@pytest.mark.both_databases
def test_an_order_that_fails_again_and_again_waits_longer_each_time(world: World) -> None:
    order_id = desk.sold(world, A=1)
    desk.shop_sets(world, order_id, "processing")
    waited = []
    seconds = "(julianday(push_after) - julianday('now')) * 86400"
    if world.database.is_postgresql:
        seconds = "extract(epoch FROM push_after - now())"
    with desk.refused(world, 500, orders=[order_id]):
        for _ in range(4):
            assert desk.tell(world).failed == 1
            waited.append(float(value(world.database, f"SELECT {seconds} FROM marketplace_orders")))
            desk.a_day_later(world)
        desk.tell(world)
        assert world.writes(lambda: desk.tell(world)) == 0  # it is not due
    assert waited[0] < 1
    assert waited == sorted(waited)
    assert waited[3] > 2 * waited[1] > 0
    desk.a_day_later(world)
    assert desk.tell(world).pushed == 1
    assert desk.order(world, order_id).push_attempts == 0


def test_one_orders_failures_delay_no_other(world: World) -> None:
    failing, fine = (desk.sold(world, **{sku: 1}) for sku in "AB")
    desk.shop_sets(world, failing, "processing")
    with desk.refused(world, 500, orders=[failing]):
        for _ in range(3):
            desk.tell(world)
        desk.pack(world, fine)
        assert (desk.tell(world).pushed, desk.at_4seller(world, fine)[0]) == (1, "shipped")


def test_retry_makes_an_order_due_at_once(world: World) -> None:
    order_id = desk.sold(world, A=1)
    desk.pack(world, order_id)
    with desk.refused(world, 500, orders=[order_id]):
        for _ in range(3):
            desk.tell(world)
    assert desk.tell(world).scanned == 0
    desk.retry(world, order_id)
    assert desk.tell(world).pushed == 1
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert desk.order(world, order_id).push_attempts == 0


@pytest.mark.parametrize("status", [409, 422])
def test_retry_tells_a_refused_status_again(world: World, status: int) -> None:
    order_id = desk.sold(world, A=1)
    desk.shop_sets(world, order_id, "shipped")
    with desk.refused(world, status, orders=[order_id]):
        desk.sync(world)
    assert desk.sync(world).scanned == 0
    desk.retry(world, order_id)
    assert desk.sync(world).pushed == 1
    assert desk.at_4seller(world, order_id)[0] == "shipped"
    assert desk.order(world, order_id).exception is None


def test_retry_tells_a_refused_parcel_again(world: World) -> None:
    order_id = desk.sold(world, A=1)
    desk.shop_packs(world, order_id, "X-1", "Pigeon")
    with desk.refused(world, 422, carrier="Pigeon"):
        desk.sync(world)
        desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", None)
    desk.retry(world, order_id)
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", "X-1")
    assert desk.order(world, order_id).exception is None


@pytest.mark.parametrize("fails_at", [0, 1])
def test_an_order_that_failed_midway_is_never_shipped_without_its_number(world: World, fails_at: int) -> None:
    order_id = desk.sold(world, A=1)
    desk.pack(world, order_id)
    world.sandbox.faults.script([*[None] * fails_at, *["reset-before"] * 3])
    assert desk.tell(world).failed == 1
    assert desk.at_4seller(world, order_id) == (["pending", "processing"][fails_at], None)
    desk.a_day_later(world)
    assert (desk.tell(world).pushed, desk.at_4seller(world, order_id)) == (1, ("shipped", desk.UPS))
