"""What came later: by polls what 4Seller has now, by events their dates; clocks differ, and dates are missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from midas_pipelines.fourseller.models import read_order
from midas_pipelines.sandbox.state import now_text
from midas_pipelines.sync.orders.intake.batch import import_batch, read_orders
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, order_json
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import VAULT


def at(hour: int | None, quantity: int = 2, **fields: Any) -> Raw:
    """An order as it was at that hour of its day; without a date for None."""
    updated = None if hour is None else f"2026-01-02T{hour:02}:00:00Z"
    return order_json(quantity=quantity, updated_at=updated, **fields)


def away(minutes: float) -> str:
    """So many minutes from now."""
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


def quantity(world: World) -> int:
    """What the order asks for, and has."""
    (line,) = desk.lines(world, "X-1")
    assert line.allocated - line.released == line.quantity
    return int(line.quantity)


def poll(world: World, raw: Raw, asked: datetime) -> None:
    """A poll that began then reads the order."""
    context = world.sync_context()
    import_batch(context, read_orders([read_order(raw)], VAULT, since=None, read_at=asked), VAULT)


# events: only their dates tell

EVENTS: dict[str, tuple[list[Raw], int, list[str]]] = {
    "each later than the one before": ([at(4), at(5, 7)], 7, ["applied", "applied"]),
    "of the same moment": ([at(4), at(4, 7)], 7, ["applied", "applied"]),
    "the second late": ([at(9), at(5, 7)], 2, ["applied", "superseded"]),
    "the third older than a repetition": ([at(4), at(10), at(5, 7)], 2, ["applied", "applied", "superseded"]),
    "an undated repetition, then a late one": (
        [at(9), at(None, status="processing"), at(5, 7)],
        2,
        ["applied", "applied", "superseded"],
    ),
    "a change without a date": ([at(9), at(None, 7)], 2, ["applied", "applied"]),
    "a date at last": ([at(None), at(5, 7)], 7, ["applied", "applied"]),
    "never a date": ([at(None), at(None, 7)], 7, ["applied", "applied"]),
    "the third older than the first, not than the second": (
        [at(9), at(5, status="processing"), at(7, 7)],
        2,
        ["applied", "superseded", "superseded"],
    ),
    "an edit taken back": ([at(4), at(5, 7), at(6)], 2, ["applied", "applied", "applied"]),
    "late, and told again": ([at(9), at(5, 7), at(5, 7)], 2, ["applied", "superseded", "superseded"]),
}


@pytest.mark.parametrize(("events", "ends", "how"), EVENTS.values(), ids=EVENTS)
def test_events_one_after_the_other(world: World, events: list[Raw], ends: int, how: list[str]) -> None:
    product = add_product(world.database, sku="A", stock_quantity=50)
    assert [desk.told(world, event) for event in events] == [[one] for one in how]
    assert (quantity(world), desk.stock(world, product)) == (ends, 50 - ends)
    desk.assert_whole(world)


@pytest.mark.parametrize("hour", [4, None])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("words", [("cancelled", "pending"), ("pending", "cancelled")])
def test_of_one_moment_the_status_that_is_further_holds(
    world: World, words: tuple[str, str], known: bool, hour: int | None
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    if known:
        desk.told(world, at(hour))
    desk.told(world, *(at(hour, status=word) for word in words))
    assert (desk.order(world, "X-1").status, desk.stock(world, product)) == ("cancelled", 10)
    desk.assert_whole(world)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_events_of_one_batch_in_any_order_end_the_same(world: World, order: tuple[int, ...]) -> None:
    product = add_product(world.database, sku="A", stock_quantity=50)
    events = [at(4), at(5, 7, status="processing"), at(6, 3, status="processing")]
    desk.told(world, *(events[place] for place in order))
    assert (desk.order(world, "X-1").status, quantity(world)) == ("processing", 3)
    assert desk.stock(world, product) == 47


def test_a_cancellation_from_a_slower_clock_is_a_cancellation(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    desk.told(world, order_json(quantity=2, updated_at=away(5)))
    assert desk.told(world, order_json(quantity=2, status="cancelled", updated_at=away(2))) == ["superseded"]
    assert (desk.order(world, "X-1").status, desk.stock(world, product)) == ("cancelled", 5)


def test_the_day_it_was_placed_is_the_one_that_any_state_names(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    without = at(3) | {"created_at": None}
    assert desk.told(world, without, at(5, status="cancelled")) == ["superseded", "applied"]
    assert (desk.order(world, "X-1").status, desk.stock(world, product)) == ("cancelled", 10)
    assert desk.order(world, "X-1").placed_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


REOPENED: dict[str, tuple[int | None, str | None]] = {
    "earlier": (3, None),
    "without a date": (None, None),
    "later": (9, "conflict"),
}


@pytest.mark.parametrize(("hour", "exception"), REOPENED.values(), ids=REOPENED)
def test_an_order_that_is_open_again_after_its_cancellation(
    world: World, hour: int | None, exception: str | None
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    for event in (at(4), at(5, status="cancelled"), at(hour, status="processing")):
        desk.told(world, event)
    assert (desk.order(world, "X-1").status, desk.order(world, "X-1").exception) == ("cancelled", exception)
    assert desk.stock(world, product) == 5


# polls: what 4Seller has now


@pytest.mark.parametrize("minutes", [-3000, 3, None], ids=["older", "a little older", "none"])
def test_what_a_poll_reads_is_later_whatever_its_date(world: World, minutes: int | None) -> None:
    product = add_product(world.database, sku="A", stock_quantity=50)
    placed, updated = away(-1), None if minutes is None else away(minutes)
    paper.polled(world, order_json(quantity=2, created_at=placed, updated_at=away(5)))
    paper.polled(world, order_json(quantity=5, created_at=placed, updated_at=updated))
    assert (quantity(world), desk.stock(world, product)) == (5, 45)
    desk.assert_whole(world)


def test_two_edits_of_one_moment_are_both_followed(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=50)
    order_id, then = world.place(("A", 2)), now_text()
    for count in (5, 7):
        world.import_orders()
        desk.edit(world, order_id, ("A", count), updated_at=then)
    world.import_orders()
    assert [line.quantity for line in desk.lines(world, order_id)] == [7]
    desk.assert_whole(world)


def test_a_poll_that_began_before_an_event_came_does_not_undo_it(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=50)
    desk.told(world, at(4))
    asked = world.database.now() - timedelta(seconds=1)
    desk.told(world, at(5, 7))
    poll(world, at(4), asked)
    assert (quantity(world), desk.stock(world, product)) == (7, 43)
    poll(world, at(4), world.database.now())
    assert (quantity(world), desk.stock(world, product)) == (2, 48)


def test_an_event_that_was_late_is_found_by_the_next_poll(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=50)
    placed = away(-1)
    paper.polled(world, order_json(quantity=2, created_at=placed, updated_at=away(10)))
    edited = order_json(quantity=7, created_at=placed, updated_at=away(0))
    assert desk.told(world, edited) == ["superseded"]
    assert quantity(world) == 2
    paper.polled(world, edited)
    assert quantity(world) == 7


def test_a_late_status_is_noted_once_and_takes_nothing_back(world: World) -> None:
    add_product(world.database, sku="A")
    desk.told(world, at(4, status="shipped"))
    for _ in range(3):
        desk.told(world, at(3, status="processing"))
    assert desk.order(world, "X-1").status == "shipped"
    assert desk.steps(world, "X-1").count("late") == 1


ODD_DATES = ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-01-02", "2026-01-02 03:04:05"]


def test_a_date_that_nobody_means_harms_nothing(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    odd = [order_json(order_id=date, created_at=date, updated_at=date) for date in ODD_DATES]
    assert desk.told(world, *odd, order_json()) == ["applied"] * (len(odd) + 1)
    desk.told(world, *(one | {"status": "processing"} for one in odd))
    assert {desk.order(world, date).status for date in ODD_DATES} == {"processing"}
    assert desk.order(world, "X-1").status == "pending"
