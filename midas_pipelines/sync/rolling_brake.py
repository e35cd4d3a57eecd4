"""The brake of a worker that never stops: it has no whole of a sync to weigh, so it weighs what came within a minute.

What would harm is counted before it is sent, over everything that waits and everything this worker sent of late. Once
that is more than the brake allows, harmful changes wait while all others go on; a person agrees with a plan
(`plans.py`), or the shop takes them back.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.sync.brake import exceeds, harm_of, in_words
from midas_pipelines.sync.plan import Action, Change
from midas_pipelines.sync.scan import chunks

WINDOW_SECONDS = 60.0
"""How long a harmful change counts after it was last met."""

HELD_SECONDS = 30
"""When a change that is held is looked at again; shorter than the window, so that what waits keeps counting."""

REASON = "The brake is on: too many items at once would be zeroed, removed or repriced."
ALERT, SUBJECT = "brake", "gateway"

log = logging.getLogger(__name__)


class RollingBrake:
    """Weighs changes as they come; one worker's, used by one thread at a time. Moments are seconds on one clock."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._harm: dict[int, tuple[str, float]] = {}
        self._weighed: dict[int, int] = {}
        self._last_whole = -WINDOW_SECONDS
        self._told: Counter[str] | None = Counter()  # so that an alert of an earlier worker is closed
        self._excess: Counter[str] | None = None

    @property
    def engaged(self) -> bool:
        """Whether harmful changes wait now."""
        return self._excess is not None

    @property
    def at_rest(self) -> bool:
        """Whether it is off, and staff know."""
        return self._excess is None and self._told is None

    def look_ahead(self, versions: Mapping[int, int], now: float, *, more: bool) -> None:
        """Weighs what is about to be claimed, so that nothing of a large change is sent before all of it is known.

        Args:
            versions: the items that may be pushed now, each with its version.
            now: the moment.
            more: whether others wait behind them: then everything that waits is weighed, once per window.
        """
        self._forget(now)
        if more and now - self._last_whole >= WINDOW_SECONDS:
            self._last_whole = now
            self._weigh(None, now)
        elif len(fresh := self._unweighed(versions)) >= self._settings.brake_items:
            self._weigh(fresh, now)
        self._weighed = dict(versions)
        self._excess = self._too_much()

    def hold(self, changes: list[Change], now: float) -> list[Change]:
        """The changes, with a wait for each harmful one while the brake is on. Writes nothing: it is called in a claim."""
        self._note(changes, now)
        self._excess = self._too_much()
        return [self._held(change) for change in changes] if self.engaged else changes

    def _unweighed(self, versions: Mapping[int, int]) -> list[int]:
        return [item for item, version in versions.items() if self._weighed.get(item) != version]

    def _weigh(self, ids: Sequence[int] | None, now: float) -> None:
        limit = self._settings.title_limit
        for changes in chunks(self._database, title_limit=limit, ids=ids, dirty_only=True, listed_only=True):
            self._note(changes, now)
            if self._too_much() is not None:
                return

    def _note(self, changes: Iterable[Change], now: float) -> None:
        for change in changes:
            what = harm_of(change)
            if what is not None:
                self._harm[change.mapping.id] = (what, now)
            elif change.action is not Action.WAIT:
                self._harm.pop(change.mapping.id, None)  # taken back before anyone agreed

    def _forget(self, now: float) -> None:
        self._harm = {
            item: (what, met) for item, (what, met) in self._harm.items() if now - met < WINDOW_SECONDS
        }

    def _too_much(self) -> Counter[str] | None:
        counts = Counter(what for what, _ in self._harm.values())
        worst = max(counts.values(), default=0)
        if worst < self._settings.brake_items:
            return None
        return counts if exceeds(self._database, worst, self._settings.brake_percent) else None

    def tell(self) -> None:
        """Tells staff when the brake went on, once, and closes the alert when it is off again."""
        if (self._excess is None) == (self._told is None):
            return
        if self._excess is not None:
            text = (
                f"The gateway's brake is on: within a minute {in_words(self._excess)}, more than "
                f"{self._settings.brake_percent} % of what is on 4Seller. These wait; everything else goes on. If that is "
                "right, write the plan with `midas sync products --full --plan FILE`, read it, and apply it with "
                "`midas sync products --apply FILE`. If it is not, put it right in the shop."
            )
            log.warning(text)
        with self._database.writing() as connection:
            if self._excess is None:
                clear_alert(connection, kind=ALERT, subject=SUBJECT)
            else:
                raise_alert(connection, kind=ALERT, subject=SUBJECT, text=text)
        self._told = self._excess

    def _held(self, change: Change) -> Change:
        return Change(change.mapping, Action.WAIT, reason=REASON) if harm_of(change) else change
