"""Blocking work beside an event loop: bounded threads for each part of a process, and one run at a time for many callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Generic, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_THREADS: ContextVar[ThreadPoolExecutor | None] = ContextVar("threads", default=None)


@contextmanager
def own_threads(name: str, most: int) -> Iterator[None]:
    """Gives the tasks that are created in the block at most so many threads of their own, which no other part can
    use up."""
    before = _THREADS.set(ThreadPoolExecutor(most, thread_name_prefix=f"midas-{name}"))
    try:
        yield
    finally:
        _THREADS.reset(before)


async def in_thread(
    work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """What `work` returns, done in a thread; when cancelled, only after it has ended.

    A thread cannot be stopped: left behind, it would commit a claim after its worker has released all it held.
    """
    context = copy_context()
    done = asyncio.get_running_loop().run_in_executor(
        _THREADS.get(), lambda: context.run(work, *args, **kwargs)
    )
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise


async def in_own_loop(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """What `work` returns, run by an event loop in a thread of its own, so that what it parses delays no call here."""
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def main() -> Result:
        _THREADS.set(None)  # its own loop has threads of its own
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        return await work()

    done = asyncio.ensure_future(in_thread(lambda: asyncio.run(main())))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        for loop, task in running:
            loop.call_soon_threadsafe(task.cancel)
        await asyncio.wait([done])
        raise


class OneAtATime(Generic[Result]):
    """One piece of work for all who ask for it: who asks while it runs shares the next run with the others who did."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self._work = work
        self._current: asyncio.Task[Result] | None = None
        self._next: asyncio.Task[Result] | None = None

    async def run(self) -> Result:
        """The result of a run that began after this call. Raises what the work raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._current))
        return await asyncio.shield(self._next)

    async def stop(self) -> None:
        """Ends the run that is under way, and the next one."""
        tasks = [task for task in (self._next, self._current) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _after(self, before: asyncio.Task[Result] | None) -> Result:
        if before is not None:
            await asyncio.wait([before])
        self._current, self._next = self._next, None
        return await self._work()
