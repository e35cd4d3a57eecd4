"""Pages of products and orders: read row by row, so that one bad row never hides the others, and several at once.

Several pages are under way while one is used, and none is skipped.
"""

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.fourseller.errors import BrokenListing, ContractBroken
from midas_pipelines.fourseller.lenient import read_count
from midas_pipelines.fourseller.models import Order

MOST_ROWS = 10_000  # of a page: a hundred times what is asked for
AHEAD = 12  # pages fetched at once; also bounds the memory of a long listing
MOST_READ = 2_000_000  # rows; a longer reading loops, whatever total is declared
MOST_STALE = 3  # consecutive pages without a new row; one may come from rows that moved meanwhile
SMALLEST_PAGE = 5
"""A first page of fewer rows is not held for a full one; only then the declared total is believed. So many rows at least does
each page count for `MOST_READ`."""
BITS = 2**24
"""Marks by which an id is known again: two of a million ids share one, but not all ids of three pages."""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row without a readable id: why in words, and the received row.

    `place` is its position on the page, from 0; it may differ each time.
    """

    field: str
    reason: str
    raw: Any = dataclasses.field(repr=False)  # may hold personal data
    place: int = 0

    def __str__(self) -> str:
        return f"row {self.place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page: readable rows, rejected rows, and what the server declared; None where that is no count."""

    data: list[Row]
    total: int | None
    limit: int | None
    rejected: list[Rejected] = dataclasses.field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows the page held, readable or not."""
        return len(self.data) + len(self.rejected)


OrderPage = Page[Order]
Fetch = Callable[[int], Awaitable[Page[Row]]]


def read_page(body: Any, read_row: Callable[[Any], Row]) -> Page[Row]:
    """A page of `{"data", "total", "limit", "offset"}`; rows that break the contract are rejected.
    Raises ContractBroken when the page itself cannot be read."""
    envelope = body if isinstance(body, dict) else {}
    rows = envelope.get("data")
    if not isinstance(rows, list):
        raise ContractBroken("4Seller's page breaks the contract in `data`: it is not a list.", field="data")
    if len(rows) > MOST_ROWS:
        raise ContractBroken(
            f"4Seller's page has {len(rows)} rows; {MOST_ROWS} are read at most.", field="data"
        )
    page: Page[Row] = Page(data=[], total=_count(envelope.get("total")), limit=_count(envelope.get("limit")))
    for place, row in enumerate(rows):
        try:
            page.data.append(read_row(row))
        except ContractBroken as broken:
            page.rejected.append(Rejected(field=broken.field, reason=str(broken), raw=row, place=place))
    return page


def _count(value: Any) -> int | None:
    try:
        return read_count(value)
    except (ValueError, ArithmeticError):
        return None


async def read_ahead(fetch: Fetch[Row], *, smallest: int) -> AsyncGenerator[Page[Row], None]:
    """Yields every page in order of offset, as `fetch(offset)` gives them.

    The declared total is a hint for reading ahead, and may be capped: only a page that is certainly not full, with
    exactly as many rows declared, or an empty one ends the reading. `smallest` are the fewest rows of a full page. The
    server's first page sets the step; a later page that is shorter is followed up from where it ended. Raises
    BrokenListing for an empty page where rows were declared, and for pages that go on without an end.
    """
    progress = _Progress()
    start, page = 0, await fetch(0)
    step, offset, short = page.rows, page.rows, False
    coming: deque[tuple[int, asyncio.Future[Page[Row]]]] = deque()
    try:
        while not progress.is_over(page, start, short=short):
            yield page
            progress.check()
            if page.total == start + page.rows and page.rows < (step if start else smallest):
                return
            short = page.rows != min(PAGE_LIMIT, page.limit or PAGE_LIMIT)
            if page.rows != step:
                await _drop(coming)
                offset = start + page.rows
            while not coming or (offset < (page.total or 0) and len(coming) < AHEAD):
                coming.append((offset, asyncio.ensure_future(fetch(offset))))
                offset += step
            start, task = coming.popleft()
            page = await task
        if not start:
            yield page
    finally:
        await _drop(coming)


class _Progress:
    """Whether pages still bring rows that were not read before."""

    def __init__(self) -> None:
        self._seen = bytearray(BITS // 8)
        self._pages = self._stale = self._rows = self._read = 0

    def is_over(self, page: Page[Any], start: int, *, short: bool) -> bool:
        """Counts a page, and whether it is behind the last row: empty, or read again by a server that has no more than it
        declared, or than the page before, which was `short`. Raises BrokenListing where there should be more."""
        ids = [*(row.id for row in page.data), *(repr(row.raw) for row in page.rejected)]
        new = sum(map(self._mark, ids))
        self._pages, self._rows = self._pages + 1, self._rows + new
        self._read += max(page.rows, SMALLEST_PAGE)
        self._stale = 0 if new else self._stale + 1
        total = page.total or 0
        if not page.rows and start < total:
            why = f"4Seller's page at offset {start} is empty though {total} rows are declared; try again later."
            raise BrokenListing(why, field="data", rows=start)
        if not page.rows:
            return True
        if new or (page.total is None and not short) or total > start:
            return False
        # `_rows` may lack some of many: marks are shared.
        if total in (start, self._rows) or (short and 0 < total < self._rows):
            return True
        raise self._no_end("offset" if page.total is None else "total")

    def check(self) -> None:
        """Raises BrokenListing when the reading comes to no end."""
        if self._stale >= MOST_STALE or self._read >= MOST_READ:
            raise self._no_end("total")

    def _no_end(self, name: str) -> BrokenListing:
        """The error of pages that repeat; of `offset` where they are not full and declare nothing, so may be all."""
        why = (
            f"4Seller's pages come to no end: the last of {self._pages} brought nothing new; try again later."
        )
        return BrokenListing(why, field=name, rows=self._rows)

    def _mark(self, one: str) -> bool:
        place, bit = divmod(hash(one) % BITS, 8)
        new = not self._seen[place] & 1 << bit
        self._seen[place] |= 1 << bit
        return new


async def _drop(coming: deque[tuple[int, asyncio.Future[Page[Any]]]]) -> None:
    """Cancels pending fetches and waits until they have ended."""
    tasks = [task for _, task in coming]
    coming.clear()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class OrderLists:
    """What the lists of one poll held: which orders are new, and whether the current list held as many as it declared. An order
    that changes while pages are read may shift another across a page boundary, and the watermark must not move past an
    order that was never read. An id is known again by its hash of 64 bits, for a poll may read a million."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}  # the list that held an order last, by the hash of its id
        self._number = 0
        self.start()

    def start(self) -> None:
        """Starts the next list."""
        self._number += 1
        self._held, self._oldest, self._totals = 0, self._number, set[int]()

    def add(self, page: OrderPage) -> list[Order]:
        """Adds a page; returns its orders that no page before it held: of one that it has twice, both states."""
        fresh = [order for order in page.data if hash(order.id) not in self._last]
        for order in page.data:
            last = self._last.get(hash(order.id), 0)
            self._last[hash(order.id)] = self._number
            self._held += last != self._number
            self._oldest = min(self._oldest, last)
        self._held += len(page.rejected)
        self._totals.update(() if page.total is None else (page.total,))
        return fresh

    def has_new(self, before: int) -> bool:
        """Whether the current list held an order that none of the `before` lists before it held."""
        return self._oldest < self._number - before

    @property
    def whole(self) -> bool:
        """Whether the current list held no fewer orders than it declared, each time the same number."""
        return len(self._totals) < 2 and max(self._totals, default=0) <= self._held
