"""When a buyer has to be erased."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from midas_pipelines.sync.privacy.due import QUIET_DAYS, due_at

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def days(ago: float) -> datetime:
    """So many days before now."""
    return NOW - timedelta(days=ago)


@dataclass(frozen=True)
class Times:
    """What is known of an order's life, as its row has it."""

    status: str = "pending"
    in_shop: str | None = "pending"
    delivered: datetime | None = None
    ended: datetime | None = None
    shipped: datetime | None = None
    source_updated_at: datetime | None = NOW - timedelta(days=50)
    imported_at: datetime = NOW - timedelta(days=60)
    content_at: datetime | None = None


NEW = Times()
QUIET = 50 - QUIET_DAYS


@pytest.mark.parametrize(
    ("times", "starts"),
    [
        (replace(NEW, status="delivered", delivered=days(40)), 50),  # reported so before it was written
        (replace(NEW, status="shipped", delivered=days(40)), 40),  # delivered by the shop alone
        (replace(NEW, in_shop="delivered", delivered=days(40), shipped=days(45)), 40),
        (replace(NEW, status="delivered", source_updated_at=days(1800)), 1800),  # imported long after it
        (replace(NEW, status="delivered", source_updated_at=None), 60),
        (replace(NEW, status="delivered", source_updated_at=days(-900)), 60),  # a date to come is no date
        (replace(NEW, status="refunded", delivered=days(40), ended=days(10)), 40),
        (replace(NEW, status="cancelled", ended=days(55)), 55),
        (replace(NEW, in_shop="cancelled", source_updated_at=days(1)), 60),
        (replace(NEW, status="shipped", shipped=days(45), source_updated_at=days(44)), 45),
        (replace(NEW, status="shipped", in_shop="shipped", source_updated_at=None), 60),
        (NEW, QUIET),
        (replace(NEW, source_updated_at=days(200), imported_at=days(200)), 200 - QUIET_DAYS),
        (replace(NEW, content_at=days(3)), 3 - QUIET_DAYS),
        (replace(NEW, source_updated_at=days(-900)), 60 - QUIET_DAYS),
    ],
)
def test_the_days_are_counted_from(times: Times, starts: float) -> None:
    assert due_at(times, 30, NOW) == days(starts - 30)


def test_never_is_never() -> None:
    assert due_at(NEW, None, NOW) is None
