"""Waits after failures: they double, and a clock that is set back makes none of them longer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from midas_pipelines.storefront.types import utc_now

SLACK_SECONDS = 5
"""How far ahead of its longest a wait may seem to end, such as one that another process has just begun."""


@dataclass(frozen=True)
class Backoff:
    """How long something waits after it failed.

    Args:
        first: seconds after the first failure that costs a wait; twice as many after each more.
        longest: seconds.
        free: failures in a row that cost no wait.
        other: the longest wait for another reason, in seconds, such as one that 4Seller asks for.
    """

    first: float
    longest: float
    free: int = 0
    other: float = 120.0

    def seconds(self, attempts: int) -> float:
        """The wait after the `attempts`-th failure in a row."""
        doublings = min(attempts - self.free - 1, 30)
        return 0.0 if doublings < 0 else min(self.longest, self.first * 2**doublings)

    def bounded(self, seconds: float, attempts: int) -> float:
        """That wait, or the longest one that `is_due` lets stand."""
        return min(seconds, self._most(attempts))

    def is_due(
        self, moment: sa.ColumnElement[datetime | None], attempts: sa.ColumnElement[int]
    ) -> sa.ColumnElement[bool]:
        """Whether a wait is over by the database's clock.

        It is also over where its end is further ahead than a wait after so many attempts can be: the clock has been set
        back since.
        """
        last = self.free + 1
        while self.seconds(last) < self.longest:
            last += 1
        steps = [(attempts <= n, utc_now(self._bound(n))) for n in range(last)]
        return sa.or_(is_due(moment, 0), moment > sa.case(*steps, else_=utc_now(self._bound(last))))

    def _most(self, attempts: int) -> float:
        return max(self.other, self.seconds(attempts))

    def _bound(self, attempts: int) -> int:
        return round(self._most(attempts)) + SLACK_SECONDS


def is_due(moment: sa.ColumnElement[datetime | None], longest_seconds: int) -> sa.ColumnElement[bool]:
    """Whether a wait is over by the database's clock: there is none, its end has come, or its end is further ahead than
    any wait lasts, for the clock has been set back since; 0 for waits of any length."""
    over = [moment.is_(None), moment <= utc_now()]
    return sa.or_(*over, *([moment > utc_now(longest_seconds)] if longest_seconds else []))
