"""How long an item that changed again just after its push waits, so that a burst of changes costs few pushes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

RECENT_SECONDS = 2.0
"""An item whose last push is older goes at once; so does one at the latest this long after its last push."""

QUIET_SECONDS = 0.12
"""An item pushed more recently goes once it has not changed for this long."""


@dataclass(frozen=True, slots=True)
class Ready:
    """An item that could be claimed now: its version, and the seconds since its last push (None for never)."""

    id: int
    version: int
    pushed_ago: float | None


class Pacing:
    """Remembers since when each waiting item has been at its version, by a clock in seconds."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[int, float]] = {}

    def sort(self, ready: list[Ready], now: float) -> tuple[list[int], float | None]:
        """The ids that may be pushed now, and the seconds until the next of the others may; None without others."""
        self._since = {item.id: self._seen(item, now) for item in ready}
        waits = {item.id: wait_seconds(item.pushed_ago, now - self._since[item.id][1]) for item in ready}
        later = [seconds for seconds in waits.values() if seconds > 0]
        return [item for item, seconds in waits.items() if seconds <= 0], min(later, default=None)

    def _seen(self, item: Ready, now: float) -> tuple[int, float]:
        version, since = self._since.get(item.id, (item.version, now))
        return (item.version, since if version == item.version else now)


def wait_seconds(pushed_ago: float | None, unchanged_for: float) -> float:
    """How long an item waits that was pushed so long ago and has not changed for so long."""
    if pushed_ago is None or pushed_ago >= RECENT_SECONDS:
        return 0.0
    return max(0.0, min(QUIET_SECONDS - unchanged_for, RECENT_SECONDS - pushed_ago))
