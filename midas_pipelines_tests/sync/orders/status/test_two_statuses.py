"""The shop's status and the marketplace's: whoever is behind follows, whoever went another way is shown to a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.status.status_sync import push_statuses
from midas_pipelines_tests.shop import run
from midas_pipelines_tests.sync.machine import Killed, Life, MortalDatabase
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

Act = Callable[[World, str], object]


def shop_says(status: str) -> Act:
    return lambda world, order_id: desk.shop_sets(world, order_id, status)


def packs(world: World, order_id: str) -> None:
    desk.pack(world, order_id)


# who is ahead

AHEAD: dict[str, tuple[Act, str, tuple[str, str | None]]] = {
    "shipped by its status": (shop_says("shipped"), "processing", ("shipped", None)),
    "shipped by a parcel": (packs, "processing", ("shipped", desk.UPS)),
    "delivered": (shop_says("delivered"), "shipped", ("delivered", None)),
    "cancelled": (shop_says("cancelled"), "processing", ("cancelled", None)),
}


@pytest.mark.parametrize(("act", "reported", "ends"), AHEAD.values(), ids=AHEAD)
def test_a_shop_that_is_ahead_stays_and_4seller_is_told(
    world: World, act: Act, reported: str, ends: tuple[str, str | None]
) -> None:
    order_id = desk.sold(world, A=3)
    act(world, order_id)
    desk.market(world, order_id, reported)
    assert desk.sync(world).pushed == 1
    assert desk.at_4seller(world, order_id) == ends
    assert set(desk.sides(world, order_id)) == {ends[0]}
    assert desk.sync(world).scanned == 0
    assert desk.order(world, order_id).exception is None


@pytest.mark.parametrize("reported", ["processing", "shipped", "delivered", "cancelled"])
def test_a_marketplace_that_is_ahead_is_followed_and_told_nothing(world: World, reported: str) -> None:
    order_id = desk.sold(world, A=3)
    desk.market(world, order_id, reported)
    report = desk.sync(world)
    assert (report.updated, report.scanned, report.pushed) == (1, 0, 0)
    assert set(desk.sides(world, order_id)) == {reported}
    assert desk.on_shelf(world) == {"A": 10 if reported == "cancelled" else 7}


def test_quick_moves_of_the_shop_are_told_step_by_step(world: World) -> None:
    order_id = desk.sold(world, A=1)
    for status in ("processing", "shipped", "delivered"):
        desk.shop_sets(world, order_id, status)
    assert desk.sync(world).pushed == 1
    assert desk.steps(world, order_id)[2:] == ["processing", "shipped", "delivered"]


def test_a_move_that_the_shop_takes_back_before_it_is_told_never_was(world: World) -> None:
    order_id = desk.sold(world, A=1)
    for status in ("shipped", "processing"):
        desk.shop_sets(world, order_id, status)
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"processing"}
    assert desk.order(world, order_id).exception is None


def test_a_refund_by_the_shops_own_word_is_told_and_frees_the_stock(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_sets(world, order_id, "refunded")
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"refunded"}
    assert desk.on_shelf(world) == {"A": 10}
    assert desk.sync(world).scanned == 0


# echoes of our own calls


@pytest.mark.parametrize("act", [shop_says("shipped"), packs], ids=["a status", "a parcel"])
def test_killed_anywhere_between_a_call_and_its_note_both_sides_meet(world: World, act: Act) -> None:
    life = Life()
    mortal = MortalDatabase(world.database.engine.url)
    mortal.life = life
    for moment in range(3, 9):  # before, in and after the notes of the two calls
        order_id = desk.sold(world, **{f"A{moment}": 1})
        act(world, order_id)
        life.end_after(moment)
        with pytest.raises(Killed):
            asyncio.run(push_statuses(SyncContext(world.settings, mortal)))
        desk.sync(world)
        desk.sync(world)
        assert set(desk.sides(world, order_id)) == {"shipped"}, moment
        assert desk.order(world, order_id).exception is None, moment
        assert desk.steps(world, order_id).count("tracking_pushed") == (act is packs), moment
    life.end_after(None)
    mortal.close()
    desk.assert_whole(world)


@pytest.mark.parametrize("calls_before", [0, 1])
def test_an_answer_that_is_lost_after_the_call_was_applied_moves_nobody_back(
    world: World, calls_before: int
) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id)
    world.sandbox.faults.script([*[None] * calls_before, *["reset-after-apply"] * 3])
    assert desk.tell(world).failed == 1
    desk.a_day_later(world)
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"shipped"}
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)
    assert desk.steps(world, order_id).count("tracking_pushed") == 1
    assert (desk.sync(world).scanned, desk.on_shelf(world)) == (0, {"A": 7})


def test_an_event_of_our_own_call_that_overtakes_its_answer_moves_nobody_back(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.pack(world, order_id)
    for status in ("processing", "shipped"):
        desk.market(world, order_id, status)
        assert desk.told(world, world.sandbox.state.orders[order_id]) == ["applied"]
        assert desk.shop_status(world, order_id) == "shipped"
    desk.sync(world)
    assert desk.at_4seller(world, order_id) == ("shipped", desk.UPS)


# different ways


def test_the_shop_cancels_what_the_marketplace_ships(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_sets(world, order_id, "cancelled")
    desk.market(world, order_id, "shipped")
    desk.sync(world)
    assert desk.sides(world, order_id) == ("shipped", "cancelled", "shipped")
    assert desk.order(world, order_id).exception == "conflict"
    assert (desk.alerts(world), desk.on_shelf(world)) == (["order_conflict"], {"A": 7})


def test_the_marketplace_cancels_what_the_shop_ships(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_sets(world, order_id, "shipped")
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    assert desk.sides(world, order_id) == ("pending", "shipped", "cancelled")
    assert desk.order(world, order_id).exception == "conflict"
    assert (desk.alerts(world), desk.on_shelf(world)) == (["order_conflict"], {"A": 7})


def test_both_cancel_at_once_and_the_stock_comes_back_once(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_sets(world, order_id, "cancelled")
    desk.market(world, order_id, "cancelled")
    assert desk.sync(world).refused == 0
    assert desk.sync(world).scanned == 0
    assert set(desk.sides(world, order_id)) == {"cancelled"}
    assert (desk.order(world, order_id).exception, desk.on_shelf(world)) == (None, {"A": 10})
    assert desk.steps(world, order_id).count("released") == 1


# what cannot be told


def test_a_word_that_is_none_of_the_marketplaces_is_refused_until_the_shop_mends_it(world: World) -> None:
    words = ["Shipped", "completed", "canceled", "on-hold", "ships 🚚"]
    orders = {word: desk.sold(world, **{word: 1}) for word in words}
    for word, order_id in orders.items():
        desk.shop_sets(world, order_id, word)
    assert desk.sync(world).refused == len(words)
    assert desk.sync(world).scanned == 0
    for word, order_id in orders.items():
        assert desk.order(world, order_id).exception == "refused", word
        assert desk.at_4seller(world, order_id)[0] == "pending", word
        desk.shop_sets(world, order_id, "shipped")
    assert desk.sync(world).pushed == len(words)
    assert {desk.order(world, order_id).exception for order_id in orders.values()} == {None}


BACKWARD = {
    "shipped": ["pending", "processing"],
    "delivered": ["shipped", "processing"],
    "cancelled": ["pending", "processing"],
}
BACK = [(before, after) for before, words in BACKWARD.items() for after in words]


def test_a_move_backward_is_refused_until_both_agree_again(world: World) -> None:
    orders = desk.sold_each(world, map(" ".join, BACK))
    moves = [(order_id, *back) for order_id, back in zip(orders.values(), BACK, strict=True)]
    for order_id, before, _ in moves:
        desk.shop_sets(world, order_id, before)
    desk.sync(world)
    for order_id, _, after in moves:
        desk.shop_sets(world, order_id, after)
    assert desk.sync(world).refused == len(moves)
    desk.sync(world)
    for order_id, before, _ in moves:
        assert desk.order(world, order_id).exception == "refused", before
        assert desk.steps(world, order_id).count("refused_transition") == 1, before
        assert desk.at_4seller(world, order_id)[0] == before
        desk.shop_sets(world, order_id, before)
    desk.sync(world)
    assert {desk.order(world, order_id).exception for order_id in orders.values()} == {None}


@pytest.mark.parametrize("who", ["the shop", "the marketplace"])
def test_a_refusal_ends_when_either_side_goes_on(world: World, who: str) -> None:
    order_id = desk.sold(world, A=1)
    for status in ("shipped", "processing"):
        desk.shop_sets(world, order_id, status)
        desk.sync(world)
    assert desk.order(world, order_id).exception == "refused"
    if who == "the shop":
        desk.shop_sets(world, order_id, "delivered")
    else:
        desk.market(world, order_id, "delivered")
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"delivered"}
    assert desk.order(world, order_id).exception is None


@pytest.mark.parametrize("status", [404, 409, 422])
def test_what_4seller_does_not_take_is_shown_and_tried_again_a_day_later(world: World, status: int) -> None:
    order_id = desk.sold(world, A=1)
    desk.shop_sets(world, order_id, "shipped")
    with desk.refused(world, status, orders=[order_id]):
        assert desk.sync(world).refused == 1
    assert desk.order(world, order_id).exception == "refused"
    assert desk.sync(world).scanned == 0
    desk.a_day_later(world)
    assert desk.sync(world).pushed == 1
    assert (desk.at_4seller(world, order_id)[0], desk.order(world, order_id).exception) == ("shipped", None)


@pytest.mark.both_databases
@pytest.mark.parametrize("meanwhile", [False, True], ids=["after the refusal", "while it is refused"])
def test_another_status_of_the_shop_than_the_refused_one_is_pushed_at_once(
    world: World, meanwhile: bool
) -> None:
    order_id, state = desk.sold(world, A=1), world.sandbox.state
    desk.shop_sets(world, order_id, "processing")

    def move(*told: Any) -> Any:
        if meanwhile:
            desk.shop_sets(world, order_id, "cancelled")
        return refuse(*told)

    with desk.refused(world, 422, orders=[order_id]):
        refuse, state.move = state.move, move  # type: ignore[method-assign]
        desk.sync(world)
    assert desk.order(world, order_id).exception == (None if meanwhile else "refused")
    desk.shop_sets(world, order_id, "cancelled")
    desk.sync(world)
    assert set(desk.sides(world, order_id)) == {"cancelled"}
    assert desk.order(world, order_id).exception is None


# late words


def test_an_older_event_moves_neither_side_back(world: World) -> None:
    order_id = desk.sold(world, A=1)
    before = dict(world.sandbox.state.orders[order_id])
    desk.shop_sets(world, order_id, "shipped")
    desk.sync(world)
    desk.sync(world)
    assert desk.told(world, before | {"status": "processing"}) == ["superseded"]
    assert set(desk.sides(world, order_id)) == {"shipped"}
    assert desk.sync(world).scanned == 0


def test_an_older_event_after_a_cancellation_asks_nobody(world: World) -> None:
    order_id = desk.sold(world, A=3)
    before = dict(world.sandbox.state.orders[order_id])
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    for status in ("pending", "processing"):
        assert desk.told(world, before | {"status": status}) == ["superseded"]
    assert (desk.order(world, order_id).exception, desk.on_shelf(world)) == (None, {"A": 10})


def test_an_order_that_the_shop_has_deleted_is_shown_and_nothing_is_told_of_it(world: World) -> None:
    order_id = desk.sold(world, A=3)
    desk.shop_sets(world, order_id, "shipped")
    run(world.database, "DELETE FROM orders")
    assert desk.sync(world).scanned == 0
    assert desk.order(world, order_id).exception == "deleted"
    assert desk.at_4seller(world, order_id) == ("pending", None)
    desk.market(world, order_id, "cancelled")
    desk.sync(world)
    assert desk.on_shelf(world) == {"A": 10}
