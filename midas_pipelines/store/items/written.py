"""The listing before and after each write, kept as it is about to be sent, so that `midas undo` can put it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.safety_tables import listing_writes
from midas_pipelines.store.schema.tables import sync_logs
from midas_pipelines.storefront.bulk import insert_rows
from midas_pipelines.storefront.types import utc_now

_TABLE = listing_writes.c
Listing = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """What some runs wrote of one item: how it was before the first write, and how the last one left it."""

    mapping_id: int
    sku: str | None
    actions: tuple[str, ...]
    before: Listing | None
    after: Listing


def keep_writes(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Keeps what is about to be sent; runs in the transaction of the claim."""
    insert_rows(connection, listing_writes, rows)


def last_content(
    connection: sa.Connection, mapping_ids: Sequence[int]
) -> dict[int, tuple[str | None, Listing]]:
    """By item, the hash and the whole content of its newest kept write, where there is one."""
    newest = sa.select(sa.func.max(_TABLE.id)).where(
        _TABLE.mapping_id.in_(mapping_ids), _TABLE.content_hash.is_not(None)
    )
    query = sa.select(_TABLE.mapping_id, _TABLE.content_hash, _TABLE.after)
    rows = connection.execute(query.where(_TABLE.id.in_(newest.group_by(_TABLE.mapping_id))))
    return {row.mapping_id: (row.content_hash, row.after) for row in rows}


def keep_before(database: Database, mapping_id: int, run_id: str | None, before: Listing) -> None:
    """Adds how the listing was to the newest write of the item, which was read just before it is sent."""
    newest = sa.select(sa.func.max(_TABLE.id)).where(
        _TABLE.mapping_id == mapping_id, _TABLE.run_id.is_not_distinct_from(run_id)
    )
    changed = sa.update(listing_writes).where(
        _TABLE.id == newest.scalar_subquery(), _TABLE.action != "quantity"
    )
    with database.writing() as connection:
        connection.execute(changed.values(before=before, action="update"))


def find_runs(connection: sa.Connection, name: str) -> list[str]:
    """The runs that a name means: a run's id or its beginning, or the hash of a plan."""
    begins = name.replace("%", "").replace("_", "") + "%"
    plans = sa.select(sync_logs.c.run_id).where(sync_logs.c.scope.like(f"plan {begins[:12]}%"))
    which = sa.or_(_TABLE.run_id.like(begins), _TABLE.run_id.in_(plans))
    return list(connection.scalars(sa.select(_TABLE.run_id).where(which).distinct()))


def written_by(connection: sa.Connection, runs: Sequence[str]) -> list[Written]:
    """What these runs wrote and is not undone yet, by item."""
    query = sa.select(listing_writes).where(_TABLE.run_id.in_(runs), _TABLE.undone_at.is_(None))
    found: dict[int, Written] = {}
    for row in connection.execute(query.order_by(_TABLE.id)):
        known = found.get(row.mapping_id)
        actions = (*(known.actions if known else ()), row.action)
        before = known.before if known else row.before
        after = {**(known.after if known else {}), **(row.after or {})}
        found[row.mapping_id] = Written(row.mapping_id, row.sku, actions, before, after)
    return list(found.values())


def note_undone(connection: sa.Connection, runs: Sequence[str], mapping_ids: Sequence[int]) -> None:
    """Records that these items are put back."""
    mine = sa.and_(_TABLE.run_id.in_(runs), _TABLE.mapping_id.in_(mapping_ids))
    connection.execute(sa.update(listing_writes).where(mine).values(undone_at=utc_now()))


def delete_old_writes(database: Database, *, days: int, block: int = 5000) -> int:
    """Deletes what was kept longer than that many days; returns how many."""
    old = sa.select(_TABLE.id).where(_TABLE.at < utc_now(-days * 24 * 3600)).limit(block)
    removed = 0
    while True:
        with database.writing() as connection:
            count = connection.execute(sa.delete(listing_writes).where(_TABLE.id.in_(old))).rowcount
        removed += count
        if count < block:
            return removed
