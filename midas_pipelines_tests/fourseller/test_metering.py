"""The sums over a client's calls: no share above one, no second counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from midas_pipelines.fourseller.http.rate_limit import CallMeter, CallSums


def clock(*moments: float) -> Callable[[], float]:
    """A clock that shows these, one after the other."""
    left: Iterator[float] = iter(moments)
    return lambda: next(left)


def test_calls_that_overlap_keep_it_busy_once() -> None:
    meter = CallMeter(clock(0.0, 1.0, 3.0, 4.0, 10.0, 11.0, 20.0))
    first, second = meter.begin(), meter.begin()
    meter.end(first, write=True)
    meter.end(second, write=False)
    meter.end(meter.begin(), write=True)
    sums = meter.read()
    assert (sums.requests, sums.writes, sums.seconds, sums.write_seconds) == (3, 2, 7.0, 4.0)
    assert sums.busy_seconds == 5.0


def test_a_call_under_way_is_busy_but_not_yet_counted() -> None:
    meter = CallMeter(clock(0.0, 2.0))
    meter.begin()
    assert (meter.sent, meter.read()) == (1, CallSums(busy_seconds=2.0))


def test_a_call_that_fails_in_the_next_minute_is_counted_there_with_its_failure() -> None:
    meter = CallMeter(clock(0.0, 1.0, 2.0, 2.0))
    began = meter.begin()
    earlier = meter.read()
    meter.end(began, write=True)
    meter.failed(429)
    later = meter.read().since(earlier)
    assert (later.requests, later.failed, later.limited) == (1, 1, 1)
    assert later.busy_seconds == pytest.approx(1.0)
