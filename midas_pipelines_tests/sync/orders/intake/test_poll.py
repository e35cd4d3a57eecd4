"""Polls: nothing is passed over, whatever happens between two pages, and however late a row appears."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from midas_pipelines.fourseller.models import Order
from midas_pipelines.fourseller.pages import OrderLists, OrderPage, Page, Rejected
from midas_pipelines.sandbox.state import State
from midas_pipelines.store.operations.cursors import read_cursor
from midas_pipelines.sync.orders.intake.poll import LOOK_BACK, WATERMARK, Window
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.world import World

# one listing, by itself


def page(total: int | None, *ids: str, rejected: int = 0) -> OrderPage:
    """A page of orders with these ids, and of rows without one."""
    unread = [Rejected("id", "It is odd.", {})] * rejected
    return Page([Order(id=name) for name in ids], total, limit=2, rejected=unread)


LISTINGS: dict[str, tuple[list[OrderPage], bool]] = {
    "no page at all": ([], True),
    "nothing": ([page(0)], True),
    "all on one page": ([page(2, "a", "b")], True),
    "all on two": ([page(3, "a", "b"), page(3, "c")], True),
    "one too few": ([page(3, "a", "b"), page(3)], False),
    "one twice, another never": ([page(4, "a", "b"), page(4, "b", "c")], False),
    "more than declared, for a total may be capped": ([page(2, "a", "b"), page(2, "c")], True),
    "no total": ([page(None, "a", "b"), page(None, "c")], True),
    "the total rises": ([page(2, "a", "b"), page(3, "c")], False),
    "the total falls": ([page(4, "a", "b"), page(3, "c")], False),
    "rows without an id": ([page(3, "a", rejected=1), page(3, rejected=1)], True),
}


@pytest.mark.parametrize(("pages", "whole"), LISTINGS.values(), ids=LISTINGS)
def test_whether_a_listing_held_everything(pages: list[OrderPage], whole: bool) -> None:
    listing = OrderLists()
    for one in pages:
        listing.add(one)
    assert listing.whole is whole


def test_both_states_of_an_order_that_a_page_has_twice_are_read() -> None:
    """Of the two the import takes the newer one, in whichever order they stand."""
    lists = OrderLists()
    assert [one.id for one in lists.add(page(2, "a", "b", "a"))] == ["a", "b", "a"]
    assert lists.whole


def test_an_order_is_read_once_and_is_new_to_another_question_that_lists_it_again() -> None:
    lists = OrderLists()
    assert [one.id for one in lists.add(page(2, "a", "b"))] == ["a", "b"]
    lists.start()
    assert [one.id for one in lists.add(page(2, "b", "c"))] == ["c"]
    lists.start()
    assert lists.add(page(1, "b")) == []
    assert [lists.has_new(before=count) for count in (0, 1, 2)] == [True, False, False]
    assert lists.whole


# what changes between two pages

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=30)
Found = list[dict[str, Any]]


def then(minutes: float) -> str:
    """A moment of the last 30 hours."""
    return (START + timedelta(minutes=minutes)).isoformat()


def place(world: World, name: str, placed: float, updated: float | None) -> None:
    """An order of A, dated."""
    dates = {"created_at": then(placed), "updated_at": None if updated is None else then(updated)}
    world.place(("A", 1), id=name, **dates)


def place_many(world: World, count: int, placed: float | None = None) -> None:
    """Orders a minute after one another; all of them placed at one moment where that is given."""
    for number in range(count):
        place(world, f"O-{number:03}", number if placed is None else placed, number)


def between_pages(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[], object],
    order: Callable[[dict[str, Any]], Any],
) -> None:
    """4Seller lists orders in this order, and something happens before the second page of the next listing."""
    state, calls = world.sandbox.state, 0

    def find_orders(**asked: Any) -> Found:
        nonlocal calls
        calls += 1
        if calls == 2:
            act()
        return sorted(State.find_orders(state, **asked), key=order)

    monkeypatch.setattr(state, "find_orders", find_orders)


def missing(world: World) -> set[str]:
    """What 4Seller has and the shop does not."""
    ours = rows(world.database, "SELECT marketplace_order_id FROM marketplace_orders")
    return set(world.sandbox.state.orders) - {name for (name,) in ours}


def oldest_first(order: dict[str, Any]) -> str:
    return str(order["created_at"])


def newest_first(order: dict[str, Any]) -> float:
    return -datetime.fromisoformat(order["created_at"]).timestamp()


def last_changed(order: dict[str, Any]) -> str:
    return str(order["updated_at"] or "9")


def test_an_order_that_arrives_in_front_is_read_by_the_next_poll(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_many(world, 150)
    between_pages(world, monkeypatch, lambda: place(world, "NEW", 200, 200), newest_first)
    world.import_orders()
    assert (missing(world), read_cursor(world.database, WATERMARK)) == ({"NEW"}, None)
    world.import_orders()
    assert (missing(world), read_cursor(world.database, WATERMARK)) == (
        set(),
        datetime.fromisoformat(then(200)),
    )


@pytest.mark.parametrize("also", [None, "an order without a date", "a row without an id"])
def test_an_order_that_moves_to_the_end_hides_none_for_good(
    world: World, monkeypatch: pytest.MonkeyPatch, also: str | None
) -> None:
    world.sync_context(orders_overlap_minutes=0, orders_look_back_hours=0)
    place(world, "FIRST", -100, -1)
    world.import_orders()
    place_many(world, 150, placed=-200)  # found by their change alone
    if also == "an order without a date":
        place(world, "UNDATED", 400, None)  # read by the second listing, and so as many as were declared
    elif also:
        world.sandbox.state.orders["?"] = {"created_at": then(-200), "updated_at": then(20)}

    def move() -> None:
        world.sandbox.state.edit_order("O-005", {"updated_at": then(300)})

    between_pages(world, monkeypatch, move, last_changed)
    world.import_orders()
    assert (
        len(missing(world) - {"?"}) == 1
    )  # it slid from the second page to the first, which was read before
    assert read_cursor(world.database, WATERMARK) == datetime.fromisoformat(then(-1))
    world.import_orders()
    assert missing(world) - {"?"} == set()
    assert read_cursor(world.database, WATERMARK) == datetime.fromisoformat(then(300))


def test_one_gone_and_one_come_is_found_by_the_look_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_many(world, 150)

    def change() -> None:
        del world.sandbox.state.orders["O-005"]
        place(world, "NEW", 500, 500)

    between_pages(world, monkeypatch, change, oldest_first)
    world.import_orders()
    world.import_orders()
    assert missing(world) == {"O-100"}  # the number of orders is what it was: nobody can tell
    paper.move_cursor(world, LOOK_BACK, hours=1)
    world.import_orders()
    assert missing(world) == set()


def test_a_row_without_an_id_does_not_hold_the_watermark(world: World) -> None:
    place_many(world, 3)
    world.sandbox.state.orders["?"] = {"created_at": then(1), "updated_at": then(1)}
    world.import_orders()
    assert read_cursor(world.database, WATERMARK) == datetime.fromisoformat(then(2))


def test_an_order_seen_on_two_pages_is_taken_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    product = add_product(world.database, sku="A", stock_quantity=500)
    place_many(world, 150)
    between_pages(world, monkeypatch, lambda: place(world, "NEW", -1, -1), oldest_first)
    report = world.import_orders()
    assert (report.fetched, report.imported) == (150, 150)
    world.import_orders()
    assert (missing(world), desk.stock(world, product)) == (set(), 349)


# what appears late


def late_order(world: World) -> None:
    """An order older than the watermark appears."""
    place(world, "ON-TIME", 1700, 1700)
    world.import_orders()
    place(world, "LATE", 1000, 1000)


def test_an_order_older_than_the_watermark_is_found_within_the_hour(world: World) -> None:
    late_order(world)
    paper.move_cursor(world, LOOK_BACK, hours=0.9)
    assert [world.import_orders().imported for _ in range(2)] == [0, 0]
    paper.move_cursor(world, LOOK_BACK, hours=0.2)
    assert [world.import_orders().imported for _ in range(2)] == [1, 0]


def test_an_order_older_than_the_watermark_is_taken_when_it_is_told(world: World) -> None:
    late_order(world)
    assert desk.told(world, world.sandbox.state.orders["LATE"]) == ["applied"]
    assert missing(world) == set()


@pytest.mark.parametrize(("hours", "found"), [(0, 0), (2, 0), (48, 1)])
def test_how_far_the_poll_looks_back(world: World, hours: int, found: int) -> None:
    world.sync_context(orders_look_back_hours=hours)
    late_order(world)
    paper.move_cursor(world, LOOK_BACK, hours=1)
    assert world.import_orders().imported == found


def test_a_look_back_that_read_too_little_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_many(world, 150)
    world.import_orders()
    paper.move_cursor(world, LOOK_BACK, hours=2)
    looked = read_cursor(world.database, LOOK_BACK)
    between_pages(world, monkeypatch, lambda: place(world, "NEW", 200, 200), newest_first)
    world.import_orders()
    assert read_cursor(world.database, LOOK_BACK) == looked
    world.import_orders()
    assert (read_cursor(world.database, LOOK_BACK) or START) > (looked or START)


def test_a_backfill_counts_as_no_look_back(world: World) -> None:
    place_many(world, 3)
    world.import_orders(Window(START - timedelta(days=1), datetime.now(UTC)))
    assert read_cursor(world.database, LOOK_BACK) is None


def test_what_was_mended_without_a_new_date_is_taken_by_the_look_back(world: World) -> None:
    place(world, "ON-TIME", 1700, 1700)
    place(world, "BAD", 1000, 1000)
    world.sandbox.state.orders["BAD"]["items"] = "A"
    world.import_orders()
    world.sandbox.state.orders["BAD"]["items"] = [{"sku": "A", "quantity": 1, "price": "10.00"}]
    world.import_orders()
    assert desk.order(world, "BAD").outcome == "quarantined"
    paper.move_cursor(world, LOOK_BACK, hours=1)
    world.import_orders()
    assert (desk.order(world, "BAD").outcome, desk.alerts(world)) == ("imported", [])


# dates ahead of us


def test_a_date_in_the_future_takes_the_watermark_no_further_than_now(world: World) -> None:
    place(world, "NOW", 1790, 1790)
    world.place(("A", 1), id="AHEAD", updated_at="2099-01-01T00:00:00Z")
    world.import_orders()
    assert read_cursor(world.database, WATERMARK) == datetime.fromisoformat(then(1790))
    place(world, "BEHIND", 1785, 1785)
    assert (world.import_orders().imported, missing(world)) == (1, set())


def test_nothing_but_dates_in_the_future_leaves_everything_to_be_read(world: World) -> None:
    world.place(("A", 1), updated_at="2099-01-01T00:00:00Z")
    world.import_orders()
    assert read_cursor(world.database, WATERMARK) is None
    place(world, "LATE", -5000, -5000)
    assert (world.import_orders().imported, missing(world)) == (1, set())


def test_an_order_dated_in_the_future_is_edited_and_cancelled_all_the_same(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    order_id = world.place(("A", 1), updated_at="2099-01-01T00:00:00Z")
    world.import_orders()
    desk.edit(world, order_id, ("A", 4))
    world.import_orders()
    assert desk.stock(world, product) == 5
    world.sandbox.state.move(order_id, "cancelled")
    world.import_orders()
    assert (desk.stock(world, product), desk.order(world, order_id).status) == (9, "cancelled")
    desk.assert_whole(world)
