"""The scan: finds every item whose desired state differs from the acknowledged one, in chunks of constant memory.

It finds what triggers missed: changes made while they were not installed. It marks such items dirty; `push.py` pushes
them. Changes on 4Seller itself are found by `reconcile/`, which counts what it has compared already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import COLUMNS, WAS_LISTED, Mapping, mark_dirty
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.sync.listings.plan import Action, Change, Planner

CHUNK = 1000
ALL = sa.select(*COLUMNS).order_by(mappings.c.id).limit(CHUNK)


@dataclass
class Scanned:
    """Counts of a scan."""

    items: int = 0
    quarantined: int = 0  # by our own rules now, or by 4Seller before
    unchanged: int = 0
    to_push: int = 0

    def count(self, change: Change) -> None:
        """Adds an item that needs this change."""
        if not is_item(change):
            return
        aside = change.action is Action.QUARANTINED or (change.writes and not waits(change))
        self.items += 1
        self.quarantined += aside
        self.unchanged += change.action is Action.NOTHING
        self.to_push += change.writes and not aside


def scan(database: Database, scanned: Scanned, *, title_limit: int, ids: Sequence[int]) -> None:
    """Compares these items, counts them in `scanned`, and marks dirty what differs."""
    for changes in chunks(database, title_limit=title_limit, ids=ids):
        for change in changes:
            scanned.count(change)
        new = [change.mapping.id for change in changes if waits(change) and not change.mapping.dirty]
        if new:
            with database.writing() as connection:
                mark_dirty(connection, new)


def chunks(
    database: Database,
    *,
    title_limit: int,
    ids: Sequence[int] | None = None,
    dirty_only: bool = False,
    listed_only: bool = False,
    shards: Shards | None = None,
) -> Iterator[list[Change]]:
    """The change that each item needs, a thousand items at a time, in the order of their mappings.

    Args:
        database: the shop's.
        title_limit: the longest title 4Seller takes.
        ids: only these mappings.
        dirty_only: only items that wait to be pushed.
        listed_only: only items that are on 4Seller, or were until their product went missing there.
        shards: only the items of these.
    """
    query = ALL
    if dirty_only:
        query = query.where(mappings.c.dirty_since.is_not(None))
    if listed_only:
        query = query.where(WAS_LISTED)
    if shards is not None:
        query = query.where(shards.holds(mappings.c.id))
    for part in slices(ids):
        after, narrowed = 0, query if part is None else query.where(mappings.c.id.in_(part))
        while rows := read_chunk(database, after, narrowed):
            after = rows[-1].id
            with database.reading() as connection:
                planner = Planner(connection, [row.key for row in rows], title_limit)
            yield [planner.plan(row) for row in rows]


def slices(ids: Sequence[int] | None) -> Iterator[Sequence[int] | None]:
    """The mappings a thousand at a time: a statement takes only so many parameters."""
    if ids is None:
        yield None
        return
    ordered = sorted(ids)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def read_chunk(database: Database, after: int, query: sa.Select[Any] = ALL) -> list[Mapping]:
    """The next thousand mappings behind `after`."""
    with database.reading() as connection:
        return [Mapping(*row) for row in connection.execute(query.where(mappings.c.id > after))]


def is_item(change: Change) -> bool:
    """Whether the shop sells it, or 4Seller has it."""
    return change.action is not Action.NOTHING or change.draft is not None


def waits(change: Change) -> bool:
    """Whether the item has to go through a push: a write, or a quarantine that is not on record yet."""
    mapping = change.mapping
    if given_up(mapping):  # its quantity is still kept correct
        return mapping.fourseller_product_id is not None and mapping.acked_quantity != change.quantity
    if change.action is Action.QUARANTINED:
        return mapping.state != "quarantined" or mapping.reason != change.reason
    if change.action is Action.NOTHING:
        return change.draft is not None and mapping.state != "listed"
    return True


def given_up(mapping: Mapping) -> bool:
    """Whether 4Seller refused this version, or failed too often: a person or a change frees it."""
    return (
        mapping.state == "quarantined" and mapping.acked_version >= mapping.version and mapping.attempts > 0
    )
