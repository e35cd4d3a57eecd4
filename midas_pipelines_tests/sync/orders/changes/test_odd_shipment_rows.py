"""What SQLite lets the shop's own code write into the rows of a parcel: it waits for a person, or does not matter."""

from __future__ import annotations

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines.sync.orders.lookup import find_order, read_timeline
from midas_pipelines_tests.shop import run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def shop(sqlite_shop: Database) -> Database:
    """PostgreSQL lets no such value in."""
    return sqlite_shop


ODD = {
    "no number of units": (
        "INSERT INTO order_shipment_lines (shipment_id, order_item_id, quantity) VALUES (:parcel, :item, 'two')",
        "UPDATE order_shipment_lines SET quantity = 2",
    ),
    "bytes for a number": (
        "UPDATE order_shipments SET tracking_number = x'31' WHERE id = :parcel AND :item > 0",
        f"UPDATE order_shipments SET tracking_number = '{desk.UPS}'",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_a_row_that_cannot_be_read_waits_for_a_person_and_stops_no_other_order(
    world: World, case: str
) -> None:
    spoil, mend = ODD[case]
    odd, other = desk.sold(world, A=2), desk.sold(world, B=2)
    parcel = desk.shop_packs(world, odd, desk.UPS)
    run(world.database, spoil, parcel=parcel, item=desk.lines(world, odd)[0].order_item_id)
    desk.shop_packs(world, other, desk.UPS)
    for _ in range(2):
        desk.sync(world)
    assert desk.at_4seller(world, other) == ("shipped", desk.UPS)
    assert (desk.at_4seller(world, odd)[1], desk.order(world, odd).exception) == (None, "refused")
    assert desk.steps(world, odd).count("tracking_refused") == 1
    run(world.database, mend)
    desk.sync(world)
    assert desk.at_4seller(world, odd) == ("shipped", desk.UPS)
    assert (desk.order(world, odd).exception, desk.sync(world).scanned) == (None, 0)


def test_a_date_that_is_none_stops_neither_the_parcel_nor_its_story(world: World) -> None:
    order_id = desk.sold(world, A=2)
    desk.shop_packs(world, order_id, desk.UPS)
    run(world.database, "UPDATE order_shipments SET shipped_at = '24.11.2026 10:00'")
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    with world.database.reading() as connection:
        told = read_timeline(connection, find_order(connection, order_id)).entries
    assert ["cannot be read" in entry.detail for entry in told if entry.what == "parcel"] == [True]
