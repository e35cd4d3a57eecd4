"""What settling, dismissing and withdrawing leave behind: stock, both sides, and what a person is still asked about."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from click.testing import CliRunner

from midas_pipelines.cli import cli
from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.carriers import BadTracking, tracking
from midas_pipelines.sync.orders.changes.shipments import NewShipment
from midas_pipelines.sync.orders.status.status_sync import change_status
from midas_pipelines_tests.shop import run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

UNREADABLE = "see the label"


# withdrawn cancellations


@pytest.mark.parametrize("withdrawn", ["processing", "shipped"])
def test_a_withdrawal_that_moves_the_order_on_ends_the_conflict_too(world: World, withdrawn: str) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id)
    for status in ("cancelled", withdrawn):
        desk.market(world, order_id, status)
        desk.sync(world)
    assert (desk.order(world, order_id).exception, desk.alerts(world)) == (None, [])
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)


def test_a_withdrawal_after_the_conflict_was_settled_is_answered_at_once(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    desk.settle(world, order_id, "shipped")
    desk.sync(world)
    assert desk.order(world, order_id).exception == "refused"
    desk.market(world, order_id, "processing")
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)


@pytest.mark.parametrize("ended", ["cancelled", "refunded"])
def test_a_parcel_of_an_ended_order_is_not_forgotten_when_4seller_touches_the_order(
    world: World, ended: str
) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, ended)
    desk.sync(world)
    desk.shop_packs(world, order_id, desk.UPS)
    desk.sync(world)
    desk.market(world, order_id, ended, note="touched")
    desk.sync(world)
    assert desk.order(world, order_id).exception == "conflict"


def test_a_delivery_that_the_shop_notes_after_a_refund_asks_nobody(world: World) -> None:
    order_id = desk.sold(world, A=3)
    for status in ("shipped", "refunded"):
        desk.market(world, order_id, status)
        desk.sync(world)
    desk.shop_sets(world, order_id, "delivered")
    desk.sync(world)
    assert (desk.order(world, order_id).exception, desk.alerts(world)) == (None, [])


# what settling does


def test_settled_as_shipped_what_the_marketplace_has_shipped_is_shipped_in_the_shop_too(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_sets(world, order_id, "cancelled")
    desk.market(world, order_id, "shipped")
    desk.sync(world)
    desk.settle(world, order_id, "shipped")
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"shipped"}
    assert desk.order(world, order_id).exception is None


@pytest.mark.parametrize("by", ["a parcel", "a status"])
def test_settled_as_shipped_a_refunded_order_stays_settled(world: World, by: str) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, "refunded")
    desk.sync(world)
    if by == "a parcel":
        desk.shop_packs(world, order_id, desk.UPS)
    else:
        desk.shop_sets(world, order_id, "shipped")
    desk.sync(world)
    desk.settle(world, order_id, "shipped")
    desk.sync(world)
    assert "conflict" not in (desk.order(world, order_id).exception or "")


@pytest.mark.parametrize("who", ["the shop cancelled", "the marketplace withdrew"])
def test_settled_as_cancelled_the_marketplace_learns_of_it_or_a_person_sees_that_it_did_not(
    world: World, who: str
) -> None:
    order_id = desk.sold(world, A=3)
    if who == "the shop cancelled":
        desk.pack(world, order_id, units={1: 2})
        desk.sync(world)
        desk.shop_sets(world, order_id, "cancelled")
    else:
        desk.market(world, order_id, "cancelled")
        desk.sync(world)
        desk.market(world, order_id, "processing")
    desk.sync(world)
    desk.settle(world, order_id, "cancelled", restock=True)
    desk.sync(world)
    agreed = set(desk.sides(world, order_id)) == {"cancelled"}
    assert agreed or desk.order(world, order_id).exception


@pytest.mark.parametrize("by", ["a parcel", "a status"])
def test_settled_as_cancelled_without_restock_what_left_is_not_on_the_shelf(world: World, by: str) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    if by == "a parcel":
        desk.shop_packs(world, order_id, desk.UPS)
    else:
        desk.shop_sets(world, order_id, "shipped")
    desk.sync(world)
    desk.settle(world, order_id, "cancelled")
    assert desk.on_shelf(world) == {"A": 7}


@pytest.mark.parametrize("returned", [0, 1])
def test_settled_as_cancelled_what_left_before_it_was_paid_back_stays_away(
    world: World, returned: int
) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_sets(world, order_id, "shipped")
    desk.sync(world)
    desk.come_back(world, order_id, {1: returned})
    desk.market(world, order_id, "refunded")
    desk.sync(world)
    desk.shop_sets(world, order_id, "delivered")
    desk.sync(world)
    with suppress(WrongInput):
        desk.settle(world, order_id, "cancelled")
    assert desk.on_shelf(world) == {"A": 7 + returned}


def test_settled_as_cancelled_after_a_part_was_packed_the_lines_add_up(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id, units={1: 2})
    desk.market(world, order_id, "shipped")
    desk.sync(world)
    desk.shop_sets(world, order_id, "cancelled")
    desk.sync(world)
    desk.settle(world, order_id, "cancelled")
    desk.assert_whole(world)


def test_settled_as_shipped_what_was_sold_to_others_meanwhile_the_lines_add_up(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    world.place(("A", 10))
    desk.shop_packs(world, order_id, desk.UPS)
    desk.sync(world)
    desk.settle(world, order_id, "shipped")
    desk.assert_whole(world)


def test_during_a_conflict_an_edit_and_its_opposite_free_no_stock(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id, units={1: 2})
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    for units in (5, 3):
        desk.edit(world, order_id, ("A", units))
        desk.sync(world)
    assert desk.order(world, order_id).exception == "conflict,edited"
    assert desk.on_shelf(world) == {"A": 7}


# refusals


def test_a_parcel_that_4seller_refused_is_shown_until_it_is_told(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_packs(world, order_id, "P-1", "Pigeon")
    with desk.refused(world, 422, carrier="Pigeon"):
        desk.sync(world)
        assert desk.order(world, order_id).exception == "refused"
        desk.sync(world)
    assert desk.order(world, order_id).exception == "refused"


def test_a_number_that_is_none_is_shown_after_a_poll_too(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_packs(world, order_id, UNREADABLE)
    desk.sync(world)
    world.import_orders()
    assert desk.order(world, order_id).exception == "refused"


@pytest.mark.parametrize("refused", ["a number", "a status"])
def test_a_refusal_that_was_dismissed_stays_so(world: World, refused: str) -> None:
    order_id = desk.sold(world, A=3)
    if refused == "a number":
        desk.shop_packs(world, order_id, UNREADABLE)
    else:
        desk.pack(world, order_id)
        desk.market(world, order_id, "cancelled")
        desk.sync(world)
        desk.settle(world, order_id, "shipped")
    desk.sync(world)
    assert desk.dismissed(world, order_id) == ["refused"]
    desk.a_day_later(world)
    desk.sync(world)
    assert desk.order(world, order_id).exception is None


def test_a_parcel_that_fails_again_and_again_waits_longer_each_time(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_packs(world, order_id, UNREADABLE)
    desk.sync(world)  # shipped on both sides, and refused
    run(world.database, "UPDATE order_shipments SET tracking_number = :number", number=desk.UPS)
    with desk.refused(world, 500, orders=[order_id]):
        for _ in range(3):
            assert desk.tell(world).failed == 1
            desk.a_day_later(world)
    assert desk.order(world, order_id).push_attempts == 3


# on the screen


@pytest.mark.parametrize("field", ["id", "sales_channel"])
def test_no_word_of_the_marketplaces_moves_the_cursor(world: World, field: str) -> None:
    world.place(("A", 1), **{field: "X\x1b[2J"})
    world.import_orders()
    url = {"MIDAS_DATABASE_URL": world.settings.database().render_as_string(hide_password=False)}
    local = str(value(world.database, "SELECT local_order_id FROM marketplace_orders"))
    shown = CliRunner().invoke(cli, ["orders", "show", local], env=url, color=True)
    assert shown.exit_code == 0
    assert "\x1b" not in shown.output


# parcels


def test_during_a_conflict_the_gateway_tells_nothing_either(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id, units={1: 2})
    desk.shop_sets(world, order_id, "cancelled")
    desk.sync(world)
    assert desk.order(world, order_id).exception == "conflict"
    with suppress(WrongInput):
        asyncio.run(
            change_status(world.sync_context(), order_id, shipment=NewShipment(tracking("ups", desk.UPS)))
        )
    assert desk.at_4seller(world, order_id) == ("pending", None)


def test_a_correction_to_the_number_of_a_new_row_of_the_shops_is_refused_in_words(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id, desk.FEDEX, "fedex", units={1: 1})
    desk.shop_packs(world, order_id, desk.UPS)
    with pytest.raises(WrongInput, match="another shipment"):
        desk.corrects(world, order_id, desk.FEDEX, "ups", desk.UPS)


@pytest.mark.parametrize("number", ["AB\n12", "AB\t12", "1 " * 80])
def test_a_number_of_an_unknown_carrier_is_told_whole_and_in_one_line(number: str) -> None:
    try:
        told = tracking("Pigeon", number).number
    except BadTracking:
        return
    assert told is not None
    assert told.isprintable()
    assert len("".join(told.split())) == len("".join(number.split()))
