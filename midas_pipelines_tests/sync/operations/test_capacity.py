"""The capacity plan: its arithmetic, and what it advises to raise first, held against any shop."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midas_pipelines.sync.operations.advice import MOST_IN_FLIGHT, advise
from midas_pipelines.sync.operations.capacity import capacity_markdown, plan_capacity
from midas_pipelines.sync.operations.forecast import (
    GOAL_SECONDS,
    HORIZONS,
    Measured,
    backlog_seconds,
    needs,
    sync_seconds,
    with_interval,
)
from midas_pipelines.sync.operations.formatting import duration_in_words, number
from midas_pipelines.sync.operations.throughput import Limit, Throughput
from midas_pipelines_tests.sync.operations.planning import NO_LIMIT, RATES, USUAL, limit, pace, shops

LARGE = replace(USUAL, items=100_000, new_in_30_days=0, pushes_per_day=0, pace=pace(5))
BUSY = replace(USUAL, items=100, pushes_per_day=750_000, pace=pace(50), limit=limit(10), interval_minutes=5)
FEW_ITEMS = replace(BUSY, stock_changes=2_000_000, stock_items=3000)


def line(measured: Measured, name: str) -> str:
    """One line of the arithmetic."""
    return dict(plan_capacity(measured).arithmetic)[name]


def test_items_grow_as_they_did_and_take_the_time_that_calls_take() -> None:
    assert [(step.days, step.items, round(step.seconds, 1)) for step in plan_capacity(USUAL).steps] == [
        (0, 1000, 10.1),
        (30, 1100, 11.1),
        (90, 1300, 13.1),
    ]
    assert line(USUAL, "full sync in 30 days") == (
        "1,000 + 100 / 30 days x 30 days = 1,100 items; (1,100 writes + 11 pages) / 100 calls a second = 11.1 s."
    )


def test_a_catalogue_that_shrinks_ends_at_nothing() -> None:
    shrinking = replace(USUAL, new_in_30_days=-600)
    assert [step.items for step in plan_capacity(shrinking).steps] == [1000, 400, 0]
    assert line(shrinking, "full sync in 30 days").startswith("1,000 - 600 / 30 days x 30 days = 400 items;")


def test_each_shard_reads_the_whole_listing_and_one_run_over_all_reads_it_once() -> None:
    spread = replace(LARGE, spread=True)
    assert "(100,000 writes + 1,000 pages)" in line(LARGE, "full sync today")
    assert "(100,000 writes + 16,000 pages)" in line(spread, "full sync today")
    assert "1,000 pages, x 16 shards = 16,000 calls" in line(spread, "reading")
    assert "one run over all shards" in line(LARGE, "reading")


def test_workers_multiply_the_pace_until_4seller_limits_it() -> None:
    found = replace(USUAL, spread=True, limit=limit(300))
    assert plan_capacity(found).pace == 300.0
    assert line(found, "a full sync's pace") == (
        "100 calls a second x 4 workers = 400, of which the limit lets through 300 calls a second."
    )


def test_there_are_no_more_workers_than_shards() -> None:
    assert plan_capacity(replace(USUAL, spread=True, shards=1, shards_at_once=1000)).pace == 100.0


@pytest.mark.parametrize(
    ("measured", "first", "words"),
    [
        (USUAL, "nothing", "a full sync in 90 days takes 13.1 s"),
        (replace(LARGE, limit=limit(10)), "workers", "MIDAS_SHARDS_AT_ONCE=2: 2 workers instead of 1"),
        (replace(LARGE, limit=limit(6)), "api_limit", "feeds no further worker, at 5 calls a second each"),
        (replace(LARGE, limit=limit(2)), "api_limit", "Ask 4Seller for 29 calls a second"),
        (replace(LARGE, pace=pace(5, by_slots=True)), "concurrency", "MIDAS_IN_FLIGHT from 50 to 281"),
        (replace(LARGE, spread=True, shards=4), "workers", "MIDAS_SHARDS_AT_ONCE=6 and MIDAS_SHARDS=6"),
        (replace(LARGE, spread=True, limit=limit(20)), "api_limit", "15,000 fewer of its calls"),
        (FEW_ITEMS, "interval", "at least 10 minutes; the shorter is 5 now"),
        (replace(FEW_ITEMS, interval_minutes=None), "api_limit", "or push fewer changes"),
        (replace(BUSY, stock_changes=700_000, stock_items=700_000), "api_limit", "take 87% of the pace"),
        (replace(BUSY, pace=pace(5), limit=NO_LIMIT), "workers", "until 3 workers push changes"),
        (replace(USUAL, waiting=500_000, pace=pace(80)), "workers", "backlog of 500,000 items takes 1.74 h"),
        (replace(USUAL, waiting=5, pushes_per_day=10**7), "workers", "2 workers push changes"),
    ],
)
def test_what_holds_it_back_is_raised_first(measured: Measured, first: str, words: str) -> None:
    found = plan_capacity(measured)
    assert (found.advice.first, words in found.words) == (first, True), found.words


def test_a_longer_interval_is_advised_only_for_what_it_saves() -> None:
    rarely = replace(USUAL, stock_changes=100, stock_items=100)
    often = replace(USUAL, stock_changes=144_000, stock_items=100)
    assert with_interval(rarely, 60) == pytest.approx(200, rel=0.05)
    assert with_interval(often, 60) == pytest.approx(200 / 60 / 0.632, rel=0.01)


def test_a_backlog_that_grows_has_no_end() -> None:
    flooded = replace(USUAL, waiting=5, pushes_per_day=10**8)
    assert plan_capacity(flooded).backlog_seconds is None
    assert "= never ends." in line(flooded, "backlog")


def test_what_was_not_measured_is_said() -> None:
    guessed = replace(USUAL, pace=Throughput(100.0, "assumed", "Assumed", True))
    assert plan_capacity(guessed).words.startswith("Too few calls were made to measure anything")
    assert plan_capacity(
        replace(USUAL, pace=Throughput(9.0, "latency", "By latency", True))
    ).words.startswith("The pace is")


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_pace_of_nothing_is_no_pace(rate: float) -> None:
    with pytest.raises(ValueError, match="never ends"):
        pace(rate)
    with pytest.raises(ValueError, match="nothing through"):
        limit(rate)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.00333, "0.00333"), (1.5, "1.5"), (99.99, "100"), (123456.7, "123,457"), (-20.0, "-20")],
)
def test_no_number_is_shown_as_nothing(value: float, text: str) -> None:
    assert number(value) == text


def test_durations_are_in_the_unit_of_a_person() -> None:
    told = [duration_in_words(seconds) for seconds in (0.0123, 59, 90, 7200, 303_000, float("inf"))]
    assert told == ["0.0123 s", "59 s", "1.5 min", "2 h", "3.51 days", "never ends"]


@given(shops())
def test_advice_makes_nothing_longer(measured: Measured) -> None:
    then = advise(measured).then
    for days in HORIZONS[:-1]:  # a catalogue that is small still may be read more often, within the hour
        longest = max(sync_seconds(measured, days), GOAL_SECONDS)
        assert sync_seconds(then, days) <= longest * (1 + 1e-9)
    assert sync_seconds(then, HORIZONS[-1]) <= sync_seconds(measured, HORIZONS[-1]) * (1 + 1e-9)
    assert backlog_seconds(then) <= backlog_seconds(measured) * (1 + 1e-9)


@given(shops())
def test_nothing_is_advised_but_where_a_need_is_not_met(measured: Measured) -> None:
    found = advise(measured)
    assert found.first == "nothing" or not all(need.met for need in needs(measured))
    assert found.first != "nothing" or found.then == measured


@given(shops())
def test_no_more_workers_are_advised_than_the_limit_feeds(measured: Measured) -> None:
    found = advise(measured)
    if found.first == "workers":
        count = max(found.then.workers * (found.then.spread and not measured.spread), found.then.pushers)
        raised = max(count, found.then.workers if found.then.workers > measured.workers else 1)
        assert raised == 1 or raised * measured.pace.per_second <= measured.most * (1 + 1e-9)
    assert found.then.in_flight <= max(measured.in_flight, MOST_IN_FLIGHT)


@given(shops(), st.integers(0, 1_000_000))
def test_more_items_take_no_less(measured: Measured, more: int) -> None:
    later = replace(measured, items=measured.items + more)
    assert all(sync_seconds(later, days) >= sync_seconds(measured, days) for days in HORIZONS)


@given(shops(), RATES, RATES)
def test_a_quicker_worker_and_a_higher_limit_take_no_longer(
    measured: Measured, one: float, other: float
) -> None:
    slow, quick = sorted((one, other))
    assert sync_seconds(replace(measured, pace=pace(quick)), 0) <= sync_seconds(
        replace(measured, pace=pace(slow)), 0
    )
    higher, lower = (replace(measured, limit=Limit(rate, "Set.")) for rate in (quick, slow))
    assert sync_seconds(higher, 0) <= sync_seconds(lower, 0)


@given(shops())
def test_longer_intervals_never_push_more(measured: Measured) -> None:
    pushes = [with_interval(measured, minutes) for minutes in range(measured.interval_minutes or 1, 61)]
    assert all(later <= sooner * (1 + 1e-9) for sooner, later in pairwise(pushes))


@given(shops())
def test_any_shop_has_a_plan_to_read(measured: Measured) -> None:
    told = capacity_markdown(plan_capacity(measured))
    assert not any(word in told for word in (" inf", "nan", "e-0", "e+"))
