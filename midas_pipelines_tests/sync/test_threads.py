"""One run at a time for all who ask; work in a loop of its own ends with its caller; threads of one's own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from midas_pipelines.sync.threads import OneAtATime, in_own_loop, in_thread, own_threads


def test_who_asks_while_a_run_is_under_way_shares_the_next_one() -> None:
    async def run() -> list[int]:
        runs, go = 0, asyncio.Event()

        async def work() -> int:
            nonlocal runs
            runs += 1
            number = runs
            await asyncio.wait_for(go.wait(), 30)
            return number

        one = OneAtATime(work)
        first = [asyncio.create_task(one.run()) for _ in range(3)]
        await asyncio.sleep(0.01)
        later = [asyncio.create_task(one.run()) for _ in range(5)]
        await asyncio.sleep(0.01)
        assert runs == 1
        go.set()
        return await asyncio.gather(*first, *later)

    assert asyncio.run(run()) == [1, 1, 1, 2, 2, 2, 2, 2]


def test_a_run_that_fails_fails_for_those_who_share_it_and_the_next_one_goes_on() -> None:
    async def run() -> None:
        outcomes = iter([ValueError("no"), 7])

        async def work() -> object:
            outcome = next(outcomes)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        one = OneAtATime(work)
        shared = await asyncio.gather(one.run(), one.run(), return_exceptions=True)
        assert [type(error) for error in shared] == [ValueError, ValueError]
        assert await one.run() == 7

    asyncio.run(run())


def test_work_in_a_loop_of_its_own_is_cancelled_with_its_caller() -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    async def run() -> None:
        task = asyncio.create_task(in_own_loop(work))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(run())


def test_a_part_that_uses_up_its_threads_holds_up_no_other() -> None:
    go = threading.Event()

    async def run() -> int:
        with own_threads("one", 1):
            stuck = asyncio.create_task(in_thread(go.wait, 30))
        with own_threads("other", 1):
            free = asyncio.create_task(in_thread(lambda: 7))
        found = await free
        go.set()
        await stuck
        return found

    assert asyncio.run(run()) == 7
