"""Telling how far a run has come, in words: with its first batch, and then at most once a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from midas_pipelines.sync.orders.intake.pages import OrderReport
from midas_pipelines.sync.push_counts import PushCounts

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


def order_progress(say: Say) -> Callable[[OrderReport], None]:
    """A callback for an import of orders."""
    teller = ProgressReporter(say, "orders")

    def progress(report: OrderReport) -> None:
        done = report.imported + report.duplicates + report.failed
        teller(done, report.failed, lambda: report.declared or None)

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
