"""Two at the same order at the same moment: one of them is first, and what follows is the same as one after the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.carriers import tracking
from midas_pipelines.sandbox.state import Json, Refused, State
from midas_pipelines.store.database import Database
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.shipments import NewShipment, Shipped, record_shipment
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.orders.model.order_log import lock_order
from midas_pipelines.sync.orders.status.status_sync import StatusSyncReport, push_statuses
from midas_pipelines_tests.copies import PATIENT
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

Work = Callable[[SyncContext], object]


def at_once(world: World, *works: Work) -> list[object]:
    """What each of them comes to, begun at the same moment with a database of its own; WrongInput is an end too."""
    barrier = threading.Barrier(len(works), timeout=30)
    ends: list[object] = [None] * len(works)

    def do(place: int, work: Work) -> None:
        with Database(world.database.engine.url, PATIENT) as database:
            barrier.wait()
            try:
                ends[place] = work(SyncContext(world.settings, database))
            except Exception as end:
                ends[place] = end

    threads = [threading.Thread(target=do, args=one) for one in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    strange = [end for end in ends if isinstance(end, Exception) and not isinstance(end, WrongInput)]
    assert strange == []
    return ends


def shipping(row: int, number: str, carrier: str, units: dict[int, int] | None = None) -> Work:
    def work(context: SyncContext) -> object:
        with context.database.writing() as connection:
            return record_shipment(lock_order(connection, row), NewShipment(tracking(carrier, number), units))

    return work


def polling(context: SyncContext) -> object:
    return asyncio.run(import_orders(context))


def telling(context: SyncContext) -> StatusSyncReport:
    return asyncio.run(push_statuses(context))


@pytest.mark.parametrize("answer", ["taken", "refused"])
def test_a_number_that_is_corrected_while_the_old_one_is_sent_is_told_too(world: World, answer: str) -> None:
    order_id = desk.sold(world, A=2)
    desk.pack(world, order_id, "P-1", "Pigeon")
    state = world.sandbox.state

    def move(order: str, word: str, parcel: Json | None = None) -> Json:
        if (parcel or {}).get("number") == "P-1":
            desk.corrects(world, order_id, "P-1", "ups", desk.UPS)
            if answer == "refused":
                raise Refused(422, "refused_by_test", "Not this one.")
        return State.move(state, order, word, parcel)

    state.move = move  # type: ignore[method-assign]
    try:
        desk.tell(world)
        desk.tell(world)
    finally:
        del state.move  # type: ignore[method-assign]
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert (desk.order(world, order_id).exception, desk.tell(world).scanned) == (None, 0)


@pytest.mark.parametrize("turn", range(2))
def test_three_shippers_of_one_parcel_record_it_once(world: World, turn: int) -> None:
    order_id = desk.sold(world, A=3)
    one = shipping(desk.order(world, order_id).id, desk.UPS, "ups")
    ends = at_once(world, one, one, one)
    assert sorted(isinstance(end, Shipped) and end.new for end in ends) == [False, False, True]
    assert [line.shipped for line in desk.lines(world, order_id)] == [3]


@pytest.mark.parametrize("turn", range(2))
def test_two_parcels_for_the_same_units_one_is_refused(world: World, turn: int) -> None:
    order_id = desk.sold(world, A=3)
    row = desk.order(world, order_id).id
    ends = at_once(world, shipping(row, desk.UPS, "ups", {1: 2}), shipping(row, desk.FEDEX, "fedex", {1: 2}))
    assert {type(end) for end in ends} == {Shipped, WrongInput}
    assert [line.shipped for line in desk.lines(world, order_id)] == [2]


@pytest.mark.parametrize("turn", range(2))
def test_a_cancellation_and_a_parcel_end_in_the_one_or_in_a_conflict(world: World, turn: int) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, "cancelled")
    row = desk.order(world, order_id).id
    _, shipped = at_once(world, polling, shipping(row, desk.UPS, "ups"))
    desk.sync(world)
    if isinstance(shipped, Shipped):
        assert (desk.order(world, order_id).exception, desk.on_shelf(world)) == ("conflict", {"A": 7})
        assert desk.shop_status(world, order_id) == "shipped"
    else:
        assert (desk.order(world, order_id).exception, desk.on_shelf(world)) == (None, {"A": 10})
        assert set(desk.sides(world, order_id)) == {"cancelled"}
    desk.assert_whole(world)


@pytest.mark.parametrize("turn", range(2))
def test_a_cancellation_and_the_shops_own_status_end_in_a_conflict(world: World, turn: int) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, "cancelled")
    at_once(world, polling, lambda _: desk.shop_sets(world, order_id, "shipped"))
    desk.sync(world)
    followed = desk.order(world, order_id).status == "cancelled"
    if (
        followed and desk.shop_status(world, order_id) == "cancelled"
    ):  # the shop's word came first, and was overtaken
        pytest.fail("the shop's shipment was forgotten")
    assert desk.order(world, order_id).exception == "conflict"
    assert desk.on_shelf(world) == {"A": 10 if followed else 7}
    desk.assert_whole(world)


def test_three_tellers_tell_each_parcel_and_give_back_each_unit_once(world: World) -> None:
    packed, shops, cancelled, delivered = (desk.sold(world, **{sku: 3}) for sku in "ABCD")
    desk.pack(world, packed)
    desk.shop_packs(world, shops, desk.UPS)
    desk.shop_sets(world, cancelled, "cancelled")
    desk.shop_sets(world, delivered, "delivered")
    world.sandbox.faults.latency_ms = 20
    at_once(world, telling, telling, telling)
    world.sandbox.faults.latency_ms = 0
    desk.a_day_later(world)
    desk.sync(world)
    assert [desk.at_4seller(world, one) for one in (packed, shops)] == [("shipped", desk.UPS)] * 2
    assert [desk.at_4seller(world, one)[0] for one in (cancelled, delivered)] == ["cancelled", "delivered"]
    for order_id in (packed, shops, cancelled, delivered):
        assert desk.order(world, order_id).exception is None
        told = desk.steps(world, order_id)
        assert all(
            told.count(step) <= 1 for step in ("tracking_pushed", "released", "cancelled", "delivered")
        )
    assert desk.on_shelf(world) == {"A": 7, "B": 7, "C": 10, "D": 7}
    desk.assert_whole(world)
