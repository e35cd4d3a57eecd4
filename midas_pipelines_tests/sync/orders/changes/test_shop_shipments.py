"""Parcels that the shop's own code records in the table: whatever a row says, the order goes on and what is odd is seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.order_tables import order_shipment_lines, order_shipments
from midas_pipelines.sync.orders.lookup import find_order, read_timeline
from midas_pipelines_tests.shop import rows, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

UPS_PAGE = f"https://www.ups.com/track?tracknum={desk.UPS}"
FEDEX_PAGE = f"https://www.fedex.com/fedextrack/?trknbr={desk.FEDEX}"


def shop_records(world: World, order_id: str, units: dict[int, int] | None = None, **columns: Any) -> int:
    """The shop's code inserts a parcel with any columns, and `units` by the shop's own order line."""
    row = {"order_id": desk.order(world, order_id).local_order_id, "carrier": "UPS"}
    with world.database.writing() as connection:
        insert = sa.insert(order_shipments).values(row | {"tracking_number": desk.UPS} | columns)
        parcel: int = connection.execute(insert.returning(order_shipments.c.id)).scalar_one()
        for item, quantity in (units or {}).items():
            line = {"shipment_id": parcel, "order_item_id": item, "quantity": quantity}
            connection.execute(sa.insert(order_shipment_lines).values(line))
    return parcel


def items(world: World, order_id: str) -> list[int]:
    """The shop's ids of the order's lines."""
    return [line.order_item_id for line in desk.lines(world, order_id)]


def told_page(world: World, order_id: str) -> str | None:
    """The page that 4Seller has for the parcel."""
    page: str | None = world.sandbox.state.orders[order_id]["tracking"].get("url")
    return page


# pages

UNUSABLE = {
    "a script": "javascript:alert(document.cookie)",
    "empty": "",
    "no address": "see the label",
    "half an address": "https://",
    "a space in it": "https://parcels.example/a b",
    "another scheme": "ftp://parcels.example/1",
    "not plain": "https://parcels.example/ü",
    "a line break": "https://parcels.example/1\nx",
}


def test_a_page_that_is_no_address_is_left_out_and_the_parcel_told(world: World) -> None:
    orders = {case: desk.sold(world, **{f"A{case}": 1}) for case in UNUSABLE}
    unknown = {case: desk.sold(world, **{f"B{case}": 1}) for case in UNUSABLE}
    for case, page in UNUSABLE.items():
        shop_records(world, orders[case], tracking_url=page)
        shop_records(world, unknown[case], carrier="Pigeon", tracking_number="P-1", tracking_url=page)
    desk.sync(world)
    for case in UNUSABLE:
        assert desk.at_4seller(world, orders[case]) == ("shipped", desk.UPS), case
        assert told_page(world, orders[case]) == UPS_PAGE, case
        assert desk.at_4seller(world, unknown[case]) == ("shipped", "P-1"), case
        assert told_page(world, unknown[case]) is None, case


def test_a_page_of_the_shops_own_takes_the_place_of_the_carriers(world: World) -> None:
    order_id = desk.sold(world, A=1)
    shop_records(world, order_id, tracking_url="https://shop.example/parcels/1")
    desk.sync(world)
    assert told_page(world, order_id) == "https://shop.example/parcels/1"


# what is in it


def test_the_lines_that_the_shop_names_are_in_the_parcel_and_the_rest_is_to_follow(world: World) -> None:
    order_id = desk.sold(world, A=3, B=2)
    first, second = items(world, order_id)
    shop_records(world, order_id, {first: 2, second: 2})
    desk.sync(world)
    assert [line.shipped for line in desk.lines(world, order_id)] == [2, 2]
    assert desk.at_4seller(world, order_id) == ("processing", desk.UPS)
    shop_records(world, order_id, {first: 1}, tracking_number=desk.FEDEX, carrier="FedEx")
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.FEDEX)


def test_more_units_than_are_left_count_as_what_is_left(world: World) -> None:
    order_id = desk.sold(world, A=3)
    shop_records(world, order_id, {items(world, order_id)[0]: 99})
    desk.sync(world)
    assert [line.shipped for line in desk.lines(world, order_id)] == [3]
    assert "shipment_exception" in desk.steps(world, order_id)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    desk.assert_whole(world)


def test_lines_of_another_order_count_for_neither(world: World) -> None:
    order_id, other = desk.sold(world, A=3), desk.sold(world, B=2)
    shop_records(world, order_id, {items(world, other)[0]: 2})
    desk.sync(world)
    assert [line.shipped for one in (order_id, other) for line in desk.lines(world, one)] == [0, 0]
    assert "shipment_exception" in desk.steps(world, order_id)
    assert desk.at_4seller(world, order_id) == ("processing", desk.UPS)
    assert desk.at_4seller(world, other) == ("pending", None)


# which parcel it is


@pytest.mark.parametrize("spelled", ["1z 999 aa1 01 2345 6784", "1Z-999-AA1-01-2345-6784", desk.UPS.lower()])
def test_one_parcel_spelled_in_two_ways_is_one_parcel(world: World, spelled: str) -> None:
    order_id, other = desk.sold(world, A=3), desk.sold(world, B=3)
    shop_records(world, order_id, tracking_number=spelled)
    assert desk.pack(world, order_id).new is False
    desk.pack(world, other)
    shop_records(world, other, tracking_number=spelled)
    desk.sync(world)
    for one in (order_id, other):
        assert desk.at_4seller(world, one) == ("shipped", desk.UPS)
        assert [line.shipped for line in desk.lines(world, one)] == [3]
        assert desk.steps(world, one).count("tracking_pushed") == 1
    assert desk.sync(world).scanned == 0


def test_the_same_parcel_of_two_orders_is_told_for_both(world: World) -> None:
    orders = [desk.sold(world, **{sku: 1}) for sku in "AB"]
    for order_id in orders:
        shop_records(world, order_id)
    desk.sync(world)
    assert [desk.at_4seller(world, one) for one in orders] == [("shipped", desk.UPS)] * 2


# numbers that cannot be right


@pytest.mark.both_databases
def test_a_number_that_is_none_is_shown_until_it_is_mended(world: World) -> None:
    order_id = desk.sold(world, A=3)
    parcel = shop_records(world, order_id, tracking_number="see the label")
    for _ in range(2):
        assert desk.sync(world).refused == 1
        assert desk.order(world, order_id).exception == "refused"
    assert desk.at_4seller(world, order_id) == ("shipped", None)
    assert desk.steps(world, order_id).count("tracking_refused") == 1
    mend = "UPDATE order_shipments SET tracking_number = :number WHERE id = :id"
    run(world.database, mend, number=desk.UPS, id=parcel)
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert (desk.order(world, order_id).exception, desk.sync(world).scanned) == (None, 0)


@pytest.mark.both_databases
def test_a_row_that_says_no_number_ships_the_order_and_is_shown(world: World) -> None:
    rows_of_the_shop = [(None, None), ("", "–"), ("UPS", ""), ("UPS", "not a number")]
    orders = {row: desk.sold(world, **{f"S{n}": 1}) for n, row in enumerate(rows_of_the_shop)}
    for (carrier, number), order_id in orders.items():
        shop_records(world, order_id, carrier=carrier, tracking_number=number)
    desk.sync(world)
    for row, order_id in orders.items():
        assert set(desk.sides(world, order_id)) == {"shipped"}, row
        assert desk.order(world, order_id).exception == "refused", row
        assert desk.at_4seller(world, order_id)[1] is None, row
    assert value(world.database, "SELECT count(*) FROM order_shipments WHERE reason IS NULL") == 0


def test_a_number_that_is_none_does_not_keep_the_right_one_back(world: World) -> None:
    order_id = desk.sold(world, A=2)
    item = items(world, order_id)[0]
    shop_records(world, order_id, {item: 1}, tracking_number="see the label")
    shop_records(world, order_id, {item: 1}, tracking_number=desk.FEDEX, carrier="FedEx")
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.FEDEX)
    assert desk.order(world, order_id).exception == "refused"


def test_a_row_that_vouches_for_its_number_is_told_as_it_is(world: World) -> None:
    order_id = desk.sold(world, A=1)
    shop_records(world, order_id, tracking_number="123456789", source="operator")
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", "123456789")


# what 4Seller refuses


def test_one_parcel_that_4seller_refuses_keeps_neither_the_status_nor_the_others_back(world: World) -> None:
    order_id = desk.sold(world, A=3)
    item = items(world, order_id)[0]
    for number, carrier in (("P-1", "Pigeon"), (desk.UPS, "UPS"), ("P-2", "Pigeon")):
        shop_records(world, order_id, {item: 1}, tracking_number=number, carrier=carrier)
    with desk.refused(world, 422, carrier="Pigeon"):
        report = desk.sync(world)
    assert (report.refused, report.shipments) == (2, 1)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert desk.order(world, order_id).exception == "refused"
    told = rows(world.database, "SELECT pushed_at IS NOT NULL FROM order_shipments ORDER BY id")
    assert [bool(one) for (one,) in told] == [False, True, False]


def test_a_refused_parcel_that_the_shop_mends_is_told_at_once(world: World) -> None:
    order_id = desk.sold(world, A=3)
    shop_records(world, order_id, tracking_number="P-1", carrier="Pigeon")
    with desk.refused(world, 422, carrier="Pigeon"):
        desk.sync(world)
        assert world.writes(lambda: desk.tell(world)) == 0
        run(world.database, "UPDATE order_shipments SET carrier = 'UPS', tracking_number = :n", n=desk.UPS)
        desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert (desk.order(world, order_id).exception, desk.sync(world).scanned) == (None, 0)


# corrected


@pytest.mark.parametrize("told", [False, True], ids=["unpushed", "told"])
def test_a_corrected_parcel_is_told_anew_and_ships_nothing_again(world: World, told: bool) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id, desk.FEDEX, "fedex")
    if told:
        desk.sync(world)
    desk.corrects(world, order_id, "9865-7878-8855", "ups", desk.UPS)
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert told_page(world, order_id) == UPS_PAGE
    assert [line.shipped for line in desk.lines(world, order_id)] == [3]
    assert desk.sync(world).scanned == 0


def test_a_refused_number_that_an_operator_corrects_is_told_at_once(world: World) -> None:
    order_id = desk.sold(world, A=3)
    shop_records(world, order_id, tracking_number="P-1", carrier="Pigeon")
    with desk.refused(world, 422, carrier="Pigeon"):
        desk.sync(world)
    desk.corrects(world, order_id, "P-1", "ups", desk.UPS)
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert desk.order(world, order_id).exception is None


def test_a_correction_makes_an_order_due_that_waits_after_failures(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id, desk.FEDEX, "fedex")
    with desk.refused(world, 500, orders=[order_id]):
        for _ in range(3):
            desk.tell(world)
    assert desk.tell(world).scanned == 0
    desk.corrects(world, order_id, desk.FEDEX, "ups", desk.UPS)
    desk.tell(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)


@pytest.mark.parametrize(
    "change",
    ["carrier = 'FedEx', tracking_number = '986578788855'", "tracking_url = 'https://shop.example/1'"],
)
def test_a_told_parcel_that_the_shop_changes_in_the_table_is_told_anew(world: World, change: str) -> None:
    order_id = desk.sold(world, A=2)
    desk.shop_packs(world, order_id, desk.UPS)
    desk.sync(world)
    run(world.database, f"UPDATE order_shipments SET {change}")
    assert desk.sync(world).shipments == 1
    there = (desk.at_4seller(world, order_id)[1], told_page(world, order_id))
    assert there in ((desk.UPS, "https://shop.example/1"), (desk.FEDEX, FEDEX_PAGE))
    assert [line.shipped for line in desk.lines(world, order_id)] == [2]
    run(world.database, f"UPDATE order_shipments SET {change}, source = 'operator'")  # the same as it was
    assert desk.sync(world).scanned == 0


def test_a_correction_names_a_parcel_of_the_order_and_takes_no_others_number(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id, units={1: 1})
    desk.pack(world, order_id, desk.FEDEX, "fedex")
    with pytest.raises(WrongInput, match="no shipment 3318810025"):
        desk.corrects(world, order_id, "3318810025", "ups", desk.UPS)
    with pytest.raises(WrongInput, match="another shipment"):
        desk.corrects(world, order_id, desk.FEDEX, "ups", desk.UPS)
    desk.corrects(world, order_id, desk.FEDEX, "fedex", desk.FEDEX)  # itself is no other
    numbers = rows(world.database, "SELECT tracking_number FROM order_shipments ORDER BY id")
    assert [number for (number,) in numbers] == [desk.UPS, desk.FEDEX]


@pytest.fixture
def shop(sqlite_shop: Database) -> Database:
    """PostgreSQL lets no such value in."""
    return sqlite_shop


ODD = {
    "no number of units": "INSERT INTO order_shipment_lines (shipment_id, order_item_id, quantity) VALUES (1, 1, 'two')",
    "half a unit": "INSERT INTO order_shipment_lines (shipment_id, order_item_id, quantity) VALUES (1, 1, 1.5)",
    "bytes for a number": "UPDATE order_shipments SET tracking_number = x'31'",
    "bytes for a carrier": "UPDATE order_shipments SET carrier = x'31'",
}


@pytest.mark.parametrize("case", ODD)
def test_what_cannot_be_read_is_refused_where_the_shop_writes_it(world: World, case: str) -> None:
    order_id = desk.sold(world, A=2)
    assert desk.shop_packs(world, order_id, desk.UPS) == 1
    with pytest.raises(sa.exc.IntegrityError):
        run(world.database, ODD[case])
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-11-24T10:00:00+01:00", "2026-11-24 09:00"),
        ("2026-11-24", "2026-11-24 00:00"),
        ("2026-02-30", "2026-03-02 00:00"),
        ("2026-11-24 24:00", "2026-11-25 00:00"),
        ("24.11.2026 10:00", None),
        ("0000-00-00 00:00:00", None),
        ("-4000-01-01 00:00:00", None),
        (2026, None),
    ],
)
def test_a_date_is_read_and_one_that_is_none_is_that_of_the_recording(
    world: World, written: str | int, read: str | None
) -> None:
    order_id = desk.sold(world, A=2)
    desk.shop_packs(world, order_id, desk.UPS)
    now = f"{datetime.now(UTC):%Y-%m-%d}"
    run(world.database, "UPDATE order_shipments SET shipped_at = :at", at=written)
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    with world.database.reading() as connection:
        entries = read_timeline(connection, find_order(connection, order_id)).entries
    (shown,) = [f"{entry.at:%Y-%m-%d %H:%M}" for entry in entries if entry.what == "shipment"]
    assert shown == read if read else shown >= now
