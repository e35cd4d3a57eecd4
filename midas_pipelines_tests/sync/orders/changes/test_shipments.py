"""Parcels: recorded once, told to 4Seller once, whole or partial, by whoever packs them."""

from __future__ import annotations

import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.status import BACKWARD
from midas_pipelines.store.orders.checks import statuses_gone_back
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def sold(world: World) -> str:
    """An imported order for 3 of A and 1 of B."""
    for sku in ("A", "B"):
        add_product(world.database, sku=sku, stock_quantity=10)
    order_id = world.place(("A", 3), ("B", 1))
    world.import_orders()
    return order_id


def test_a_parcel_reaches_4seller_with_its_number(world: World, sold: str) -> None:
    shipped = desk.pack(world, sold)
    assert (shipped.new, shipped.complete, shipped.units) == (True, True, 4)
    assert desk.shop_status(world, sold) == "shipped"
    assert statuses_gone_back(world.database, BACKWARD) == []  # 4Seller does not know it yet
    report = desk.sync(world)
    assert (report.pushed, report.shipments, report.failed) == (1, 1, 0)
    assert desk.at_4seller(world, sold) == ("shipped", desk.UPS)
    assert desk.sync(world).scanned == 0
    desk.assert_whole(world)


def test_the_same_parcel_again_changes_nothing(world: World, sold: str) -> None:
    desk.pack(world, sold)
    assert desk.pack(world, sold).new is False
    assert value(world.database, "SELECT count(*) FROM order_shipments") == 1


def test_a_partial_parcel_leaves_the_order_open_until_the_rest_leaves(world: World, sold: str) -> None:
    assert desk.pack(world, sold, units={1: 2}).complete is False
    desk.sync(world)
    assert desk.at_4seller(world, sold) == ("processing", desk.UPS)
    assert desk.pack(world, sold, desk.FEDEX, "fedex").complete is True
    desk.sync(world)
    assert desk.at_4seller(world, sold) == ("shipped", desk.FEDEX)
    assert [line.shipped for line in desk.lines(world, sold)] == [3, 1]


def test_a_shipment_is_written_once(world: World, sold: str) -> None:
    desk.pack(world, sold, units={1: 3})
    assert desk.pack(world, sold, units={1: 3}).new is False
    for other in ({1: 2}, {1: 3, 2: 1}, {2: 1}):
        with pytest.raises(WrongInput, match="on record with other units"):
            desk.pack(world, sold, units=other)
    assert [line.shipped for line in desk.lines(world, sold)] == [3, 0]
    assert value(world.database, "SELECT count(*) FROM order_shipments") == 1


@pytest.mark.parametrize(("units", "why"), [({1: 4}, "3 left to ship"), ({9: 1}, "no line 9")])
def test_more_than_is_left_is_refused(world: World, sold: str, units: dict[int, int], why: str) -> None:
    with pytest.raises(WrongInput, match=why):
        desk.pack(world, sold, units=units)
    assert value(world.database, "SELECT count(*) FROM order_shipments") == 0


def test_a_second_parcel_of_a_whole_order_is_refused(world: World, sold: str) -> None:
    desk.pack(world, sold)
    with pytest.raises(WrongInput, match="nothing left"):
        desk.pack(world, sold, desk.FEDEX, "fedex")


def test_a_cancelled_order_is_not_shipped(world: World, sold: str) -> None:
    world.sandbox.state.move(sold, "cancelled")
    world.import_orders()
    with pytest.raises(WrongInput, match="cancelled"):
        desk.pack(world, sold)


def test_the_shops_own_row_is_counted_and_told(world: World, sold: str) -> None:
    desk.shop_packs(world, sold, desk.UPS)
    desk.sync(world)
    assert desk.at_4seller(world, sold) == ("shipped", desk.UPS)
    assert desk.shop_status(world, sold) == "shipped"
    desk.assert_whole(world)


def test_an_unusual_number_of_the_shops_is_pushed_with_a_remark(world: World, sold: str) -> None:
    desk.shop_packs(world, sold, "T9999999999")
    desk.sync(world)
    assert desk.at_4seller(world, sold) == ("shipped", "T9999999999")
    assert "does not look like a UPS number" in value(world.database, "SELECT reason FROM order_shipments")
    assert (desk.order(world, sold).exception, desk.sync(world).scanned) == (None, 0)


def test_a_number_of_the_shops_that_is_none_is_not_pushed_until_it_is_fixed(world: World, sold: str) -> None:
    parcel = desk.shop_packs(world, sold, "see the label")
    desk.sync(world)
    assert desk.at_4seller(world, sold) == ("shipped", None)
    assert "tracking_refused" in desk.steps(world, sold)
    run(
        world.database,
        "UPDATE order_shipments SET tracking_number = :n WHERE id = :id",
        n=desk.UPS,
        id=parcel,
    )
    desk.sync(world)
    assert desk.at_4seller(world, sold) == ("shipped", desk.UPS)


def test_what_is_owed_waits_for_its_own_parcel(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1)
    order_id = world.place(("A", 3))
    world.import_orders()
    assert desk.pack(world, order_id).units == 1
    assert desk.shop_status(world, order_id) == "processing"
    world.set(product, stock_quantity=2)
    world.import_orders()
    assert desk.pack(world, order_id, desk.FEDEX, "fedex").complete is True


def test_a_failed_call_is_tried_again_and_the_parcel_told_once(world: World, sold: str) -> None:
    desk.pack(world, sold)
    world.faults(s503=1.0)
    assert desk.tell(world).failed == 1
    world.faults(reset_after_apply=0.5)
    for _ in range(4):
        desk.tell(world)
    run(world.database, "UPDATE marketplace_orders SET push_after = NULL")
    world.faults()
    desk.tell(world)
    assert desk.at_4seller(world, sold) == ("shipped", desk.UPS)
    assert desk.steps(world, sold).count("tracking_pushed") == 1


def test_what_the_shop_does_to_its_own_status_is_told(world: World, sold: str) -> None:
    desk.shop_sets(world, sold, "processing")
    desk.sync(world)
    assert desk.at_4seller(world, sold)[0] == "processing"
    desk.shop_sets(world, sold, "cancelled")
    desk.sync(world)
    assert desk.at_4seller(world, sold)[0] == "cancelled"
    assert [line.released for line in desk.lines(world, sold)] == [3, 1]
    desk.assert_whole(world)


def test_the_last_parcel_ships_an_order_whatever_the_shop_calls_it(world: World, sold: str) -> None:
    desk.shop_sets(world, sold, "packed")
    desk.pack(world, sold, units={1: 3})
    assert desk.shop_status(world, sold) == "packed"
    desk.shop_packs(world, sold, desk.FEDEX, "FedEx")
    desk.sync(world)
    desk.a_day_later(world)
    desk.sync(world)
    assert desk.sides(world, sold) == ("shipped", "shipped", "shipped")
    assert desk.order(world, sold).exception is None


@pytest.mark.parametrize("word", ["shipped", "delivered", "cancelled"])
def test_a_parcel_takes_no_order_back_from_where_the_shop_has_it(world: World, sold: str, word: str) -> None:
    desk.shop_sets(world, sold, word)
    desk.shop_packs(world, sold, desk.UPS)
    desk.sync(world)
    assert desk.shop_status(world, sold) == word


def test_a_move_that_no_way_leads_to_is_refused_once_and_taken_off(world: World, sold: str) -> None:
    desk.pack(world, sold)
    desk.sync(world)
    desk.shop_sets(world, sold, "pending")
    assert desk.sync(world).refused == 1
    assert desk.sync(world).scanned == 0
    assert desk.steps(world, sold).count("refused_transition") == 1


def test_a_cancellation_that_meets_a_shipment_is_for_a_person(world: World, sold: str) -> None:
    desk.pack(world, sold)
    world.sandbox.state.move(sold, "cancelled")
    desk.sync(world)
    desk.sync(world)
    assert desk.order(world, sold).exception == "conflict"
    assert desk.shop_status(world, sold) == "shipped"
    assert [line.released for line in desk.lines(world, sold)] == [0, 0]
    assert desk.alerts(world) == ["order_conflict"]
    assert desk.steps(world, sold).count("conflict") == 1
    desk.assert_whole(world)


def test_a_parcel_of_an_order_the_shop_does_not_have_is_left_alone(world: World, sold: str) -> None:
    run(
        world.database,
        "INSERT INTO order_shipments (order_id, carrier, tracking_number) VALUES (9999, 'UPS', 'x')",
    )
    assert desk.sync(world).failed == 0
    assert len(rows(world.database, "SELECT 1 FROM order_shipments WHERE booked_at IS NULL")) == 1
