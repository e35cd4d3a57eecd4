"""Prefetches pages: several are under way while one is used, and none is skipped."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.pages import Page

AHEAD = 12  # pages fetched at once; also bounds the memory of a long listing
MOST_PAGES = 20_000  # a longer reading loops, whatever total is declared
MOST_STALE = 3  # consecutive pages without a new row; one may come from rows that moved meanwhile
BITS = (
    2**24
)  # marks by which an id is known again: two of a million ids share one, but not all ids of three pages

Row = TypeVar("Row")
Fetch = Callable[[int], Awaitable[Page[Row]]]


async def read_ahead(fetch: Fetch[Row]) -> AsyncGenerator[Page[Row], None]:
    """Yields every page in order of offset, as `fetch(offset)` gives them.

    The declared total is a hint for reading ahead: only a page that is not full, with exactly as many rows declared,
    or an empty one ends the reading. The server's first page sets the step; a later page that is shorter is followed up
    from where it ended. Raises ContractBroken for an empty page where rows were declared, and for pages that go on
    without an end.
    """
    progress = _Progress()
    start, page = 0, await fetch(0)
    step = offset = page.rows
    coming: deque[tuple[int, asyncio.Future[Page[Row]]]] = deque()
    try:
        while not _is_over(page, start, new := progress.count_new(page)):
            yield page
            progress.check(page, new)
            if page.total == start + page.rows and page.rows < (step if start else _asked(page)):
                return
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


def _is_over(page: Page[Any], start: int, new: int) -> bool:
    """Whether the page is behind the last row: empty, or read again by a server that has no more than it declared."""
    if page.rows:
        return not new and not page.rejected and page.total is not None and 0 < page.total <= start
    if page.total is not None and start < page.total:
        raise ContractBroken(
            f"4Seller's page at offset {start} is empty though {page.total} rows are declared; try again later.",
            field="data",
        )
    return True


class _Progress:
    """Whether pages still bring rows that were not read before."""

    def __init__(self) -> None:
        self._seen = bytearray(BITS // 8)
        self._pages = self._stale = 0

    def count_new(self, page: Page[Any]) -> int:
        """How many of its rows were not read before."""
        return sum(self._mark(hash(row.id)) for row in page.data)

    def check(self, page: Page[Any], new: int) -> None:
        """Counts a page. Raises ContractBroken when the reading comes to no end."""
        self._pages += 1
        self._stale = 0 if new else self._stale + 1
        if self._stale >= MOST_STALE or self._pages >= MOST_PAGES:
            raise ContractBroken(
                f"4Seller's pages come to no end: {self._pages} were read, and the last "
                "ones brought nothing new; try again later.",
                field="total",
            )

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
