"""Money paid back and goods that come back: what has not left is free again, what has left only when it is back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.world import World

Act = Callable[[World, str], object]
LEFT: dict[str, tuple[Act, int]] = {  # how many of 3 it leaves on the shelf
    "part of it": (lambda world, order_id: desk.pack(world, order_id, units={1: 2}), 1),
    "operator's parcel": (lambda world, order_id: desk.pack(world, order_id), 0),
    "shop's parcel": (lambda world, order_id: desk.shop_packs(world, order_id, desk.UPS), 0),
    "shop's status": (lambda world, order_id: desk.shop_sets(world, order_id, "shipped"), 0),
    "marketplace's status": (lambda world, order_id: desk.market(world, order_id, "shipped"), 0),
}


def payment(world: World) -> str:
    return str(value(world.database, "SELECT payment_status FROM orders"))


# refunds


@pytest.mark.parametrize("words", [["refunded"], ["cancelled", "refunded"], ["processing", "refunded"]])
def test_a_refund_of_what_has_not_left_frees_all_of_it_once(world: World, words: list[str]) -> None:
    order_id = desk.sold(world, A=3)
    for word in words:
        desk.market(world, order_id, word)
        desk.sync(world)
    assert desk.sync(world).scanned == 0
    assert desk.sides(world, order_id) == ("refunded", "cancelled", "refunded")
    assert (payment(world), desk.on_shelf(world)) == ("refunded", {"A": 10})
    assert desk.order(world, order_id).exception is None
    assert desk.steps(world, order_id).count("released") == 1
    desk.assert_whole(world)


@pytest.mark.parametrize("told", [True, False])
def test_a_refund_frees_what_has_not_left_and_the_shops_order_stays_shipped(world: World, told: bool) -> None:
    ways = [way for way in LEFT if told or way != "marketplace's status"]
    orders = desk.sold_each(world, ways)
    for way, order_id in orders.items():
        LEFT[way][0](world, order_id)
    if told:
        desk.sync(world)
    for order_id in orders.values():
        desk.market(world, order_id, "refunded")
    for _ in range(2):
        assert desk.sync(world).refused == 0
    assert desk.on_shelf(world) == {way: 7 + LEFT[way][1] for way in ways}
    for way, order_id in orders.items():
        assert desk.sides(world, order_id) == ("refunded", "shipped", "refunded"), way
        assert desk.order(world, order_id).exception is None, way
    assert rows(world.database, "SELECT DISTINCT payment_status FROM orders") == [("refunded",)]
    desk.assert_whole(world)


def test_a_shipment_and_its_refund_seen_at_once_free_nothing(world: World) -> None:
    order_id = desk.sold(world, A=3)
    paper.told(
        world,
        *(
            {"id": order_id, "status": word, "updated_at": f"2099-01-0{day}T00:00:00Z"}
            for day, word in enumerate(("shipped", "refunded"), start=1)
        ),
    )
    assert desk.order(world, order_id).status == "refunded"
    assert (shop_status := desk.shop_status(world, order_id)) == "shipped", shop_status
    assert desk.on_shelf(world) == {"A": 7}
    assert desk.come_back(world, order_id) == 3


LABELS = [
    {"carrier": "UPS", "number": desk.UPS},
    {"carrier": "", "number": "", "url": ""},
    {"number": " N/A "},
]


@pytest.mark.parametrize("report", [paper.polled, paper.told], ids=["poll", "webhook"])
def test_a_label_is_no_report_that_goods_left(world: World, report: paper.Report) -> None:
    add_product(world.database, sku="A", stock_quantity=100)
    moments = iter(range(1, 999))

    def says(order_id: str, status: str, **fields: object) -> paper.Raw:
        seconds = next(moments)
        written = {"id": order_id, "status": status, "items": [paper.line("A", 2)]} | fields
        return written | {"updated_at": f"2099-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"}

    labels = LABELS[:1] if report is paper.polled else LABELS
    for case, (label, end) in enumerate(product(labels, ("cancelled", "refunded"))):
        ids = [f"X-{case}-{number}" for number in range(4)]
        for status, last in (("pending", False), ("processing", True)):
            report(world, *(says(one, status, tracking=label) for one in ids[: 2 + last]))
        report(world, says(ids[0], end), says(ids[1], end, tracking=label), says(ids[3], end, tracking=label))
        report(world, says(ids[2], "processing", tracking=label))
        paper.told(world, says(ids[2], "processing", tracking=label), says(ids[2], end))
        report(world, says(ids[3], "processing", tracking=label))
        assert {desk.order(world, one).status for one in ids} == {end}
        assert desk.on_shelf(world) == {"A": 100}, (label, end)
    desk.assert_whole(world)


def test_a_refund_ends_the_wait_for_what_is_owed(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=2)
    order_id = world.place(("A", 3))
    world.import_orders()
    desk.pack(world, order_id)
    desk.market(world, order_id, "refunded")
    desk.sync(world)
    world.set(product, stock_quantity=5)
    world.import_orders()
    assert [(line.allocated, line.backordered) for line in desk.lines(world, order_id)] == [(2, 0)]
    assert (desk.on_shelf(world), desk.order(world, order_id).exception) == ({"A": 5}, None)
    assert desk.alerts(world) == []


@pytest.mark.parametrize("later", ["pending", "processing", "cancelled"])
def test_after_a_refund_only_a_shipment_changes_the_order(world: World, later: str) -> None:
    order_id = desk.sold(world, A=3)
    for word in ("refunded", later):
        desk.market(world, order_id, word)
        desk.sync(world)
    assert desk.sides(world, order_id)[:2] == ("refunded", "cancelled")
    assert (desk.on_shelf(world), desk.order(world, order_id).exception) == ({"A": 10}, None)


# returns


@pytest.mark.parametrize("left", LEFT)
def test_a_return_brings_back_what_has_left_and_no_more(world: World, left: str) -> None:
    act, on_shelf = LEFT[left]
    order_id = desk.sold(world, A=3)
    act(world, order_id)
    desk.sync(world)
    assert desk.come_back(world, order_id) == 3 - on_shelf
    assert desk.come_back(world, order_id) == 0
    assert desk.on_shelf(world) == {"A": 10 - on_shelf}
    desk.assert_whole(world)


@pytest.mark.parametrize("left", LEFT)
def test_a_return_of_what_was_paid_back_completes_the_stock(world: World, left: str) -> None:
    act, _ = LEFT[left]
    order_id = desk.sold(world, A=3)
    act(world, order_id)
    desk.sync(world)
    desk.market(world, order_id, "refunded")
    desk.sync(world)
    desk.come_back(world, order_id)
    assert desk.on_shelf(world) == {"A": 10}
    assert desk.come_back(world, order_id) == 0
    desk.assert_whole(world)


def test_a_return_names_its_lines_and_gets_at_most_what_left_of_each(world: World) -> None:
    order_id = desk.sold(world, A=3, B=2)
    desk.pack(world, order_id, units={1: 2, 2: 2})
    back = [
        desk.come_back(world, order_id, units) for units in ({1: 1}, {2: 2}, {1: 9}, {1: 1}, {1: 1}, {7: 1})
    ]
    assert back == [1, 2, 0, 1, 0, 0]
    assert desk.on_shelf(world) == {"A": 9, "B": 10}
    assert [line.returned for line in desk.lines(world, order_id)] == [2, 2]
    desk.assert_whole(world)


def test_after_a_part_came_back_the_rest_ships_and_the_order_is_complete(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id, units={1: 2})
    desk.sync(world)
    assert desk.come_back(world, order_id, {1: 1}) == 1
    rest = desk.pack(world, order_id, desk.FEDEX, "fedex")
    assert (rest.units, rest.complete) == (1, True)
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.FEDEX)
    assert [(line.shipped, line.returned) for line in desk.lines(world, order_id)] == [(3, 1)]
    assert desk.come_back(world, order_id) == 2
    desk.assert_whole(world)


def test_a_return_is_no_reason_to_take_stock_again(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id)
    desk.come_back(world, order_id, {1: 2})
    for _ in range(2):
        desk.sync(world)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    desk.settle(world, order_id, "shipped")
    assert desk.on_shelf(world) == {"A": 9}
    desk.assert_whole(world)


# edited first


@pytest.mark.parametrize("units", [1, 2, 5])
def test_an_edited_order_ships_whole_with_the_units_it_has_now(world: World, units: int) -> None:
    order_id = desk.sold(world, A=3)
    desk.edit(world, order_id, ("A", units))
    world.import_orders()
    parcel = desk.pack(world, order_id)
    assert (parcel.units, parcel.complete) == (units, True)
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    desk.market(world, order_id, "refunded")
    desk.sync(world)
    assert desk.come_back(world, order_id) == units
    assert desk.on_shelf(world) == {"A": 10}
    desk.assert_whole(world)
