"""The capacity plan: its arithmetic, and what it advises to raise first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midas_pipelines.sync.capacity import Measured, plan

USUAL = Measured(
    items=1000,
    new_in_30_days=100,
    waiting=50,
    changes_per_day=200,
    requests=1000,
    seconds=10.0,
    in_flight=50,
    workers=1,
    rate_limit=None,
    interval_minutes=5,
)
LARGE = replace(USUAL, items=1_000_000, new_in_30_days=0)


def test_items_grow_as_they_did_and_take_the_time_that_calls_take() -> None:
    found = plan(USUAL)
    assert found is not None
    assert [(step.days, step.items, step.seconds) for step in found.steps] == [
        (0, 1000, 10.1),
        (30, 1100, 11.1),
        (90, 1300, 13.1),
    ]
    assert found.backlog_seconds == 0.5
    assert found.steps[1].arithmetic == (
        "1000 + 100 / 30 x 30 = 1100 items; (1100 writes + 11 pages) / 100.0 a second = 11 s"
    )


def test_workers_multiply_the_pace_until_4seller_limits_it() -> None:
    found = plan(replace(USUAL, workers=4, rate_limit=300.0))
    assert found is not None
    assert found.pace == 300.0
    assert found.pace_arithmetic.endswith("x 4 workers = 400.0, 4Seller allows 300: 300.0 a second")


@pytest.mark.parametrize(
    ("measured", "first"),
    [
        (USUAL, "nothing"),
        (LARGE, "workers"),
        (replace(LARGE, workers=2), "workers"),
        (replace(LARGE, rate_limit=100.0), "api_limit"),
        (replace(LARGE, rate_limit=1000.0), "workers"),
        (replace(USUAL, changes_per_day=8_640_000), "interval"),
    ],
)
def test_what_holds_it_back_is_raised_first(measured: Measured, first: str) -> None:
    found = plan(measured)
    assert found is not None
    assert found.raise_first == first


@pytest.mark.parametrize("measured", [replace(USUAL, requests=19), replace(USUAL, seconds=0.0)])
def test_too_little_measured_says_nothing(measured: Measured) -> None:
    assert plan(measured) is None


def test_an_empty_shop_has_a_plan() -> None:
    found = plan(replace(USUAL, items=0, new_in_30_days=0, waiting=0))
    assert found is not None
    assert found.steps[0].seconds == 0.0
