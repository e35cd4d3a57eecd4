"""Prefetches pages: several are under way while one is used, and none is skipped."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.fourseller.errors import BrokenListing
from midas_pipelines.fourseller.pages import Page

AHEAD = 12  # pages fetched at once; also bounds the memory of a long listing
MOST_PAGES = 20_000  # a longer reading loops, whatever total is declared
MOST_STALE = 3  # consecutive pages without a new row; one may come from rows that moved meanwhile
SMALLEST_PAGE = 5
"""A first page of fewer rows is not held for a full one; only then the declared total is believed."""

BITS = (
    2**24
)  # marks by which an id is known again: two of a million ids share one, but not all ids of three pages

Row = TypeVar("Row")
Fetch = Callable[[int], Awaitable[Page[Row]]]


async def read_ahead(fetch: Fetch[Row], *, smallest: int = SMALLEST_PAGE) -> AsyncGenerator[Page[Row], None]:
    """Yields every page in order of offset, as `fetch(offset)` gives them.

    The declared total is a hint for reading ahead, and may be capped: only a page that is certainly not full, with
    exactly as many rows declared, or an empty one ends the reading. `smallest` are the fewest rows of a full page. The server's first page sets the step; a later page that is shorter is followed up
    from where it ended. Raises BrokenListing for an empty page where rows were declared, and for pages that go on
    without an end.
    """
    progress = _Progress()
    start, page = 0, await fetch(0)
    step, offset, short = page.rows, page.rows, False
    coming: deque[tuple[int, asyncio.Future[Page[Row]]]] = deque()
    try:
        while not _is_over(page, start, new := progress.count_new(page), progress, short=short):
            yield page
            progress.check(page, new)
            if page.total == start + page.rows and page.rows < (step if start else smallest):
                return
            short = page.rows != _asked(page)
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


def _asked(page: Page[Any]) -> int:
    """How many rows a full first page has."""
    return min(PAGE_LIMIT, page.limit or PAGE_LIMIT)


def _is_over(page: Page[Any], start: int, new: int, progress: "_Progress", *, short: bool) -> bool:
    """Whether the page is behind the last row: empty, or read again by a server that has no more than it declared, or
    than the page before, which was `short`. Raises BrokenListing where it was read again and there should be more."""
    if page.rows:
        if new or (page.total is None and not short) or (page.total or 0) > start:
            return False
        if page.total == progress.rows or (short and 0 < (page.total or 0) < progress.rows):
            return True
        raise progress.no_end("offset" if page.total is None else "total")
    if page.total is not None and start < page.total:
        raise BrokenListing(
            f"4Seller's page at offset {start} is empty though {page.total} rows are declared; try again later.",
            field="data",
            rows=start,
        )
    return True


class _Progress:
    """Whether pages still bring rows that were not read before."""

    def __init__(self) -> None:
        self._seen = bytearray(BITS // 8)
        self._pages = self._stale = self.rows = 0

    def count_new(self, page: Page[Any]) -> int:
        """How many of its rows were not read before."""
        new = sum(self._mark(hash(row.id)) for row in page.data)
        new += sum(self._mark(hash(repr(row.raw))) for row in page.rejected)
        self.rows += new
        return new

    def check(self, page: Page[Any], new: int) -> None:
        """Counts a page. Raises BrokenListing when the reading comes to no end."""
        self._pages += 1
        self._stale = 0 if new else self._stale + 1
        if self._stale >= MOST_STALE or self._pages >= MOST_PAGES:
            raise self.no_end()

    def no_end(self, field: str = "total") -> BrokenListing:
        """The error of pages that repeat; `offset` where they are not full and declare nothing, so may be all."""
        why = (
            f"4Seller's pages come to no end: {self._pages} were read, and the last ones brought nothing new"
        )
        return BrokenListing(f"{why}; try again later.", field=field, rows=self.rows)

    def _mark(self, number: int) -> bool:
        """Marks an id; True when it was not marked before."""
        place, bit = divmod(number % BITS, 8)
        new = not self._seen[place] & 1 << bit
        self._seen[place] |= 1 << bit
        return new


async def _drop(coming: deque[tuple[int, asyncio.Future[Page[Row]]]]) -> None:
    """Cancels pending fetches and waits until they have ended."""
    tasks = [task for _, task in coming]
    coming.clear()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
