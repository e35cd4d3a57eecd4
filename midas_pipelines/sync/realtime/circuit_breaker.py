"""Circuit breaker of a worker that never stops: while 4Seller is down few items are tried, and it costs none an attempt."""

from __future__ import annotations

from dataclasses import replace

from midas_pipelines.store.items.claims import PushOutcome, PushResult

FEW = 2
"""Items tried in one go while 4Seller counts as down."""

SOON_DOWN = 5
UNANSWERED = 3
"""How many failures one without an answer counts for: it has failed three times already, and hardly by the item's fault."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 4.0
"""Seconds between tries, doubling: short, so that pushing goes on within ten seconds of 4Seller's return."""

REFUSED_PAUSE = 8.0
OTHERS_FIRST = 1.5
"""Pauses that an item waits which was tried in vain, so that the next try is another item's."""


class CircuitBreaker:
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

    def tried(self, now: float) -> None:
        """Says that items are on their way; while 4Seller is down the next ones go a pause later, answered or not."""
        if self.reason is not None:
            self._paused_until = max(self._paused_until, now + self._pause)
            self._pause = min(LONGEST_PAUSE, self._pause * 2)

    def refused(self, why: str, now: float) -> None:
        """The access is refused, or a long pause is asked for: every call would fail."""
        self.reason = why
        self._misses = self._limit
        self._paused_until = now + REFUSED_PAUSE

    def judge(self, outcome: PushOutcome, now: float) -> PushOutcome:
        """The outcome as it is to be written: what failed because 4Seller is down was not the item's fault."""
        if outcome.result is PushResult.RELEASED:
            if (outcome.wait_seconds or 0.0) <= REFUSED_PAUSE:
                return outcome
            self.refused(outcome.reason or "4Seller asks for a pause.", now)
            return replace(outcome, wait_seconds=REFUSED_PAUSE)
        if outcome.result is not PushResult.FAILED:
            self._misses, self._pause, self.reason = 0, FIRST_PAUSE, None
            self._paused_until = 0.0
            return outcome
        self._misses += UNANSWERED if outcome.unanswered else 1
        if self._misses < self._limit:
            return outcome
        self.reason = outcome.reason
        self._paused_until = max(self._paused_until, now + self._pause)
        return replace(outcome, result=PushResult.RELEASED, wait_seconds=OTHERS_FIRST * self._pause)
