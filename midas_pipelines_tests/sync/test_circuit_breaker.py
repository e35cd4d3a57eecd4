"""The worker's circuit breaker: when it opens, how often it tries, and how soon all goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midas_pipelines.store.items.acknowledge import PushOutcome, PushResult
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.sync.hold_back import FEW, CircuitBreaker

ITEM = Mapping(1, 1, None, "S", "P1", "listed", 1, 0, None, None, None, None, None, 0, None, None)
LISTED = PushOutcome(ITEM, PushResult.LISTED)
FAILED = PushOutcome(ITEM, PushResult.FAILED, reason="4Seller answered 500.")
UNANSWERED = replace(FAILED, unanswered=True)
LIMITED = PushOutcome(ITEM, PushResult.RELEASED, reason="4Seller asks for a pause.", wait_seconds=120.0)


@pytest.mark.parametrize(
    ("outcomes", "down"),
    [
        ([FAILED] * 4, False),
        ([FAILED] * 5, True),
        ([UNANSWERED], False),
        ([UNANSWERED] * 2, True),
        ([UNANSWERED, LISTED, UNANSWERED], False),
        ([LIMITED], True),
        ([replace(LIMITED, wait_seconds=5.0)] * 9, False),
    ],
)
def test_when_4seller_counts_as_down(outcomes: list[PushOutcome], down: bool) -> None:
    trouble = CircuitBreaker(20)
    for outcome in outcomes:
        trouble.judge(outcome, 0.0)
    assert (trouble.reason is not None) is down


@pytest.mark.parametrize("outcome", [UNANSWERED, FAILED, LIMITED], ids=["unanswered", "failed", "limited"])
@pytest.mark.parametrize("answered", [True, False], ids=["failing", "hanging"])
def test_however_long_the_outage_few_try_and_all_goes_on_within_ten_seconds(
    outcome: PushOutcome, answered: bool
) -> None:
    trouble, now, tried, longest = CircuitBreaker(20), 0.0, 0, 0.0
    for _ in range(5):
        trouble.judge(outcome, now)
    while now < 3600:
        now += 1.0
        if trouble.allowance(now):
            tried += FEW
            trouble.tried(now)
            if answered:
                longest = max(longest, trouble.judge(outcome, now).wait_seconds or 0.0)
    assert tried < 2 * 3600
    assert longest <= 8
    assert any(trouble.allowance(now + wait) == FEW for wait in range(9))
    trouble.judge(LISTED, now)
    assert trouble.allowance(now) > FEW


def test_what_fails_in_an_outage_costs_no_attempt() -> None:
    trouble = CircuitBreaker(20)
    trouble.judge(UNANSWERED, 0.0)
    assert trouble.judge(UNANSWERED, 0.0).result is PushResult.RELEASED
