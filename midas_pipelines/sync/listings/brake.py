"""The brake of every push: counts changes that zero, remove, reprice or relist, and holds them above the limit.

A wrong import in the shop looks like any other change; ten thousand listings at zero are a lost day. The brake counts
everything that waits, and in a long-running worker everything sent within a minute. All changes of a kind of harm above
the limit wait while all others go on, until a person approves a plan (`scan.py`) or the shop reverts them.

A worker has no waves. So it also holds a burst of changed listings that a sync would send in waves (`safety/waves.py`),
until one does.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from typing import NamedTuple

import sqlalchemy as sa

from midas_pipelines.notify.alerts import match_alerts, open_subjects
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.acknowledge import BRAKED
from midas_pipelines.store.schema.tables import WAS_LISTED, mappings
from midas_pipelines.sync.listings.adopt import Known
from midas_pipelines.sync.listings.plan import REPLACES, Action, Change, held_back
from midas_pipelines.sync.listings.scan import chunks

WINDOW_SECONDS = 60.0
"""How long a harmful change counts after it was last met."""

HELD_SECONDS = 30
"""When a held change is checked again; shorter than the window, so that it keeps counting."""

ALERT, SUBJECT = "brake", "brake"
WAVE_ALERT = "canary"
"""Open since a wave of changes failed."""

SHOWN = {
    "zeroed": "acked_quantity",
    "removed": "fourseller_product_id",
    "repriced": "acked_price",
    "relisted": "fourseller_product_id",
    "changed": "acked_hash",
    "leaping": "acked_price",
}
"""By kind of harm, the column of what 4Seller confirmed that changes once it is sent."""

FOR_WAVES = {"changed", "leaping"}
"""No harm each, but so many of them go in waves."""

log = logging.getLogger(__name__)


class _Met(NamedTuple):
    """A harmful change: when it was last met, and what 4Seller showed then."""

    at: float
    shown: object


class RollingBrake:
    """Counts one worker's changes as they come; used by one thread at a time. Times are seconds on one clock."""

    def __init__(
        self, database: Database, settings: Settings, known: Known | None = None, *, has_waves: bool = True
    ) -> None:
        self._database = database
        self._has_waves = has_waves
        self._known = known
        self._settings = settings
        self._harm: dict[tuple[int, str], _Met] = {}  # by item and kind of harm
        self._counts = Counter[str]()  # of `_harm`, by kind
        self._weighed: dict[int, int] = {}
        self._last_whole = -WINDOW_SECONDS
        self._alerted: bool | None = None  # whether an alert is open; an earlier worker may have raised it
        self._excess: Counter[str] | None = None

    @property
    def engaged(self) -> bool:
        """Whether harmful changes wait now."""
        return self._excess is not None

    @property
    def at_rest(self) -> bool:
        """Whether it is off, and staff know."""
        return not self.engaged and self._alerted is False

    def weigh_all(self, now: float) -> None:
        """Counts everything that waits, for a push that runs once; keeps the alert."""
        if self._database.read(_enough_dirty, self._settings.brake_items):
            self._weigh(None, now)
        self._excess = self._too_much()
        if self.engaged or not self._harm:  # else another worker may hold the changes of the alert
            self.alert()

    def look_ahead(self, versions: Dict[int, int], now: float, *, more: bool) -> None:
        """Counts what waits before any of it is claimed, so that no part of a large change is sent before all of it is known.

        `versions` are those of the items that wait; where `more` wait behind them, all are counted, once per window.
        """
        self._harm = {key: met for key, met in self._harm.items() if now - met.at < WINDOW_SECONDS}
        self._counts = Counter(what for _, what in self._harm)
        if more and now - self._last_whole >= WINDOW_SECONDS:
            self._last_whole = now
            self._weigh(None, now)
        else:
            fresh = [item for item, version in versions.items() if self._weighed.get(item) != version]
            if len(fresh) >= self._settings.brake_items:
                self._weigh(fresh, now)
        self._weighed = dict(versions)
        if self._alerted is not False and self._too_much() is None:
            self._weigh(None, now)  # before an alert is closed: another worker may hold its changes
        self._excess = self._too_much()

    def hold(self, changes: list[Change], now: float) -> list[Change]:
        """The changes, with a wait for each harmful one while the brake is on. Writes nothing: it is called in a claim."""
        self._note(changes, now)
        self._excess = self._too_much()
        return [self._held(change) for change in changes] if self.engaged else changes

    def _weigh(self, ids: Sequence[int] | None, now: float) -> None:
        limit = self._settings.title_limit
        for changes in chunks(self._database, title_limit=limit, ids=ids, dirty_only=True, listed_only=True):
            self._note(changes, now)

    def _note(self, changes: Iterable[Change], now: float) -> None:
        for change in changes:
            kinds = self._kinds(change)
            for other in SHOWN.keys() - kinds if change.action is not Action.WAIT else ():
                # Harm that is no longer planned and was never sent is dropped; what was sent still counts.
                met = self._harm.get((change.mapping.id, other))
                if met is not None and met.shown == getattr(change.mapping, SHOWN[other]):
                    del self._harm[change.mapping.id, other]
                    self._counts[other] -= 1
            for what in kinds:
                self._counts[what] += (change.mapping.id, what) not in self._harm
                self._harm[change.mapping.id, what] = _Met(now, getattr(change.mapping, SHOWN[what]))

    def _kinds(self, change: Change) -> set[str]:
        """The kinds of harm that the change counts for."""
        kinds = {harm_of(change, self._known)} - {None}
        if not self._has_waves and changes_listing(change):
            kinds.add("changed")
            if leaps(change, self._settings.canary_price_percent):
                kinds.add("leaping")
        return {kind for kind in kinds if kind is not None}

    def _too_much(self) -> Counter[str] | None:
        """The kinds of harm above the limit, with their counts."""
        few, percent = self._settings.brake_items, self._settings.brake_percent
        excess = Counter[str]()
        for what, count in (+self._counts).items():  # for each batch, so never by all of `_harm`
            if what == "changed":
                wave_failed = bool(self._database.read(open_subjects, WAVE_ALERT))
                over = count > (0 if wave_failed else self._settings.canary_items)
            else:
                over = count >= few and (what == "leaping" or exceeds(self._database, count, percent))
            if over:
                excess[what] = count
        return excess or None

    @property
    def over(self) -> int:
        """How many changes are of a kind above its limit."""
        return sum(self._excess.values()) if self._excess else 0

    @property
    def message(self) -> str | None:
        """Why changes are held, and what to do; None while the brake is off."""
        if self._excess is None:
            return None
        harm = [f"{count} would be {what}" for what, count in self._excess.items() if what not in FOR_WAVES]
        if not harm:
            return (
                f"{max(self._excess.values())} listings change at once, or prices by much, or a wave of changes failed: these "
                "wait until a product sync sends them in waves, each read back; quantities go on. `midas sync products` "
                "does it now."
            )
        return (
            f"The brake is on: at once {', '.join(harm)}, more than {self._settings.brake_percent} % of what is on "
            "4Seller. These wait; everything else goes on. To send them, write the plan with `midas sync products "
            "--full --plan FILE`, read it, and apply it with `midas sync products --apply FILE`. To stop them, correct "
            "them in the shop."
        )

    def alert(self) -> None:
        """Alerts staff once when the brake goes on, and closes the alert when it is off again."""
        if self.engaged is self._alerted:
            return
        text = self.message
        if text is not None:
            log.warning(text)
        self._database.write(match_alerts, kind=ALERT, texts={} if text is None else {SUBJECT: text})
        self._alerted = self.engaged

    def _held(self, change: Change) -> Change:
        """The change, or as much of it as may be sent now: of a new price at least the quantity with it."""
        kinds = self._kinds(change) | ({"repriced"} if reprices(change) else set())
        held = kinds & (self._excess or Counter[str]()).keys()
        if held <= {"repriced", *FOR_WAVES}:
            return held_back(change, BRAKED) if held else change
        return Change(change.mapping, Action.WAIT, reason=BRAKED)


def harm_of(change: Change, known: Known | None) -> str | None:
    """Whether a change takes something off sale, changes its price or lists it a second time. Pure.

    What is among the `known` products without an item is adopted and not listed again.
    """
    mapping = change.mapping
    if change.action is Action.CREATE and mapping.state == "listed":
        back = known is not None and known.find(change.sku or "", mapping.key)
        return None if back else "relisted"
    if mapping.fourseller_product_id is None or not change.writes:
        return None
    if change.action is Action.DELETE:
        return "removed"
    if change.quantity == 0 and (mapping.acked_quantity or 0) > 0:
        return "zeroed"
    return "repriced" if reprices(change) else None


def reprices(change: Change) -> bool:
    """Whether a change gives a listing another price."""
    known, draft = change.mapping.acked_price, change.draft
    return change.action is Action.UPDATE and known is not None and (draft is None or draft.price != known)


def changes_listing(change: Change) -> bool:
    """Whether a change is one of content, price or being there, of a listing that 4Seller has."""
    return change.action in REPLACES and change.mapping.fourseller_product_id is not None


def leaps(change: Change, percent: int) -> bool:
    """Whether a change gives a listing a price that differs by more than that share of the old one."""
    before = change.mapping.acked_price
    if before is None or change.draft is None or not reprices(change):
        return False
    return abs(change.draft.price - before) * 100 > percent * before


def is_calm(database: Database, settings: Settings) -> bool:
    """Whether too few listed items wait for the brake or waves to matter, and no alert of either is open."""
    with database.reading() as connection:
        if _enough_dirty(connection, min(settings.canary_items, settings.brake_items)):
            return False
        return not open_subjects(connection, ALERT, WAVE_ALERT)


def _enough_dirty(connection: sa.Connection, items: int) -> bool:
    """Whether enough listed items wait for the brake to matter."""
    dirty = sa.select(mappings.c.id).where(mappings.c.dirty_since.is_not(None), WAS_LISTED)
    return connection.execute(dirty.offset(items - 1).limit(1)).first() is not None


def exceeds(database: Database, worst: int, percent: int) -> bool:
    """Whether `worst` items are more than that share of the listed ones; counts no further than it must."""
    enough = worst * 100 // max(1, percent) + 1
    listed = sa.select(mappings.c.id).where(WAS_LISTED).limit(enough)
    count = database.scalar(sa.select(sa.func.count()).select_from(listed.subquery())) or 0
    return worst * 100 > percent * count
