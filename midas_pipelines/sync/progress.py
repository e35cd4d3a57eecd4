"""Telling how far a push has come, in words, at most once a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from midas_pipelines.sync.tally import Tally


def tell(say: Callable[[str], None], things: str) -> Callable[[Tally], None]:
    """A callback for a push that says how many of `things` are done, and how fast."""
    started = time.monotonic()
    last = [started]

    def progress(tally: Tally) -> None:
        now = time.monotonic()
        if now - last[0] < 1.0:
            return
        last[0] = now
        rate = tally.claimed / (now - started)
        say(f"{tally.claimed} {things} done, {tally.failed} failed; {rate:.0f} a second.")

    return progress
