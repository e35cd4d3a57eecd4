"""One worker's pace and 4Seller's limit, from what syncs and gateways left in the log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midas_pipelines.store.operations.sync_metrics import GATEWAY, SyncRow
from midas_pipelines.sync.operations.throughput import MOST_OF_ONE, is_large, limit_of, throughput_of

IN_FLIGHT = 50


def row(kind: str = "products", *, push_seconds: float = 0.0, seconds: float = 1.0, **calls: Any) -> SyncRow:
    """A row of the log; `calls` are sums over its calls."""
    counts = {"push_seconds": push_seconds, "calls": calls}
    return SyncRow(kind, "full", "done", int(calls.get("requests", 0)), seconds, counts)


SCAN = row(seconds=60.0, push_seconds=0.5, requests=6, seconds_=0.3, seconds_of_reads=0.3)
PUSH = row(seconds=9.0, push_seconds=2.0, requests=566, writes=556, write_seconds=90.0, seconds_=95.0)
MINUTE = row(GATEWAY, seconds=30.0, requests=400, writes=400, write_seconds=20.0)


def test_a_scan_says_nothing_of_pushing_however_long_it_took() -> None:
    assert (
        throughput_of([SCAN] * 288 + [PUSH], IN_FLIGHT).per_second
        == throughput_of([PUSH], IN_FLIGHT).per_second
        == 278
    )


def test_full_slots_hold_the_pace_and_empty_ones_do_not() -> None:
    idle = row(push_seconds=2.0, requests=556, writes=556, write_seconds=20.0)
    assert (throughput_of([PUSH], IN_FLIGHT).by_slots, throughput_of([idle], IN_FLIGHT).by_slots) == (
        True,
        False,
    )
    assert throughput_of([PUSH], IN_FLIGHT).words == (
        "556 writes / 2 s of pushing in 1 sync = 278 calls a second, with 45 of 50 requests under way on average"
    )


def test_a_push_of_quantities_is_all_push() -> None:
    push = row("inventory", seconds=4.0, requests=200, writes=200, write_seconds=100.0)
    assert throughput_of([push], IN_FLIGHT).per_second == 50.0


def test_a_gateway_tells_the_latency_only() -> None:
    found = throughput_of([MINUTE], 20)
    assert not is_large(MINUTE, 20)
    assert (found.source, found.per_second) == ("latency", 400.0)
    assert "400 calls: 20 requests under way / 0.05 s = 400 calls a second at most" in found.words


def test_latency_alone_promises_no_more_than_a_worker_was_ever_seen_to_make() -> None:
    quick = row(GATEWAY, requests=400, writes=400, write_seconds=0.8)
    assert throughput_of([quick], IN_FLIGHT).per_second == MOST_OF_ONE
    assert not throughput_of([quick], IN_FLIGHT).by_slots


@pytest.mark.parametrize("rows", [[], [SCAN], [SyncRow("products", "full", "failed", 9000, 9.0)]])
def test_without_samples_it_says_what_it_rests_on(rows: list[SyncRow]) -> None:
    found = throughput_of(rows, IN_FLIGHT)
    assert (found.source, found.per_second) == ("assumed", 100.0)
    assert "Assumed, not measured: 50 requests under way / 0.5 s a call = 100" in found.words


def learnt(rate: float | None) -> SyncRow:
    return row(requests=100, writes=50, learnt_rate=rate)


@pytest.mark.parametrize(
    ("rows", "configured", "known"),
    [
        ([], None, None),
        ([PUSH], 40.0, 40.0),
        ([learnt(12.5)], None, 12.5),
        ([learnt(12.5)], 40.0, 12.5),
        ([learnt(12.5)], 10.0, 10.0),
        ([learnt(12.5), learnt(None)], None, None),
        ([learnt(12.5), SCAN], None, 12.5),
    ],
)
def test_the_lowest_limit_that_is_known_holds(
    rows: list[SyncRow], configured: float | None, known: float | None
) -> None:
    assert limit_of(rows, IN_FLIGHT, configured).per_second == known


def test_a_pace_at_which_4seller_refuses_is_the_limit() -> None:
    refused = row(push_seconds=10.0, requests=500, writes=400, write_seconds=20.0, limited=100)
    found = limit_of([refused], IN_FLIGHT, 100.0)
    assert (found.per_second, "429 to 100 of 500 calls" in found.words) == (40.0, True)


NUMBERS = st.one_of(st.just(0.0), st.floats(1e-4, 1e6))
"""As the log keeps them: seconds to the tenth of a millisecond."""


@given(
    st.lists(
        st.builds(
            row,
            push_seconds=NUMBERS,
            seconds=NUMBERS,
            requests=NUMBERS,
            writes=NUMBERS,
            write_seconds=NUMBERS,
        )
    ),
    st.integers(1, 500),
)
def test_any_log_gives_a_pace(rows: list[SyncRow], in_flight: int) -> None:
    assert throughput_of(rows, in_flight).per_second > 0
