"""Pages read ahead: several are on their way while one is used, and none is skipped."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.pages import Page

AHEAD = 12  # pages on their way at once; bounds the memory of a long listing too

Row = TypeVar("Row")
Fetch = Callable[[int], Awaitable[Page[Row]]]


async def read_ahead(fetch: Fetch[Row]) -> AsyncGenerator[Page[Row], None]:
    """Yields every page in order of offset, as `fetch(offset)` gives them.

    The server's first page sets the step; a later page that is shorter than that, with more declared behind it, is
    followed up from where it ended. Raises ContractBroken for an empty page where rows were declared.
    """
    page = await _filled(fetch, 0)
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
            total = page.total
            if page.rows != step:
                await _drop(coming)
                offset = start + page.rows
    finally:
        await _drop(coming)


async def _filled(fetch: Fetch[Row], offset: int) -> Page[Row]:
    page = await fetch(offset)
    if not page.rows and offset < page.total:
        raise ContractBroken(
            f"4Seller's page at offset {offset} is empty though {page.total} rows are declared; try again later.",
            field="data",
        )
    return page


async def _drop(coming: deque[tuple[int, asyncio.Future[Page[Row]]]]) -> None:
    """Ends what is on its way and waits until it has ended."""
    tasks = [task for _, task in coming]
    coming.clear()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
