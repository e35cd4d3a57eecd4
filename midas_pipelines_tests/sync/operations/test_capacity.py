"""The capacity plan: what it measures, its arithmetic, and what it advises to raise first."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midas_pipelines.store.operations.sync_metrics import StockMeasured, SyncRow
from midas_pipelines.sync.operations.capacity import (
    MOST_IN_FLIGHT,
    CallRate,
    Measured,
    limit_of,
    pace_of,
    plan_capacity,
)

IN_FLIGHT = 50
NO_LIMIT = CallRate(math.inf, "None known")


def row(kind: str = "products", *, push_seconds: float = 0.0, seconds: float = 1.0, **calls: Any) -> SyncRow:
    """A row of the log; `calls` are sums over its calls."""
    counts = {"push_seconds": push_seconds, "calls": calls}
    return SyncRow(kind, "done", int(calls.get("requests", 0)), seconds, counts)


SCAN = row(seconds=60.0, push_seconds=0.5, requests=6)
PUSH = row(seconds=9.0, push_seconds=2.0, requests=566, writes=556, write_seconds=90.0)
IDLE = row(push_seconds=2.0, requests=556, writes=556, write_seconds=20.0)
QUANTITIES = row("inventory", seconds=4.0, requests=200, writes=200, write_seconds=100.0)
FAILED = SyncRow("products", "failed", 9000, 9.0)


@pytest.mark.parametrize(
    ("rows", "measured", "per_second", "slots_full"),
    [
        ([SCAN] * 288 + [PUSH], True, 278.0, True),  # a scan says nothing about pushing
        ([IDLE], True, 278.0, False),
        ([QUANTITIES], True, 50.0, False),
        ([], False, 100.0, True),
        ([SCAN], False, 100.0, True),
        ([FAILED], False, 100.0, True),
    ],
)
def test_a_workers_pace(rows: list[SyncRow], measured: bool, per_second: float, slots_full: bool) -> None:
    found = pace_of(rows, IN_FLIGHT)
    assert (found.measured, found.per_second, found.slots_full) == (measured, per_second, slots_full)


def test_the_pace_shows_its_arithmetic() -> None:
    assert pace_of([PUSH], IN_FLIGHT).words == (
        "556 writes / 2 s of pushing in 1 sync = 278 calls a second, with 45 of 50 requests under way"
    )
    assert "assumed, not measured: 50 requests under way / 0.5 s a call" in pace_of([], 50).words


def learned(rate: float | None) -> SyncRow:
    return row(requests=100, writes=50, learnt_rate=rate)


@pytest.mark.parametrize(
    ("rows", "configured", "known"),
    [
        ([], None, math.inf),
        ([PUSH], 40.0, 40.0),
        ([learned(12.5)], None, 12.5),
        ([learned(12.5)], 40.0, 12.5),
        ([learned(12.5)], 10.0, 10.0),
        ([learned(12.5), learned(None)], None, math.inf),
        ([learned(12.5), SCAN], None, 12.5),
    ],
)
def test_the_lowest_limit_that_is_known_holds(
    rows: list[SyncRow], configured: float | None, known: float
) -> None:
    assert limit_of(rows, configured).per_second == known


def shop(**changes: Any) -> StockMeasured:
    """A thousand items of which a hundred are new, with nothing waiting."""
    found = StockMeasured(1000, 100, waiting=0, oldest_seconds=0.0, changes=0, changed_items=0)
    return replace(found, **changes)


def pace(per_second: float, *, slots_full: bool = False) -> CallRate:
    """A measured pace, or a limit."""
    return CallRate(per_second, f"{per_second:g} calls a second", slots_full=slots_full)


USUAL = Measured(shop(), 200, pace(100), NO_LIMIT, IN_FLIGHT, interval_minutes=5)
LARGE = replace(USUAL, stock=shop(items=100_000, new_in_30_days=0), pushes_per_day=0, pace=pace(5))
BUSY = replace(USUAL, stock=shop(items=100), pushes_per_day=750_000, pace=pace(50), limit=pace(10))
SEVERAL = replace(BUSY, stock=shop(changes=2_000_000, changed_items=3000))
WAITING = replace(USUAL, stock=shop(waiting=500_000), pace=pace(80))


@pytest.mark.parametrize(
    ("measured", "first", "words"),
    [
        (USUAL, "nothing", "a full sync in 90 days takes 13.1 s"),
        (LARGE, "workers", "MIDAS_SHARDS_AT_ONCE=6: 6 workers instead of 1"),
        (replace(LARGE, limit=pace(10)), "workers", "MIDAS_SHARDS_AT_ONCE=2: 2 workers instead of 1"),
        (replace(LARGE, limit=pace(6)), "api_limit", "feeds no further worker: ask 4Seller for 29"),
        (replace(LARGE, limit=pace(2)), "api_limit", "limit of 2 calls a second"),
        (replace(LARGE, pace=pace(5, slots_full=True)), "concurrency", "MIDAS_IN_FLIGHT from 50 to 281"),
        (replace(LARGE, workers=4), "workers", "MIDAS_SHARDS=6"),
        (replace(LARGE, pace=pace(5, slots_full=True), in_flight=MOST_IN_FLIGHT), "workers", "6 workers"),
        (SEVERAL, "interval", "the shorter is 5 minutes now"),
        (replace(SEVERAL, interval_minutes=None), "api_limit", "or push fewer changes"),
        (BUSY, "api_limit", "The day's changes needs 10.9 calls a second, and there are 10."),
        (replace(BUSY, pace=pace(5), limit=NO_LIMIT), "workers", "Run 3 of `midas worker`"),
        (WAITING, "workers", "Run 2 of `midas worker`"),
        (replace(WAITING, pushes_per_day=10**9, limit=pace(80)), "api_limit", "ask 4Seller for 14,468"),
        (replace(LARGE, workers=1000, pace=pace(0.01)), "nothing", "a faster processor"),
    ],
)
def test_what_holds_it_back_is_raised_first(measured: Measured, first: str, words: str) -> None:
    found = plan_capacity(measured)
    assert (found.raise_first, words in found.words) == (first, True), found.words


@pytest.mark.parametrize(
    ("measured", "line", "arithmetic"),
    [
        (
            USUAL,
            "full sync in 30 days",
            "1,000 + 100 x 30 / 30 days = 1,100 items; (1,100 writes + 11 pages) / 100 calls a second = 11.1 s",
        ),
        (
            replace(USUAL, stock=shop(new_in_30_days=-600)),
            "full sync in 90 days",
            "= 0 items; (0 writes + 1 pages)",
        ),
        (replace(LARGE, workers=4), "full sync today", "(100,000 writes + 1,000 pages) / 20"),
        (
            replace(USUAL, workers=4, limit=pace(300)),
            "a full sync's pace",
            "100 x 4 workers, within the limit = 300",
        ),
        (replace(WAITING, pushes_per_day=10**8), "backlog", "= never ends"),
    ],
)
def test_each_line_shows_its_arithmetic(measured: Measured, line: str, arithmetic: str) -> None:
    assert arithmetic in dict(plan_capacity(measured).arithmetic)[line]


COUNTS = st.integers(0, 5_000_000)
RATES = st.floats(1e-3, 1e4)


@given(
    st.builds(
        Measured,
        st.builds(StockMeasured, COUNTS, st.integers(-2_000_000, 2_000_000), COUNTS, RATES, COUNTS, COUNTS),
        COUNTS,
        st.builds(pace, RATES, slots_full=st.booleans()),
        st.one_of(st.just(NO_LIMIT), st.builds(pace, RATES)),
        st.integers(1, 500),
        st.integers(1, 1000),
        st.one_of(st.none(), st.integers(1, 60)),
    )
)
def test_any_shop_has_a_plan_to_read(measured: Measured) -> None:
    page = plan_capacity(measured).markdown
    assert not any(word in page for word in (" inf", "nan", "e-0", "e+"))
