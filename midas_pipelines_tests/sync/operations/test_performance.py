"""Sums over syncs and gateways, and the report that an owner reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midas_pipelines.store.operations.overview import Overview
from midas_pipelines.store.operations.sync_metrics import GATEWAY, SyncRow
from midas_pipelines.sync.operations.daily_report import report_markdown, short
from midas_pipelines.sync.operations.performance import by_kind, sum_up

SYNC = SyncRow(
    "products",
    "full",
    "done",
    requests=31,
    seconds=2.0,
    counts={"scanned": 30, "updated": 1, "calls": {"requests": 31, "failed": 0, "seconds": 3.1}},
)
MINUTE = SyncRow(
    GATEWAY,
    "at once",
    "partial",
    requests=600,
    seconds=3.0,
    counts={
        "scanned": 560,
        "created": 556,
        "delivered": 556,
        "delivered_seconds": 111.2,
        "slowest_seconds": 1.5,
        "calls": {"requests": 600, "failed": 6, "seconds": 30.0},
    },
)


def test_what_the_gateway_did_counts_but_it_is_no_sync() -> None:
    found = sum_up([SYNC, MINUTE])
    assert (found.syncs, found.written, found.requests, found.failed_calls) == (1, 557, 631, 6)
    assert (found.error_rate, found.seconds_per_call, found.seconds_to_channel) == (0.0095, 0.0525, 0.2)


def test_orders_taken_in_are_no_writes_at_4seller() -> None:
    assert sum_up([SyncRow("orders", "changed", "done", 1, 1.0, {"created": 7, "fetched": 7})]).written == 0


def test_rows_of_before_calls_were_summed_up_count_neither_as_failed_nor_as_good() -> None:
    old = SyncRow("products", "full", "failed", requests=1000, seconds=1.0)
    assert sum_up([old, MINUTE]).error_rate == 0.01


CALLS = st.integers(0, 50).flatmap(lambda failed: st.tuples(st.integers(failed, 1000), st.just(failed)))


@given(st.lists(CALLS))
def test_no_more_calls_failed_than_were_sent(calls: list[tuple[int, int]]) -> None:
    rows = [
        SyncRow("products", "full", "done", sent, 1.0, {"calls": {"requests": sent, "failed": failed}})
        for sent, failed in calls
    ]
    assert 0.0 <= sum_up(rows).error_rate <= 1.0


def test_the_report_tells_of_both_drivers() -> None:
    day = sum_up([SYNC, MINUTE])
    told = report_markdown(Overview(items={"listed": 556}), day, by_kind([SYNC, MINUTE]))
    assert "- Items created, changed or removed at 4Seller, those of the gateway included: 557." in told
    assert "The gateway brought 556 changes to 4Seller, in 0.20 s each on average, 1.5 s at most." in told
    assert "| gateway | all day |  | 560 | 556 | 600 | 3.0 |" in told
    assert short(Overview(), day).startswith(
        "Daily sync report. Items written at 4Seller: 557; syncs: 1, 0 failed;"
    )


def test_a_shop_without_a_gateway_is_told_nothing_of_it() -> None:
    assert "The gateway brought" not in report_markdown(Overview(), sum_up([SYNC]), by_kind([SYNC]))
