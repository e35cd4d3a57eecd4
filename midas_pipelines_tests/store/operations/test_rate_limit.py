"""One rate limit kept by all who share the database."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.rate_limit import LONGEST_PAUSE, RealTimePace, SharedPace, send_as_bulk
from midas_pipelines_tests.shop import run, value


async def _take(paces: list[SharedPace], each: int) -> list[float]:
    moments: list[float] = []

    async def one(pace: SharedPace) -> None:
        await pace.take()
        moments.append(time.monotonic())

    await asyncio.gather(*(one(pace) for pace in paces for _ in range(each)))
    return sorted(moments)


@pytest.mark.parametrize("processes", [1, 3])
def test_all_together_keep_the_rate(shop: Database, processes: int) -> None:
    paces = [SharedPace(shop, rate=200.0) for _ in range(processes)]
    moments = asyncio.run(_take(paces, 60 // processes))
    assert moments[-1] - moments[0] >= 59 / 200 * 0.8


def test_nobody_sends_while_one_was_told_to_wait(shop: Database) -> None:
    async def scenario() -> float:
        told, other = SharedPace(shop, 1000.0), SharedPace(shop, 1000.0)
        started = time.monotonic()
        await told.blocked(0.4)
        await other.take()
        return time.monotonic() - started

    assert asyncio.run(scenario()) >= 0.35


def test_a_429_in_the_gateway_is_written_once_and_holds_both_kinds_of_its_calls(shop: Database) -> None:
    written: list[str] = []

    async def bulk(pace: RealTimePace) -> None:
        send_as_bulk()
        await pace.take()

    async def scenario() -> list[float]:
        pace = RealTimePace(shop, 1000.0)
        await asyncio.gather(pace.take(), bulk(pace))
        started = time.monotonic()
        sa.event.listen(shop.engine, "before_cursor_execute", lambda *given: written.append(given[2]))
        await pace.blocked(0.4)
        waits = []
        for kind in (pace.take(), bulk(pace)):
            await kind
            waits.append(time.monotonic() - started)
        return waits

    assert min(asyncio.run(scenario())) >= 0.35
    assert sum("SET next_slot=" in one and "blocked_until" in one for one in written) == 1


def test_a_shorter_pause_does_not_end_a_longer_one(shop: Database) -> None:
    async def scenario() -> float:
        pace = SharedPace(shop, 1000.0)
        started = time.monotonic()
        await pace.blocked(0.4)
        await pace.blocked(0.01)
        await pace.take()
        return time.monotonic() - started

    assert asyncio.run(scenario()) >= 0.35


def test_slots_not_used_in_time_are_not_saved_up(shop: Database) -> None:
    pace = SharedPace(shop, 100.0)
    (first,) = _slots(pace, 1)
    time.sleep(0.05)  # five slots
    moments = _slots(pace, 11)
    assert moments[0] - first >= 0.045
    assert moments[-1] - moments[0] == pytest.approx(10 / 100, abs=1e-3)


def _shift(shop: Database, seconds: float) -> None:
    """As if the database's clock had moved by so many seconds, back where they are negative."""
    run(
        shop,
        "UPDATE midas_rate_limits SET next_slot = next_slot - :by, blocked_until = blocked_until - :by",
        by=seconds,
    )


def test_in_a_long_pause_one_call_of_all_processes_tries_every_two_minutes(shop: Database) -> None:
    async def scenario() -> None:
        one, other = SharedPace(shop, 1000.0), SharedPace(shop, 1000.0)
        await one.blocked(24 * 3600)
        assert await other.take() > LONGEST_PAUSE - 5
        for _ in range(2):
            _shift(shop, LONGEST_PAUSE + 1)
            assert await other.take() == 0.0
            assert await one.take() > LONGEST_PAUSE - 5
        await one.succeeded()  # of an older call: no word on the pause
        assert await one.take() > 0
        await other.succeeded()
        assert [await one.take(), await other.take()] == [0.0, 0.0]

    asyncio.run(scenario())


@pytest.mark.parametrize("pause", [0.0, 5.0, 3600.0])
def test_a_database_clock_that_is_set_back_holds_nothing_up(shop: Database, pause: float) -> None:
    async def scenario() -> float:
        pace = SharedPace(shop, 100.0)
        await pace.take()
        if pause:
            await pace.blocked(pause)
        _shift(shop, -3600)
        started = time.monotonic()
        assert await pace.take() == 0.0
        return time.monotonic() - started

    assert asyncio.run(scenario()) < 60


RATE, AHEAD = 200.0, 6000
BULK = """
import sys
import sqlalchemy as sa
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.rate_limit import SharedPace
rate, ahead = float(sys.argv[2]), int(sys.argv[3])
pace, taken = SharedPace(Database(sa.make_url(sys.argv[1])), rate), []
while len(taken) < ahead:
    taken += pace.reserve(ahead)
print("ahead", flush=True)
sys.stdin.readline()
"""
NEXT = "SELECT next_slot FROM midas_rate_limits"


def _slots(pace: SharedPace, wanted: int) -> list[float]:
    taken = pace.reserve(wanted)
    assert isinstance(taken, list)
    return taken


def test_real_time_waits_five_slots_at_most_however_far_ahead_bulk_work_is(shop: Database) -> None:
    """Two processes, one limit. Waits are counted in slots, from the moment at which the slot was given."""
    url = shop.engine.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", BULK, url, str(RATE), str(AHEAD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as bulk:
        assert bulk.stdout is not None
        assert bulk.stdout.readline() == "ahead\n"
        before = value(shop, NEXT)
        pace, waits = SharedPace(shop, RATE, real_time=True), []
        for _ in range(20):
            (moment,) = _slots(pace, 1)
            waits.append((moment - time.monotonic()) * RATE)
            time.sleep(max(0.0, moment - time.monotonic()))
        burst = _slots(pace, 6)
        bulk.communicate("\n")
    assert max(waits) <= 5.5  # the two clocks differ a little on a busy machine
    assert [round((b - a) * RATE, 2) for a, b in pairwise(burst)] == [5.0] * 5
    assert (value(shop, NEXT) - before) * RATE == pytest.approx(26, abs=0.01)  # together they keep the rate


def test_real_time_alone_has_the_whole_rate(shop: Database) -> None:
    moments = _slots(SharedPace(shop, RATE, real_time=True), 40)
    assert moments[-1] - moments[0] == pytest.approx(39 / RATE, abs=1e-3)


def test_a_process_holds_few_slots_which_are_lost_when_it_is_killed(shop: Database) -> None:
    async def scenario() -> None:
        pace = SharedPace(shop, 40.0)
        calls = [asyncio.create_task(pace.take()) for _ in range(50)]
        await asyncio.gather(*calls[:8])
        assert value(shop, NEXT) - time.time() < 11 / 40  # ten, and the one that is next
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(scenario())
