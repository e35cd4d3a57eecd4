"""The brake: a sync that would zero, remove, reprice or list again a large share of the catalogue stops before its first write.

A wrong import in the shop looks like any other change; ten thousand listings at zero are a lost day. What a person has
seen and agreed to goes through with a plan (`plans.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.mappings import WAS_LISTED
from midas_pipelines.store.tables import mappings
from midas_pipelines.sync.plan import Action, Change

PREVIEW = 20


class BrakeEngaged(Exception):
    """A sync would do more harm than it may without a person; the message says how much and how to agree.

    Attributes:
        steps: the first of what it would do, for a table.
    """

    def __init__(self, message: str, steps: list[dict[str, object]]) -> None:
        super().__init__(message)
        self.steps = steps


@dataclass
class Harm:
    """What a push would do that a buyer would feel at once; counts of items."""

    zeroed: int = 0
    removed: int = 0
    repriced: int = 0
    relisted: int = 0
    steps: list[dict[str, object]] = field(default_factory=list)

    @property
    def worst(self) -> int:
        """The largest of the four."""
        return max(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """Items by kind of harm."""
        return {name: getattr(self, name) for name in ("zeroed", "removed", "repriced", "relisted")}

    def add(self, changes: Iterable[Change], *, quantities_only: bool = False) -> None:
        """Counts some changes in."""
        for change in changes:
            what = harm_of(change, quantities_only=quantities_only)
            if what is None:
                continue
            setattr(self, what, getattr(self, what) + 1)
            if len(self.steps) < PREVIEW:
                self.steps.append(_step(change, what))


def harm_of(change: Change, *, quantities_only: bool = False) -> str | None:
    """Whether a change takes something off sale, changes its price or lists it a second time. Pure."""
    mapping = change.mapping
    if change.action is Action.CREATE and mapping.state == "listed":
        return None if quantities_only else "relisted"
    if mapping.fourseller_product_id is None or not change.writes:
        return None
    if change.action is Action.DELETE:
        return None if quantities_only else "removed"
    if change.quantity == 0 and (mapping.acked_quantity or 0) > 0:
        return "zeroed"
    price = change.draft.price if change.draft is not None else None
    repriced = (
        change.action is Action.UPDATE and mapping.acked_price is not None and price != mapping.acked_price
    )
    return "repriced" if repriced and not quantities_only else None


def check(database: Database, settings: Settings, harm: Harm) -> None:
    """Raises BrakeEngaged when the harm is at least `brake_items` items and more than `brake_percent` of what is listed."""
    worst = harm.worst
    if worst < settings.brake_items or not exceeds(database, worst, settings.brake_percent):
        return
    raise BrakeEngaged(
        f"The brake is on: of the items on 4Seller {in_words(harm.counts)}, more than {settings.brake_percent} % of them. "
        "Nothing was sent. If that is right, write the plan with `midas sync products --full --plan FILE`, read it, "
        "and apply it with `midas sync products --apply FILE`.",
        harm.steps,
    )


def in_words(counts: Mapping[str, int]) -> str:
    """Counts of harmed items as part of a sentence: `12 would be zeroed, 3 would be repriced`."""
    return ", ".join(f"{count} would be {what}" for what, count in counts.items() if count)


def enough_dirty(database: Database, items: int) -> bool:
    """Whether so many listed items wait that the brake has anything to ask."""
    dirty = sa.select(mappings.c.id).where(mappings.c.dirty_since.is_not(None), WAS_LISTED)
    with database.reading() as connection:
        return connection.execute(dirty.offset(items - 1).limit(1)).first() is not None


def exceeds(database: Database, worst: int, percent: int) -> bool:
    """Whether `worst` items are more than that share of the listed ones; counts no further than it must."""
    enough = worst * 100 // max(1, percent) + 1
    listed = sa.select(mappings.c.id).where(WAS_LISTED).limit(enough)
    with database.reading() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(listed.subquery())) or 0
    return worst * 100 > percent * count


def _step(change: Change, what: str) -> dict[str, object]:
    mapping = change.mapping
    return {
        "sku": change.sku,
        "would be": what,
        "quantity": f"{mapping.acked_quantity} → {change.quantity}",
        "price": f"{mapping.acked_price} → {change.draft.price if change.draft is not None else ''}",
    }
