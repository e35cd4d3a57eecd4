"""When a buyer has to be erased."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from midas_pipelines.sync.privacy.due import QUIET_DAYS, OrderTimes, due_at

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def days(ago: float) -> datetime:
    """So many days before now."""
    return NOW - timedelta(days=ago)


NEW = OrderTimes("pending", "pending", None, None, None, days(50), days(60))
QUIET = 50 - QUIET_DAYS


@pytest.mark.parametrize(
    ("times", "starts"),
    [
        (replace(NEW, at_market="delivered", delivered_at=days(40)), 50),  # reported so before it was written
        (replace(NEW, at_market="shipped", delivered_at=days(40)), 40),  # delivered by the shop alone
        (replace(NEW, in_shop="delivered", delivered_at=days(40), shipped_at=days(45)), 40),
        (
            replace(NEW, at_market="delivered", reported_at=days(1800)),
            1800,
        ),  # imported long after it was delivered
        (replace(NEW, at_market="delivered", reported_at=None), 60),
        (replace(NEW, at_market="delivered", reported_at=days(-900)), 60),  # a date to come is no date
        (replace(NEW, at_market="refunded", delivered_at=days(40), ended_at=days(10)), 40),
        (replace(NEW, at_market="cancelled", ended_at=days(55)), 55),
        (replace(NEW, in_shop="cancelled", reported_at=days(1)), 60),
        (replace(NEW, at_market="shipped", shipped_at=days(45), reported_at=days(44)), 45),
        (replace(NEW, at_market="shipped", in_shop="shipped", reported_at=None), 60),
        (NEW, QUIET),
        (replace(NEW, reported_at=days(200), imported_at=days(200)), 200 - QUIET_DAYS),
        (replace(NEW, content_at=days(3)), 3 - QUIET_DAYS),
        (replace(NEW, reported_at=days(-900)), 60 - QUIET_DAYS),
    ],
)
def test_the_days_are_counted_from(times: OrderTimes, starts: float) -> None:
    assert due_at(times, 30, NOW) == days(starts - 30)


def test_never_is_never() -> None:
    assert due_at(NEW, None, NOW) is None
