"""The scan: finds every item whose desired state differs from the acknowledged one, in chunks of constant memory.

It finds what triggers missed: changes made while they were not installed. It marks such items dirty; `push.py` pushes
them. Changes on 4Seller itself are found by `reconcile/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import COLUMNS, WAS_LISTED, Mapping, ensure_items, mark_dirty
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


def scan(
    database: Database,
    *,
    title_limit: int,
    ids: Sequence[int] | None = None,
    shards: Shards | None = None,
    judged_at: datetime | None = None,
) -> Scanned:
    """Compares every item, or those of `ids` or `shards`, and marks dirty what differs.

    Items that a read-back of the moment `judged_at` found as they should be are counted, and not compared again.
    """
    scanned = Scanned()
    if judged_at is not None:
        scanned.items = scanned.unchanged = _count_equal(database, judged_at, shards)
    with database.writing() as connection:
        ensure_items(connection)
    for changes in chunks(database, title_limit=title_limit, ids=ids, shards=shards, judged_at=judged_at):
        for change in changes:
            _count(scanned, change)
        new = [change.mapping.id for change in changes if _waits(change) and not change.mapping.dirty]
        if new:
            with database.writing() as connection:
                mark_dirty(connection, new)
    return scanned


def chunks(
    database: Database,
    *,
    title_limit: int,
    ids: Sequence[int] | None = None,
    dirty_only: bool = False,
    listed_only: bool = False,
    shards: Shards | None = None,
    judged_at: datetime | None = None,
) -> Iterator[list[Change]]:
    """The change that each item needs, a thousand items at a time, in the order of their mappings.

    Args:
        database: the shop's.
        title_limit: the longest title 4Seller takes.
        ids: only these mappings.
        dirty_only: only items that wait to be pushed.
        listed_only: only items that are on 4Seller, or were until their product went missing there.
        shards: only the items of these.
        judged_at: only items that the read-back of this moment did not find as they should be.
    """
    query = ALL
    if dirty_only:
        query = query.where(mappings.c.dirty_since.is_not(None))
    if listed_only:
        query = query.where(WAS_LISTED)
    if shards is not None:
        query = query.where(shards.holds(mappings.c.id))
    if judged_at is not None:
        query = query.where(sa.not_(_equal_at(judged_at)))
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


def _equal_at(judged_at: datetime) -> sa.ColumnElement[bool]:
    same_read = sa.func.coalesce(mappings.c.observed_at == judged_at, sa.false())
    return sa.and_(mappings.c.judged_key.is_not(None), same_read)


def _count_equal(database: Database, judged_at: datetime, shards: Shards | None) -> int:
    query = sa.select(sa.func.count()).select_from(mappings).where(_equal_at(judged_at))
    if shards is not None:
        query = query.where(shards.holds(mappings.c.id))
    with database.reading() as connection:
        return int(connection.scalar(query) or 0)


def _count(scanned: Scanned, change: Change) -> None:
    if not is_item(change):
        return
    scanned.items += 1
    aside = change.action is Action.QUARANTINED or (change.writes and not _waits(change))
    scanned.quarantined += aside
    scanned.unchanged += change.action is Action.NOTHING
    scanned.to_push += change.writes and not aside


def is_item(change: Change) -> bool:
    """Whether the shop sells it, or 4Seller has it."""
    return change.action is not Action.NOTHING or change.draft is not None


def _waits(change: Change) -> bool:
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
