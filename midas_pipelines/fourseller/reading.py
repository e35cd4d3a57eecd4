"""Prefetches pages: several are under way while one is used, and none is skipped."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

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

    The server's first page sets the step; a later page that is shorter than that, with more declared behind it, is
    followed up from where it ended. Raises ContractBroken for an empty page where rows were declared, and for pages
    that go on without an end.
    """
    progress = _Progress()
    page = await _filled(fetch, 0)
    progress.note(page)
    yield page
    step, offset, total = page.rows, page.rows, page.total
    coming: deque[tuple[int, asyncio.Future[Page[Row]]]] = deque()
    try:
        while True:
            while step and offset < total and len(coming) < AHEAD:
                coming.append((offset, asyncio.ensure_future(_filled(fetch, offset))))
                offset += step
            if not coming:
                return
            start, task = coming.popleft()
            page = await task
            yield page
            progress.note(page)
            total = page.total
            if page.rows != step:
                await _drop(coming)
                offset = start + page.rows
    finally:
        await _drop(coming)


class _Progress:
    """Whether pages still bring rows that were not read before."""

    def __init__(self) -> None:
        self._seen = bytearray(BITS // 8)
        self._pages = self._stale = 0

    def note(self, page: Page[Any]) -> None:
        """Counts a page. Raises ContractBroken when the pages repeat."""
        self._pages += 1
        new = sum(self._mark(hash(row.id)) for row in page.data)
        self._stale = 0 if new else self._stale + 1
        if self._stale >= MOST_STALE or self._pages >= MOST_PAGES:
            raise ContractBroken(
                f"4Seller's pages come to no end: {self._pages} were read of {page.total} rows declared, and the last "
                "ones brought nothing new; try again later.",
                field="total",
            )

    def _mark(self, number: int) -> bool:
        """Marks an id; True when it was not marked before."""
        place, bit = divmod(number % BITS, 8)
        new = not self._seen[place] & 1 << bit
        self._seen[place] |= 1 << bit
        return new


async def _filled(fetch: Fetch[Row], offset: int) -> Page[Row]:
    page = await fetch(offset)
    if not page.rows and offset < page.total:
        raise ContractBroken(
            f"4Seller's page at offset {offset} is empty though {page.total} rows are declared; try again later.",
            field="data",
        )
    return page


async def _drop(coming: deque[tuple[int, asyncio.Future[Page[Row]]]]) -> None:
    """Cancels pending fetches and waits until they have ended."""
    tasks = [task for _, task in coming]
    coming.clear()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
