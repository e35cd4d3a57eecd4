"""Counts what a push did, and reports how far a run has come: with its first batch, and then at most once a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from midas_pipelines.store.items.claims import PushOutcome, PushResult
from midas_pipelines.sync.gate import SHADOWED

BRAKED = "The brake is on: too many items at once would be zeroed, removed, repriced or relisted."

CANARY = "A wave of the changes failed, so the rest waits."

PREVIEW = 20
"""Rows in a preview table."""


@dataclass
class PushCounts:
    """Counts of one push; every claimed item is counted once."""

    claimed: int = 0
    created: int = 0
    adopted: int = 0
    updated: int = 0
    pushed: int = 0  # quantities alone
    deleted: int = 0
    unchanged: int = 0
    quarantined: int = 0
    unexpected: int = 0  # of those set aside, the ones that no scan could know: refused, or sharing a SKU
    failed: int = 0
    released: int = 0
    held: int = 0  # released because the brake is on
    shadowed: int = 0  # recorded and not sent: shadow mode
    held_items: list[dict[str, str]] = field(default_factory=list)  # the first of them
    problems: list[dict[str, str]] = field(default_factory=list)  # a preview: the first of them

    def count(self, outcome: PushOutcome, sku: str | None = None) -> None:
        """Adds one item's end; `sku` names it where its mapping holds none yet."""
        self.claimed += 1
        self.unexpected += outcome.unexpected
        match outcome.result:
            case PushResult.LISTED if outcome.created:
                self.created += 1
            case PushResult.LISTED:
                self.adopted += outcome.adopted
                self.updated += outcome.wrote
                self.unchanged += not outcome.wrote
            case PushResult.QUANTITY if outcome.refused:
                self.quarantined += 1
            case PushResult.QUANTITY:
                self.pushed += 1
            case PushResult.REMOVED:
                self.deleted += outcome.wrote
                self.unchanged += not outcome.wrote
            case PushResult.UNCHANGED:
                self.unchanged += 1
            case PushResult.QUARANTINED:
                self.quarantined += 1
            case PushResult.FAILED:
                self.failed += 1
            case PushResult.RELEASED if outcome.reason in (BRAKED, CANARY):
                self.held += 1
                if len(self.held_items) < PREVIEW:
                    row = {"sku": sku or outcome.mapping.sku or "", "reason": outcome.reason or ""}
                    self.held_items.append(row)
            case PushResult.RELEASED if outcome.reason == SHADOWED:
                self.shadowed += 1
            case PushResult.RELEASED:
                self.released += 1
        shown = outcome.refused or outcome.result in (PushResult.QUARANTINED, PushResult.FAILED)
        if outcome.reason and shown and len(self.problems) < PREVIEW:
            self.problems.append(
                {
                    "sku": sku or outcome.mapping.sku or "",
                    "result": outcome.result.value,
                    "reason": outcome.reason,
                }
            )

    def add(self, other: PushCounts) -> None:
        """Adds the counts of another push."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


Say = Callable[[str], None]


class ProgressReporter:
    """Says how many of `things` are done, how fast, and how long the rest will take.

    Args:
        say: takes the line.
        things: what is worked on, such as `items`.
    """

    def __init__(self, say: Say, things: str) -> None:
        self._say, self._things = say, things
        self._started, self._last = time.monotonic(), -math.inf

    def __call__(self, done: int, failed: int, total: Callable[[], int | None]) -> None:
        """Tells of a batch, unless the last line is too recent; only then it asks for the total."""
        now = time.monotonic()
        if now - self._last >= 1.0:
            self._last = now
            self._say(progress_in_words(self._things, done, failed, now - self._started, total()))


def report_progress(
    say: Say, things: str, waiting: Callable[[], int] | None = None
) -> Callable[[PushCounts], None]:
    """A callback for a push.

    Args:
        say: takes the line.
        things: what is pushed, such as `items`.
        waiting: counts what is yet to be pushed; asked once, when the first line is due.
    """
    teller = ProgressReporter(say, things)
    totals: list[int] = []

    def progress(tally: PushCounts) -> None:
        def total() -> int | None:
            if waiting is not None and not totals:
                totals.append(tally.claimed + waiting())
            return totals[0] if totals else None

        teller(tally.claimed, tally.failed, total)

    return progress


def progress_in_words(things: str, done: int, failed: int, seconds: float, total: int | None) -> str:
    """One line of the log: done of total, failures, rate, time left."""
    rate = done / seconds if seconds > 0 else 0.0
    if total is None:
        return f"{done} {things} done, {failed} failed; {rate:.0f} a second."
    left = max(0, total - done)
    ahead = f", about {_duration(left / rate)} left" if rate > 0 and left else ""
    return f"{done} of {max(total, done)} {things} done, {failed} failed; {rate:.0f} a second{ahead}."


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
