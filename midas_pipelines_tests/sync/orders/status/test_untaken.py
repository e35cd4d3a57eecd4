"""A 2xx is read: what 4Seller's answer does not show was not taken, and is pushed again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from midas_pipelines.fourseller.models import Order, Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.sync.orders.status.outbound import ShipmentToPush, StatusUpdate, shown
from midas_pipelines.sync.orders.status.status_sync import change_status
from midas_pipelines_tests.shop import rows, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

PENDING, PROCESSING, SHIPPED = OrderStatus.PENDING, OrderStatus.PROCESSING, OrderStatus.SHIPPED
PARCEL = ShipmentToPush(1, Tracking(carrier="X", number="AB-1"))

ANSWERS: list[tuple[StatusUpdate, dict[str, Any], StatusUpdate]] = [
    (StatusUpdate(SHIPPED), {"status": "shipped"}, StatusUpdate(SHIPPED)),
    (StatusUpdate(SHIPPED), {"status": "delivered"}, StatusUpdate(SHIPPED)),
    (StatusUpdate(SHIPPED), {"status": "processing"}, StatusUpdate(PENDING)),
    (StatusUpdate(SHIPPED), {"status": "in transit"}, StatusUpdate(PENDING)),
    (StatusUpdate(SHIPPED), {"status": "cancelled"}, StatusUpdate(PENDING)),
    (StatusUpdate(SHIPPED), {}, StatusUpdate(PENDING)),
    (StatusUpdate(PROCESSING), {"status": "In_Process"}, StatusUpdate(PROCESSING)),
    (StatusUpdate(PROCESSING), {"status": "to_ship"}, StatusUpdate(PENDING)),
    (StatusUpdate(SHIPPED), {"status": "in_process"}, StatusUpdate(PENDING)),
    (StatusUpdate(OrderStatus.CANCELLED), {"status": "pending"}, StatusUpdate(PENDING)),
    (StatusUpdate(OrderStatus.REFUNDED), {"status": "cancelled"}, StatusUpdate(PENDING)),
    (StatusUpdate(PENDING), {"status": "odd"}, StatusUpdate(PENDING)),
    (
        StatusUpdate(SHIPPED, PARCEL),
        {"status": "shipped", "tracking": {"number": "ab1"}},
        StatusUpdate(SHIPPED, PARCEL),
    ),
    (
        StatusUpdate(SHIPPED, PARCEL),
        {"status": "shipped", "tracking": {"number": "2"}},
        StatusUpdate(SHIPPED),
    ),
    (StatusUpdate(SHIPPED, PARCEL), {"status": "shipped"}, StatusUpdate(SHIPPED)),
    (
        StatusUpdate(SHIPPED, PARCEL),
        {"status": "pending", "tracking": {"number": "AB 1"}},
        StatusUpdate(PENDING, PARCEL),
    ),
]


@pytest.mark.parametrize(("call", "answer", "taken"), ANSWERS)
def test_what_an_answer_shows(call: StatusUpdate, answer: dict[str, Any], taken: StatusUpdate) -> None:
    assert shown(call, PENDING, Order.model_validate({"id": "1"} | answer)) == taken


@pytest.mark.parametrize("goal", ["processing", "shipped", "cancelled", "refunded"])
def test_a_status_that_is_not_taken_is_pushed_again_and_shown(world: World, goal: str) -> None:
    order_id = desk.sold(world, A=3)
    if goal == "refunded":
        desk.shop_refunds(world, order_id)
    else:
        desk.shop_sets(world, order_id, goal)
    with desk.unheard(world):
        for attempt in range(1, 4):
            assert desk.tell(world).failed == 1
            row = desk.order(world, order_id)
            assert (row.status, row.push_attempts) == ("pending", attempt)
            assert row.exception == ("refused" if attempt == 3 else None)
            desk.a_day_later(world)
    assert desk.on_shelf(world) == {"A": 7}
    assert desk.steps(world, order_id).count("not_taken") == 1
    assert desk.tell(world).pushed == 1
    assert (desk.order(world, order_id).status, desk.at_4seller(world, order_id)[0]) == (goal, goal)
    assert (desk.order(world, order_id).exception, desk.tell(world).scanned) == (None, 0)
    desk.assert_whole(world)


def test_a_parcel_that_is_not_taken_is_pushed_again_and_shown(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id)
    with desk.unheard(world, tracking_alone=True):
        for attempt in range(1, 4):
            assert desk.tell(world).failed == 1
            assert desk.at_4seller(world, order_id) == ("shipped", None)
            assert desk.order(world, order_id).exception == ("refused" if attempt == 3 else None)
            desk.a_day_later(world)
    assert value(world.database, "SELECT count(*) FROM order_shipments WHERE pushed_at IS NULL") == 1
    desk.tell(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert (desk.order(world, order_id).exception, desk.tell(world).scanned) == (None, 0)


def test_a_refund_that_is_not_taken_is_no_refund(world: World) -> None:
    order_id = desk.sold(world, A=3)
    with desk.unheard(world):
        moved = asyncio.run(change_status(world.sync_context(), order_id, OrderStatus.REFUNDED))
    assert (moved.pushed, desk.order(world, order_id).status, desk.on_shelf(world)) == (
        False,
        "pending",
        {"A": 7},
    )


def test_a_refund_counts_that_only_the_order_itself_shows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id, state = desk.sold(world, A=3), world.sandbox.state
    move = state.move

    def answers_as_before(name: str, status: str, tracking: dict[str, Any] | None = None) -> dict[str, Any]:
        before = dict(state.order(name))
        move(name, status, tracking)
        return before

    monkeypatch.setattr(state, "move", answers_as_before)
    moved = asyncio.run(change_status(world.sync_context(), order_id, OrderStatus.REFUNDED))
    assert (moved.pushed, desk.order(world, order_id).status, desk.on_shelf(world)) == (
        True,
        "refunded",
        {"A": 10},
    )


# refunds of the shop


@pytest.mark.parametrize("told_before", [True, False])
def test_the_shops_refund_is_pushed_once(world: World, told_before: bool) -> None:
    orders = desk.sold_each(world, ["pending", "processing", "cancelled", "shipped"])
    for status, order_id in orders.items():
        if status == "shipped":
            desk.pack(world, order_id)
        else:
            desk.shop_sets(world, order_id, status)
    if told_before:
        desk.sync(world)
    for order_id in orders.values():
        desk.shop_refunds(world, order_id)
    assert [desk.sync(world).pushed for _ in range(2)] == [4, 0]
    for status, order_id in orders.items():
        left = status == "shipped"
        assert desk.sides(world, order_id) == ("refunded", "shipped" if left else "cancelled", "refunded")
        assert desk.at_4seller(world, order_id)[1] == (desk.UPS if left else None)
        assert desk.order(world, order_id).exception is None
    assert desk.on_shelf(world) == dict.fromkeys(orders, 10) | {"shipped": 7}
    assert desk.alerts(world) == []
    desk.assert_whole(world)


@pytest.mark.parametrize("said", ["processing", "shipped", "cancelled", "refunded"])
def test_a_refund_of_the_shop_outlasts_what_the_marketplace_says_meanwhile(world: World, said: str) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_refunds(world, order_id)
    desk.market(world, order_id, said)
    for _ in range(2):
        desk.sync(world)
    assert desk.at_4seller(world, order_id)[0] == desk.order(world, order_id).status == "refunded"
    assert desk.on_shelf(world) == {"A": 7 if said == "shipped" else 10}
    assert desk.sync(world).scanned == 0


# one way to end


@pytest.mark.parametrize("who", ["the marketplace", "the shop", "a person"])
def test_an_order_that_nobody_could_map_ends_clean_whoever_cancels_it(world: World, who: str) -> None:
    order_id = world.place(("UNKNOWN", 2))
    world.import_orders()
    assert desk.order(world, order_id).exception == "unmapped"
    if who == "the marketplace":
        desk.market(world, order_id, "cancelled")
    else:
        desk.shop_sets(world, order_id, "cancelled")
    if who == "a person":
        desk.market(world, order_id, "shipped")
        desk.sync(world)
        desk.market(world, order_id, "shipped", note="again")
        desk.settle(world, order_id, "cancelled")
    desk.sync(world)
    seen = desk.order(world, order_id).exception
    assert seen is None if who != "a person" else "unmapped" in str(seen), (
        "what has left must be mapped still"
    )


# somebody may be packing


WARNED = {
    ("processing", "paid"): True,
    ("processing", "pending"): True,
    ("pending", "paid"): True,
    ("pending", "pending"): False,
    ("cancelled", "paid"): False,
    ("processing", "refunded"): False,
}
"""Whether staff are warned, by the order's status in the shop and its payment."""


@pytest.mark.parametrize("end", ["cancelled", "refunded"])
def test_staff_learn_that_the_marketplace_ended_what_may_be_packed(world: World, end: str) -> None:
    orders = desk.sold_each(world, map(" ".join, WARNED))
    for (status, paid), order_id in zip(WARNED, orders.values(), strict=True):
        desk.shop_sets(world, order_id, status)
        local = desk.order(world, order_id).local_order_id
        run(world.database, "UPDATE orders SET payment_status = :paid WHERE id = :id", paid=paid, id=local)
        desk.market(world, order_id, end)
    for _ in range(2):
        world.import_orders()
    told = rows(
        world.database, "SELECT subject FROM alerts WHERE cleared_at IS NULL AND kind = 'order_ended'"
    )
    warned = [order_id for order_id, one in zip(orders.values(), WARNED.values(), strict=True) if one]
    assert sorted(subject for (subject,) in told) == sorted(f"order:{order_id}" for order_id in warned)
    assert set(desk.alerts(world)) == {"order_ended"}
    assert desk.on_shelf(world) == dict.fromkeys(orders, 10)


@pytest.mark.parametrize("answered", [False, True])
def test_a_status_that_arrives_late_after_a_newer_one_is_pushed_over_once(
    world: World, answered: bool
) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_sets(world, order_id, "processing")
    world.sandbox.faults.script([] if answered else ["reset-before"] * 3)
    desk.tell(world)
    desk.shop_sets(world, order_id, "shipped")
    desk.a_day_later(world)
    desk.tell(world)
    assert desk.at_4seller(world, order_id)[0] == "shipped"
    for arrival in (1, 2):
        desk.market(world, order_id, "processing")
        world.import_orders()
        pushed = desk.tell(world).pushed
        assert pushed == (0 if answered or arrival == 2 else 1)
    assert desk.shop_status(world, order_id) == "shipped"
    desk.assert_whole(world)
