"""Telling how far a push has come, in words, at most once a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from midas_pipelines.sync.tally import Tally


def tell(
    say: Callable[[str], None], things: str, waiting: Callable[[], int] | None = None
) -> Callable[[Tally], None]:
    """A callback for a push that says how many of `things` are done, how fast, and how long the rest will take.

    Args:
        say: takes the line.
        things: what is pushed, such as `items`.
        waiting: counts what is yet to be pushed; asked once, when the first line is due.
    """
    started = time.monotonic()
    last = [started]
    total: list[int] = []

    def progress(tally: Tally) -> None:
        now = time.monotonic()
        if now - last[0] < 1.0:
            return
        last[0] = now
        if waiting is not None and not total:
            total.append(tally.claimed + waiting())
        say(story(things, tally.claimed, tally.failed, now - started, total[0] if total else None))

    return progress


def story(things: str, done: int, failed: int, seconds: float, total: int | None) -> str:
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
