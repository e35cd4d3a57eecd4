"""What the push loop holds back for a while: an item that keeps changing, and everything while 4Seller is down."""

from __future__ import annotations

from dataclasses import dataclass, replace

from midas_pipelines.store.items.acknowledge import PushOutcome, PushResult
from midas_pipelines.store.items.claims import Claimable

RECENT_SECONDS = 1.0  # an item that changes less often than this is always pushed at once

RESTLESS_SECONDS = 3.0  # so long an item that had been changing on and on is not taken for a quiet one

FIRST_HOLD = (0.12, 2.0)
NEXT_HOLDS = (0.8, 30.0)
"""Seconds without a change after which a held item goes, and seconds since its last push after which it goes anyway."""


@dataclass(slots=True)
class _Known:
    version: int
    since: float  # when it was first seen at this version
    streak: int  # pushes that came one upon the other
    seen: float


class Debounce:
    """Remembers how items have been changing, by a clock in seconds."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def sort(self, ready: list[Claimable], now: float) -> tuple[list[int], float | None]:
        """The ids that may be pushed now, and the seconds until the next of the others may; None without others."""
        waits = {
            one.id: wait_seconds(one, (met := self._meet(one, now)).streak, now - met.since) for one in ready
        }
        if len(self._known) > 10_000:
            recent = {key: one for key, one in self._known.items() if now - one.seen <= RESTLESS_SECONDS}
            self._known = recent
        later = [wait for wait in waits.values() if wait > 0]
        return [item for item, wait in waits.items() if wait <= 0], min(later, default=None)

    def started(self, ids: list[int], now: float) -> None:
        """Says that these are being pushed."""
        for known in (self._known[item] for item in ids if item in self._known):
            known.streak += 1
            known.seen = now

    def _meet(self, item: Claimable, now: float) -> _Known:
        known = self._known.get(item.id)
        if known is None or now - known.seen > RECENT_SECONDS:
            just_pushed = item.pushed_ago is not None and item.pushed_ago < RECENT_SECONDS
            restless = known is not None and known.streak > 1 and now - known.seen <= RESTLESS_SECONDS
            known = self._known[item.id] = _Known(item.version, now, int(just_pushed or restless), now)
        if known.version != item.version:
            known.version, known.since = item.version, now
        known.seen = now
        return known


def wait_seconds(item: Claimable, streak: int, unchanged_for: float) -> float:
    """How long an item waits that has been pushed `streak` times on end and has not changed for so long."""
    if streak == 0 or item.pushed_ago is None or item.urgent:
        return 0.0
    quiet, longest = FIRST_HOLD if streak == 1 else NEXT_HOLDS
    return max(0.0, min(quiet - unchanged_for, longest - item.pushed_ago))


FEW = 2  # items tried in one go while 4Seller counts as down

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
            self._misses, self._pause, self._paused_until, self.reason = 0, FIRST_PAUSE, 0.0, None
            return outcome
        self._misses += UNANSWERED if outcome.unanswered else 1
        if self._misses < self._limit:
            return outcome
        self.reason = outcome.reason
        self._paused_until = max(self._paused_until, now + self._pause)
        return replace(outcome, result=PushResult.RELEASED, wait_seconds=OTHERS_FIRST * self._pause)
