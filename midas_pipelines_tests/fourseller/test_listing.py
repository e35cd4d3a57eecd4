"""A listing is complete only when nothing can be missing: absence is not zero."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from midas_pipelines.fourseller import pages
from midas_pipelines.fourseller.errors import ContractBroken, Unavailable
from midas_pipelines_tests.fourseller.channel import channel, every, use

pytestmark = pytest.mark.usefixtures("quick")
COUNT = 250
Turn = Callable[[int, dict[str, Any]], Any]


def shelf(turn: Turn, cap: int = 100, count: int = COUNT) -> httpx.MockTransport:
    """`count` products in pages; `turn(offset, page)` gives the page as it is answered."""

    def handle(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        rows = [{"id": f"P{n}", "sku": f"S{n}"} for n in range(offset, min(count, offset + cap))]
        page = turn(offset, {"data": rows, "total": count, "limit": cap, "offset": offset})
        return page if isinstance(page, httpx.Response) else httpx.Response(200, json=page)

    return httpx.MockTransport(handle)


def as_it_is(_: int, page: dict[str, Any]) -> dict[str, Any]:
    return page


@pytest.mark.parametrize(("cap", "calls"), [(100, 3), (40, 7), (50, 6), (250, 2)])
def test_a_whole_listing_is_complete(cap: int, calls: int) -> None:
    client = channel(transport=shelf(as_it_is, cap))
    listing = use(client, lambda c: c.listing())
    assert (listing.complete, listing.reason, len(listing.products)) == (True, "", COUNT)
    assert client.requests == calls


@pytest.mark.parametrize("total", [None, "many", -1, 10**30, 0, 50, 100, 200, "absent"])
@pytest.mark.parametrize("count", [99, 100, COUNT])
def test_the_declared_total_is_a_hint_only(total: Any, count: int) -> None:
    def turn(_: int, page: dict[str, Any]) -> dict[str, Any]:
        odd = isinstance(total, str) or total is None or not 0 <= total <= count
        page["total"] = total if odd else min(total, count)
        return {name: value for name, value in page.items() if value != "absent"}

    listing = use(channel(transport=shelf(turn, count=count)), lambda c: c.listing())
    if (
        isinstance(total, int) and count < total < 10**30
    ):  # more than there are: the list may have ended early
        assert (listing.complete, len(listing.products)) == (False, count)
    else:
        assert (listing.complete, len(listing.products)) == (True, count)


@pytest.mark.parametrize("total", [COUNT, 100])
def test_a_server_that_knows_no_offset_ends_the_reading(total: int) -> None:
    rows = [{"id": f"P{n}"} for n in range(COUNT)]
    transport = shelf(lambda _, page: page | {"data": rows, "total": total})
    listing = use(channel(transport=transport), lambda c: c.listing())
    assert (listing.complete, len(listing.products)) == (True, COUNT)


def test_an_empty_listing_is_complete() -> None:
    listing = use(channel(transport=shelf(as_it_is, count=0)), lambda c: c.listing())
    assert (listing.complete, list(listing.products)) == (True, [])


def test_a_page_cut_short_is_followed_up_from_where_it_ended() -> None:
    cut: list[int] = []

    def turn(offset: int, page: dict[str, Any]) -> dict[str, Any]:
        if offset == 100 and not cut:
            cut.append(offset)
            page["data"] = page["data"][:30]
        return page

    listing = use(channel(transport=shelf(turn)), lambda c: c.listing())
    assert (listing.complete, len(listing.products)) == (True, COUNT)


def dropped(offset: int, page: dict[str, Any]) -> Any:
    return httpx.Response(503) if offset == 200 else page


def emptied(offset: int, page: dict[str, Any]) -> Any:
    return page | {"data": []} if offset == 100 else page


def shrunk(offset: int, page: dict[str, Any]) -> Any:
    return page | {"total": COUNT - 1} if offset == 200 else page


def repeated(offset: int, page: dict[str, Any]) -> Any:
    return page | {"data": [{"id": f"P{n}"} for n in range(100)]} if offset == 100 else page


def unreadable(offset: int, page: dict[str, Any]) -> Any:
    page["data"][0] = {"id": None}
    return page


def overstated(_: int, page: dict[str, Any]) -> Any:
    return page | {"total": COUNT + 5}


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (dropped, "answered 503"),
        (emptied, "is empty though"),
        (shrunk, "total moved"),
        (repeated, "distinct products"),
        (unreadable, "could not be read"),
        (overstated, "is empty though"),
    ],
)
def test_anything_else_is_not_complete_and_says_why(turn: Turn, why: str) -> None:
    listing = use(channel(transport=shelf(turn)), lambda c: c.listing())
    assert not listing.complete
    assert why in listing.reason
    assert listing.products


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(503), Unavailable),
        (httpx.Response(200, json={"data": [], "total": 3, "limit": 1, "offset": 0}), ContractBroken),
        (httpx.Response(200, json={"data": {}, "total": 0, "limit": 1, "offset": 0}), ContractBroken),
        (httpx.Response(200, json=[]), ContractBroken),
        (
            httpx.Response(200, json={"data": [{}] * 10_001, "total": 1, "limit": 1, "offset": 0}),
            ContractBroken,
        ),
        (httpx.Response(200, content=b"[" * 1_000_000), Unavailable),
    ],
)
def test_a_first_page_that_fails_is_an_error(answer: httpx.Response, kind: type) -> None:
    with pytest.raises(kind):
        use(channel(transport=shelf(lambda *_: answer)), lambda c: c.listing())


def again(offset: int, page: dict[str, Any]) -> Any:
    return page | {"data": [{"id": f"P{n}"} for n in range(100)], "total": 10**30}


def in_a_circle(offset: int, page: dict[str, Any]) -> Any:
    rows = [{"id": f"P{n % COUNT}"} for n in range(offset, offset + 100)]
    return page | {"data": rows, "total": 10**30}


def one_by_one(offset: int, page: dict[str, Any]) -> Any:
    return page | {"data": [{"id": "P1"}], "total": 10**30}


def nameless(offset: int, page: dict[str, Any]) -> Any:
    return page | {"data": [{"sku": "S"}] * 100, "total": 10**4000}


@pytest.mark.parametrize("turn", [again, in_a_circle, one_by_one, nameless])
def test_pages_that_go_on_without_news_end_the_reading(turn: Turn) -> None:
    client = channel(transport=shelf(turn))
    listing = use(client, lambda c: c.listing())
    assert not listing.complete
    assert listing.reason
    assert client.requests < 40


def test_pages_that_bring_news_for_ever_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_READ", 5_000)
    endless = shelf(lambda _, page: page | {"total": 10**30}, count=10**9)
    client = channel(transport=endless)
    assert "come to no end" in use(client, lambda c: c.listing()).reason
    assert client.requests < 80


@pytest.mark.parametrize("cap", [5, 20, 100])
def test_how_long_a_reading_may_be_depends_on_its_rows(monkeypatch: pytest.MonkeyPatch, cap: int) -> None:
    monkeypatch.setattr(pages, "MOST_READ", 2_000)
    for count, complete in ((1_995, True), (2_500, False)):
        listing = use(channel(transport=shelf(as_it_is, cap, count)), lambda c: c.listing())
        assert listing.complete is complete


def test_a_long_list_ends_at_its_last_page_again_though_marks_are_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def last_page_again(offset: int, page: dict[str, Any]) -> Any:
        return page if page["data"] else page | {"data": [{"id": f"P{n}"} for n in range(900, 1_000)]}

    monkeypatch.setattr(pages, "BITS", 2**12)
    listing = use(channel(transport=shelf(last_page_again, count=1_000)), lambda c: c.listing())
    assert (listing.complete, listing.reason, len(listing.products)) == (True, "", 1_000)


def test_order_pages_raise_rather_than_skip() -> None:
    seen: list[int] = []

    async def read(client: Any) -> None:
        async for page in client.order_pages():
            seen.append(page.rows)

    with pytest.raises(Unavailable):
        use(channel(transport=shelf(dropped)), read)
    assert seen == [100, 100]


def test_pages_come_in_order_and_leaving_early_leaves_nothing_behind() -> None:
    async def first_two(client: Any) -> list[str]:
        firsts = []
        async for page in client.product_pages():
            firsts.append(page.data[0].id)
            if len(firsts) == 2:
                break
        return firsts

    assert use(channel(transport=shelf(as_it_is, count=5000)), first_two) == ["P0", "P100"]
    pages = use(channel(transport=shelf(as_it_is, count=5000)), lambda c: every(c.product_pages()))
    assert [page.data[0].id for page in pages] == [f"P{first}" for first in range(0, 5000, 100)]


def test_a_sku_search_the_server_ignores_still_finds_only_that_sku() -> None:
    found = use(channel(transport=shelf(as_it_is)), lambda c: c.find_by_sku("S123"))
    assert [one.id for one in found] == ["P123"]


def test_a_sku_search_with_an_unreadable_row_is_an_error() -> None:
    with pytest.raises(ContractBroken, match="for S1 that cannot be read"):
        use(channel(transport=shelf(unreadable)), lambda c: c.find_by_sku("S1"))


def test_a_total_that_stops_at_the_page_size_hides_no_rows() -> None:
    def turn(_: int, page: dict[str, Any]) -> dict[str, Any]:
        return {**page, "total": min(page["total"], 20), "limit": 100}

    listing = use(channel(transport=shelf(turn, 20)), lambda c: c.listing())
    assert len(listing.products) == COUNT
