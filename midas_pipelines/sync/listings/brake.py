"""Counts harmful changes for the brake: those that zero, remove, reprice or relist, and how many are too many.

A wrong import in the shop looks like any other change; ten thousand listings at zero are a lost day. A person overrides
the brake with an approved plan (`approved_plan.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import WAS_LISTED
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.sync.listings.plan import Action, Change


class BrakeEngaged(ExpectedError):
    """A call would do more harm than is allowed without a person; the message has the counts and how to approve."""


def harm_of(change: Change) -> str | None:
    """Whether a change takes something off sale, changes its price or lists it a second time. Pure."""
    mapping = change.mapping
    if change.action is Action.CREATE and mapping.state == "listed":
        return "relisted"
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


def harm_in_words(counts: Mapping[str, int]) -> str:
    """Counts of harmed items as part of a sentence: `12 would be zeroed, 3 would be repriced`."""
    return ", ".join(f"{count} would be {what}" for what, count in counts.items() if count)


def enough_dirty(database: Database, items: int) -> bool:
    """Whether enough listed items wait for the brake to matter."""
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
