"""How long an item that changes again and again waits, so that a burst of changes costs few pushes. Pure.

The first change goes at once. One that comes within a second of its item's last push waits until the item has not
changed for a moment; while an item goes on and on, for a longer moment. But what would sell what is not there goes at
once: a stock that has fallen below half of what the channel shows.
"""

from __future__ import annotations

from dataclasses import dataclass

RECENT_SECONDS = 1.0
"""An item that changes less often than this is always pushed at once."""

RESTLESS_SECONDS = 3.0
"""So long an item that had been changing on and on is not taken for a quiet one."""

FIRST_HOLD = (0.12, 2.0)
NEXT_HOLDS = (0.8, 30.0)
"""Seconds without a change after which a held item goes, and seconds since its last push after which it goes anyway."""


@dataclass(frozen=True, slots=True)
class Ready:
    """An item that could be claimed now: its version, and the seconds since its last push (None for never).

    `urgent` is whether the channel shows more than twice what is there.
    """

    id: int
    version: int
    pushed_ago: float | None
    urgent: bool = False


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

    def sort(self, ready: list[Ready], now: float) -> tuple[list[int], float | None]:
        """The ids that may be pushed now, and the seconds until the next of the others may; None without others."""
        due: list[int] = []
        later: list[float] = []
        for item in ready:
            known = self._meet(item, now)
            wait = wait_seconds(item, known.streak, now - known.since)
            if wait <= 0:
                due.append(item.id)
            else:
                later.append(wait)
        self._forget(now)
        return due, min(later, default=None)

    def started(self, ids: list[int], now: float) -> None:
        """Says that these are being pushed."""
        for item in ids:
            known = self._known.get(item)
            if known is not None:
                known.streak += 1
                known.seen = now

    def _meet(self, item: Ready, now: float) -> _Known:
        known = self._known.get(item.id)
        if known is None or now - known.seen > RECENT_SECONDS:
            just_pushed = item.pushed_ago is not None and item.pushed_ago < RECENT_SECONDS
            restless = known is not None and known.streak > 1 and now - known.seen <= RESTLESS_SECONDS
            known = self._known[item.id] = _Known(item.version, now, int(just_pushed or restless), now)
        if known.version != item.version:
            known.version, known.since = item.version, now
        known.seen = now
        return known

    def _forget(self, now: float) -> None:
        if len(self._known) > 10_000:
            self._known = {
                key: known for key, known in self._known.items() if now - known.seen <= RESTLESS_SECONDS
            }


def wait_seconds(item: Ready, streak: int, unchanged_for: float) -> float:
    """How long an item waits that has been pushed `streak` times on end and has not changed for so long."""
    if streak == 0 or item.pushed_ago is None or item.urgent:
        return 0.0
    quiet, longest = FIRST_HOLD if streak == 1 else NEXT_HOLDS
    return max(0.0, min(quiet - unchanged_for, longest - item.pushed_ago))
