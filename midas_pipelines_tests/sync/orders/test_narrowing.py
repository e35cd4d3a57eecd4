"""Lists that refuse deep offsets, or what is too long ago: narrowed by date, and what is new always comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadItem
from midas_pipelines.fourseller.models import Order
from midas_pipelines.fourseller.pages import OrderLists, OrderPage, Page
from midas_pipelines.sync.orders.intake.pages import OrderPages, OrderReport
from midas_pipelines.sync.orders.intake.poll import Narrowing
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

NOW = datetime.now(UTC)


class Hub:
    """Orders, one an hour, in pages of ten; a page past `deepest` is refused, and whatever is asked before `oldest`."""

    def __init__(
        self, orders: int, *, deepest: int = 10**6, oldest: timedelta = timedelta(days=10**4)
    ) -> None:
        moments = [NOW - timedelta(hours=number) for number in range(orders)]
        self.orders = [Order(id=str(n), created_at=at, updated_at=at) for n, at in enumerate(moments)]
        self.deepest, self.oldest, self.calls = deepest, oldest, 0

    async def order_pages(
        self,
        *,
        updated_from: datetime | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
    ) -> AsyncIterator[OrderPage]:
        early, late = updated_from or date_from or NOW - self.oldest, date_to or NOW
        found = [
            one
            for one in self.orders
            if one.created_at and max(early, date_from or early) <= one.created_at <= late
        ]
        for offset in range(0, max(1, len(found)), 10):
            self.calls += 1
            if offset > self.deepest or early < NOW - self.oldest - timedelta(seconds=9):
                raise BadItem("4Seller refused it.", status=400)
            yield Page(found[offset : offset + 10], len(found), 10)


class Seen:
    """What an intake remembers of listings."""

    next_listing = OrderPages.next_listing

    def __init__(self) -> None:
        self.read_all, self.report = True, OrderReport()
        self._declared, self.lists = 0, OrderLists()


def read(hub: Hub, **asked: Any) -> tuple[set[int], bool]:
    """The numbers of the orders that were read, and whether that was everything."""
    seen, numbers = Seen(), set()

    async def work() -> None:
        narrowing = Narrowing(cast("FourSeller", hub), cast("OrderPages", seen))
        async for page in narrowing.pages(**asked):
            seen.lists.add(page)
            numbers.update(int(one.id) for one in page.data)

    asyncio.run(work())
    return numbers, seen.read_all and not seen.report.incomplete


@pytest.mark.parametrize("question", ["updated_from", "date_from"])
@pytest.mark.parametrize("deepest", [0, 20, 50])
def test_a_refused_offset_is_read_in_narrower_spans(question: str, deepest: int) -> None:
    hub = Hub(120, deepest=deepest)
    assert read(hub, **{question: NOW - timedelta(days=6)}) == (set(range(120)), True)
    assert hub.calls < 400


@pytest.mark.parametrize("question", ["updated_from", "date_from"])
def test_what_is_too_far_back_is_left_and_nothing_moves_past_it(question: str) -> None:
    hub = Hub(120, oldest=timedelta(days=2))
    numbers, whole = read(hub, **{question: NOW - timedelta(days=5)})
    assert set(range(24)) <= numbers
    assert not whole
    assert hub.calls < 100


def test_what_is_not_refused_is_one_question() -> None:
    hub = Hub(20)
    assert (read(hub, updated_from=NOW - timedelta(days=1)), hub.calls) == ((set(range(20)), True), 2)


CUTS = {  # what a hub does to its lists, how many of 130 orders come in, and whether staff are alerted
    ("first-page-only",): (130, False),
    ("first-page-only", "capped-totals=50"): (130, False),
    ("short-lists=10",): (120, True),
    ("capped-totals=60", "short-lists=10"): (120, True),
}


@pytest.mark.parametrize("habits", CUTS)
def test_a_list_that_is_cut_or_repeats_is_read_by_date_and_never_fails(
    world: World, habits: tuple[str, ...]
) -> None:
    add_product(world.database, sku="A", stock_quantity=1000)
    for number in range(130):
        at = (NOW - timedelta(minutes=5 * number)).isoformat()
        order = world.place(("A", 1))
        world.sandbox.state.orders[order] |= {"created_at": at, "updated_at": at}
    world.habits(*habits)
    come, alerted = CUTS[habits]
    assert (world.import_orders().imported, desk.alerts(world) == ["orders_incomplete"]) == (come, alerted)
    world.habits()
    assert (world.import_orders().imported, desk.alerts(world)) == (130 - come, [])


def test_orders_of_one_minute_behind_a_repeated_page_are_alerted_and_the_cursor_waits(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=1000)
    for _ in range(110):
        order = world.place(("A", 1))
        world.sandbox.state.orders[order] |= {"created_at": NOW.isoformat(), "updated_at": NOW.isoformat()}
    world.habits("first-page-only")
    assert (world.import_orders().imported, desk.alerts(world)) == (100, ["orders_incomplete"])
    world.habits()
    assert (world.import_orders().imported, desk.alerts(world)) == (10, [])
