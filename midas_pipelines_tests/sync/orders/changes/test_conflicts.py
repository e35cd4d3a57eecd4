"""A cancellation that meets a shipment: seen in every order of arrival, told once, ended as a person decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.stock import units as stock_units
from midas_pipelines.sync.orders.stock.pending_lines import map_line
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

Act = Callable[[World, str], object]
ACTS: dict[str, Act] = {
    "operator's parcel": lambda world, order_id: desk.pack(world, order_id),
    "part of it": lambda world, order_id: desk.pack(world, order_id, units={1: 2}),
    "shop's parcel": lambda world, order_id: desk.shop_packs(world, order_id, desk.UPS),
    "shop's status": lambda world, order_id: desk.shop_sets(world, order_id, "shipped"),
}


def conflict(world: World, act: str = "operator's parcel") -> str:
    """An order of 3 that the shop has shipped and the marketplace then cancelled."""
    order_id = desk.sold(world, A=3)
    ACTS[act](world, order_id)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    assert desk.order(world, order_id).exception == "conflict"
    return order_id


# every order of arrival


@pytest.mark.parametrize("seen_between", [False, True], ids=["at once", "one after the other"])
def test_a_cancellation_after_goods_have_left_is_a_conflict(world: World, seen_between: bool) -> None:
    orders = desk.sold_each(world, ACTS)
    for act, order_id in orders.items():
        ACTS[act](world, order_id)
    if seen_between:
        desk.sync(world)
    for order_id in orders.values():
        desk.market(world, order_id, "cancelled")
    for _ in range(2):
        desk.sync(world)
        assert {desk.order(world, order_id).exception for order_id in orders.values()} == {"conflict"}
        assert desk.on_shelf(world) == dict.fromkeys(ACTS, 7)
        assert desk.alerts(world) == ["order_conflict"] * len(ACTS)
    for order_id in orders.values():
        assert desk.shop_status(world, order_id) in ("shipped", "processing")
        assert desk.at_4seller(world, order_id)[0] == "cancelled"


@pytest.mark.parametrize("ended", ["cancelled", "refunded"])
@pytest.mark.parametrize("act", ["shop's parcel", "shop's status"])
def test_goods_that_leave_after_the_marketplace_ended_the_order_are_a_conflict(
    world: World, act: str, ended: str
) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, ended)
    desk.sync(world)
    ACTS[act](world, order_id)
    for _ in range(2):
        desk.sync(world)
        assert desk.order(world, order_id).exception == "conflict"
        assert desk.alerts(world) == ["order_conflict"]
    assert desk.at_4seller(world, order_id) == (ended, None)
    assert desk.steps(world, order_id).count("conflict") == 1


@pytest.mark.parametrize("ended", ["cancelled", "refunded"])
def test_an_operator_ships_nothing_that_the_marketplace_has_ended(world: World, ended: str) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, ended)
    desk.sync(world)
    with pytest.raises(WrongInput, match=ended):
        desk.pack(world, order_id)
    assert desk.order(world, order_id).exception is None


def test_an_operator_ships_nothing_that_the_shop_has_cancelled(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_sets(world, order_id, "cancelled")
    with pytest.raises(WrongInput, match="cancelled"):
        desk.pack(world, order_id)
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"cancelled"}
    assert desk.on_shelf(world) == {"A": 10}


@pytest.mark.parametrize("told", [True, False])
def test_a_shop_that_cancels_what_has_left_tells_nobody_before_a_person_has_decided(
    world: World, told: bool
) -> None:
    acts = [act for act in ACTS if told or act != "shop's status"]  # which was never told, so never was
    orders = desk.sold_each(world, acts)
    for act, order_id in orders.items():
        ACTS[act](world, order_id)
    if told:
        desk.sync(world)
    before = [desk.at_4seller(world, order_id) for order_id in orders.values()]
    for order_id in orders.values():
        desk.shop_sets(world, order_id, "cancelled")
    assert desk.sync(world).refused == len(acts)
    assert desk.sync(world).scanned == 0
    assert {desk.order(world, order_id).exception for order_id in orders.values()} == {"conflict"}
    assert desk.alerts(world) == ["order_conflict"] * len(acts)
    assert [desk.at_4seller(world, order_id) for order_id in orders.values()] == before
    assert desk.on_shelf(world) == dict.fromkeys(acts, 7)


# asked once for each report


def test_the_same_report_asks_once_and_a_newer_one_anew(world: World) -> None:
    order_id = conflict(world)
    for _ in range(3):
        desk.sync(world)
        desk.told(world, world.sandbox.state.orders[order_id])
    assert desk.steps(world, order_id).count("conflict") == 1
    desk.settle(world, order_id, "shipped")
    desk.sync(world)
    assert (desk.alerts(world), "conflict" in desk.order(world, order_id).exception) == ([], False)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    assert "conflict" in desk.order(world, order_id).exception
    assert desk.steps(world, order_id).count("conflict") == 2
    assert desk.alerts(world) == ["order_conflict"]


def test_a_second_cancellation_after_a_withdrawal_asks_anew(world: World) -> None:
    order_id = conflict(world)
    desk.settle(world, order_id, "shipped")
    desk.market(world, order_id, "processing")
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert desk.order(world, order_id).exception is None
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    assert (desk.order(world, order_id).exception, desk.alerts(world)) == ("conflict", ["order_conflict"])


# withdrawn


@pytest.mark.parametrize("standing", ["pending", "processing"])
def test_a_cancellation_that_is_withdrawn_ends_the_conflict_and_the_parcel_is_told(
    world: World, standing: str
) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, standing)
    desk.sync(world)
    desk.pack(world, order_id)
    for status in ("cancelled", standing):
        desk.market(world, order_id, status)
        desk.sync(world)
    assert (desk.order(world, order_id).exception, desk.alerts(world)) == (None, [])
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert set(desk.sides(world, order_id)) == {"shipped"}


def test_a_cancellation_withdrawn_after_it_was_followed_is_for_a_person(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    assert desk.on_shelf(world) == {"A": 10}
    desk.market(world, order_id, "processing")
    desk.sync(world)
    assert (desk.order(world, order_id).exception, desk.alerts(world)) == ("conflict", ["order_conflict"])
    desk.settle(world, order_id, "shipped")
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"processing"}
    assert (desk.on_shelf(world), desk.order(world, order_id).exception) == ({"A": 7}, None)
    desk.assert_whole(world)


# settled


@pytest.mark.parametrize("decision", ["shipped", "cancelled"])
def test_without_a_conflict_there_is_nothing_to_settle(world: World, decision: str) -> None:
    for place, status in enumerate(["pending", "processing", "shipped", "cancelled", "refunded"]):
        order_id = desk.sold(world, **{f"A{place}": 3})
        desk.market(world, order_id, status)
        desk.sync(world)
        before = (desk.sides(world, order_id), desk.on_shelf(world), desk.steps(world, order_id))
        with pytest.raises(WrongInput, match="in no conflict"):
            desk.settle(world, order_id, decision, restock=decision == "cancelled")
        assert (desk.sides(world, order_id), desk.on_shelf(world), desk.steps(world, order_id)) == before


@pytest.mark.parametrize("act", ["operator's parcel", "shop's parcel", "shop's status"])
def test_settled_as_shipped_while_the_marketplace_insists_it_is_shown_as_refused(
    world: World, act: str
) -> None:
    order_id = conflict(world, act)
    desk.settle(world, order_id, "shipped")
    assert desk.sync(world).refused == 1
    assert desk.sync(world).scanned == 0
    assert (desk.order(world, order_id).exception, desk.alerts(world)) == ("refused", [])
    assert (desk.shop_status(world, order_id), desk.on_shelf(world)) == ("shipped", {"A": 7})
    desk.market(world, order_id, "pending")  # withdrawn at last
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"shipped"}
    assert desk.order(world, order_id).exception is None
    desk.assert_whole(world)


@pytest.mark.parametrize("act", ["shop's parcel", "shop's status"])
def test_settled_as_shipped_the_stock_that_went_back_is_taken_again_once(world: World, act: str) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    ACTS[act](world, order_id)
    desk.sync(world)
    assert desk.on_shelf(world) == {"A": 10}
    desk.settle(world, order_id, "shipped")
    with pytest.raises(WrongInput):
        desk.settle(world, order_id, "shipped")
    desk.sync(world)
    assert (desk.on_shelf(world), desk.shop_status(world, order_id)) == ({"A": 7}, "shipped")
    desk.assert_whole(world)


def test_settled_as_shipped_what_was_sold_meanwhile_is_owed(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    world.place(("A", 9))
    desk.market(world, order_id, "processing")
    desk.sync(world)
    desk.settle(world, order_id, "shipped")
    assert [(line.allocated - line.released, line.backordered) for line in desk.lines(world, order_id)] == [
        (1, 2)
    ]
    assert (desk.order(world, order_id).exception, desk.on_shelf(world)) == ("oversold", {"A": 0})
    desk.assert_whole(world)


CANCELLED = {
    ("operator's parcel", False): 7,
    ("operator's parcel", True): 10,
    ("part of it", False): 8,
    ("part of it", True): 10,
    ("shop's parcel", False): 7,
    ("shop's status", False): 7,
    ("shop's status", True): 10,
}
"""What is on the shelf after a person has cancelled it with or without restock, by what had left."""


def test_settled_as_cancelled_what_left_comes_back_only_with_restock(world: World) -> None:
    cases = {f"{act} {restock}": (act, restock, left) for (act, restock), left in CANCELLED.items()}
    orders = desk.sold_each(world, cases)
    for case, order_id in orders.items():
        ACTS[cases[case][0]](world, order_id)
        desk.market(world, order_id, "cancelled")
    desk.sync(world)
    for case, order_id in orders.items():
        assert desk.order(world, order_id).exception == "conflict"
        desk.settle(world, order_id, "cancelled", restock=cases[case][1])
    assert desk.on_shelf(world) == {case: left for case, (_, _, left) in cases.items()}
    desk.a_day_later(world)
    assert desk.sync(world).scanned == 0
    assert desk.alerts(world) == []
    for case, order_id in orders.items():
        _, restock, left = cases[case]
        assert set(desk.sides(world, order_id)) == {"cancelled"}, case
        assert desk.order(world, order_id).exception is None, case
        assert desk.come_back(world, order_id) == (0 if restock else 10 - left), case
    desk.assert_whole(world)


def test_what_the_marketplace_says_after_it_was_settled_as_cancelled_asks_anew(world: World) -> None:
    order_id = conflict(world)
    desk.market(world, order_id, "processing")  # withdrawn, but nobody has seen that yet
    desk.settle(world, order_id, "cancelled", restock=True)
    desk.sync(world)
    assert desk.order(world, order_id).exception == "conflict"
    assert desk.on_shelf(world) == {"A": 10}


def test_an_order_settled_as_cancelled_waits_for_no_stock(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=2)
    order_id = world.place(("A", 3))
    world.import_orders()
    desk.pack(world, order_id)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    assert desk.order(world, order_id).exception == "conflict,oversold"
    desk.settle(world, order_id, "cancelled")
    world.set(product, stock_quantity=5)
    world.import_orders()
    assert (desk.order(world, order_id).exception, desk.on_shelf(world)) == (None, {"A": 5})
    assert [line.backordered for line in desk.lines(world, order_id)] == [0]


def test_an_order_resolved_as_cancelled_takes_no_stock_for_what_is_still_reported(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 3), ("LATE", 2))
    world.import_orders()
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    desk.market(world, order_id, "pending")
    world.import_orders()
    desk.settle(world, order_id, "cancelled", restock=True)
    desk.edit(world, order_id, ("A", 5), ("A", 20), ("LATE", 2))  # 4Seller has not heard of it yet
    world.import_orders()
    late = add_product(world.database, sku="LATE", stock_quantity=10), None
    map_line(world.database, desk.order(world, order_id).id, 2, late, OrderContext())
    assert (desk.on_shelf(world), desk.alerts(world)) == ({"A": 10, "LATE": 10}, [])
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"cancelled"}
    assert {stock_units.on_order(line) + line.backordered for line in desk.lines(world, order_id)} == {0}
    assert desk.on_shelf(world) == {"A": 10, "LATE": 10}


def test_an_order_resolved_as_cancelled_takes_no_stock_for_its_first_lines(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place()
    lines = {"items": [{"sku": "A", "quantity": 3, "price": "10.00"}], "total": "34.99"}
    del world.sandbox.state.orders[order_id]["items"]
    world.import_orders()
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    desk.market(world, order_id, "pending")
    world.import_orders()
    desk.settle(world, order_id, "cancelled")
    desk.market(world, order_id, "pending", **lines)
    world.import_orders()
    desk.sync(world)
    assert (desk.on_shelf(world), desk.sides(world, order_id)) == ({"A": 10}, ("cancelled",) * 3)


def test_a_cancellation_that_a_person_has_agreed_to_is_no_conflict_when_it_is_reported_again(
    world: World,
) -> None:
    order_id = desk.sold(world, A=12)
    for status in ("shipped", "cancelled"):
        desk.market(world, order_id, status)
        world.import_orders()
    desk.settle(world, order_id, "cancelled")
    desk.market(world, order_id, "cancelled")
    world.import_orders()
    assert "conflict" not in (desk.order(world, order_id).exception or "")
    desk.assert_whole(world)


@pytest.mark.parametrize(("units", "ends"), [({1: 2}, "processing"), (None, "shipped")])
def test_a_cancellation_of_the_shops_settled_as_shipped_is_taken_back(
    world: World, units: dict[int, int] | None, ends: str
) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id, units=units)
    desk.shop_sets(world, order_id, "cancelled")
    desk.sync(world)
    desk.settle(world, order_id, "shipped")
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {ends}
    assert desk.at_4seller(world, order_id) == (ends, desk.UPS)
    assert (desk.order(world, order_id).exception, desk.on_shelf(world)) == (None, {"A": 7})


# while it lasts


def test_during_a_conflict_nothing_more_leaves_and_nothing_is_told(world: World) -> None:
    order_id = conflict(world, "part of it")
    with pytest.raises(WrongInput, match="midas orders resolve"):
        desk.pack(world, order_id, desk.FEDEX, "fedex")
    assert desk.pack(world, order_id, desk.UPS).new is False  # on record already
    assert desk.sync(world).scanned == 0
    assert desk.at_4seller(world, order_id) == ("cancelled", None)
    assert [line.shipped for line in desk.lines(world, order_id)] == [2]


def test_no_customer_is_told_that_a_cancelled_order_is_on_its_way(world: World) -> None:
    world.changes |= {"smtp_url": "smtp://127.0.0.1:1", "mail_from": "Shop <orders@shop.example>"}
    add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 3), customer={"email": "ann@home.example", "name": "Ann"})
    world.import_orders()
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    desk.shop_packs(world, order_id, desk.UPS)
    desk.sync(world)
    kinds = [kind for (kind,) in rows(world.database, "SELECT kind FROM customer_mails ORDER BY id")]
    assert kinds == ["received", "cancelled"]
