"""Judging whether 4Seller is down, for a worker that never stops: then few are tried, and it costs no item an attempt."""

from __future__ import annotations

from dataclasses import replace

from midas_pipelines.store.claims import Fate, Outcome

FEW = 3
"""Items tried in one go while 4Seller counts as down."""

SOON_DOWN = 5
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
CREDENTIALS_PAUSE = 30.0


class Trouble:
    """Counts failures in a row; `reason` says what is wrong, None while all is well. Times are on one clock, in seconds.

    A quiet shop pushes one item now and then, so a worker must not wait for as many failures as a bulk run does.
    """

    def __init__(self, failures_in_a_row: int) -> None:
        self._limit = min(SOON_DOWN, failures_in_a_row)
        self._misses = 0
        self._pause = FIRST_PAUSE
        self._paused_until = 0.0
        self.reason: str | None = None

    def allowance(self, now: float) -> int:
        """How many items may be tried now."""
        if now < self._paused_until:
            return 0
        return FEW if self.reason is not None else 1_000_000

    def refused(self, why: str, now: float) -> None:
        """The credentials are wrong: every call would fail."""
        self.reason = why
        self._misses = self._limit
        self._paused_until = now + CREDENTIALS_PAUSE

    def judge(self, outcome: Outcome, now: float) -> Outcome:
        """The outcome as it is to be written: what failed because 4Seller is down was not the item's fault."""
        if outcome.fate is Fate.RELEASED:
            return outcome
        if outcome.fate is not Fate.FAILED:
            self._misses, self._pause, self.reason = 0, FIRST_PAUSE, None
            self._paused_until = 0.0
            return outcome
        self._misses += 1
        if self._misses < self._limit:
            return outcome
        self.reason = outcome.reason
        if now >= self._paused_until:
            self._paused_until = now + self._pause
            self._pause = min(LONGEST_PAUSE, self._pause * 2)
        return replace(outcome, fate=Fate.RELEASED, wait_seconds=self._pause)
