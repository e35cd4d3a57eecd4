"""The listing before and after each write, kept as it is about to be sent, so that `midas undo` can put it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.operation_tables import listing_writes
from midas_pipelines.store.schema.tables import sync_logs
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert_rows

_TABLE = listing_writes.c
Listing = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """Some writes of one item, by their rows: how it was before the first, and how the last one left it."""

    mapping_id: int
    rows: tuple[int, ...]
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
    adopted = sa.case((_TABLE.action == "create", "update"), else_=_TABLE.action)
    with database.writing() as connection:
        connection.execute(changed.values(before=before, action=adopted))


def recent_runs(connection: sa.Connection, limit: int = 10) -> list[dict[str, Any]]:
    """The newest runs that wrote listings, what each wrote, and how much of that is undone; writes of quantities alone
    are none."""
    count = sa.func.count
    query = (
        sa.select(
            _TABLE.run_id,
            sa.func.max(_TABLE.at, type_=_TABLE.at.type).label("at"),
            count(_TABLE.mapping_id.distinct()).label("items"),
            count(_TABLE.undone_at).label("undone"),
            sa.func.min(_TABLE.sku).label("sku"),
        )
        .where(_TABLE.action != "quantity", _TABLE.run_id.is_not(None))
        .group_by(_TABLE.run_id)
        .order_by(sa.func.max(_TABLE.id).desc())
    )
    return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def of_run_or_plan(name: str) -> sa.ColumnElement[bool]:
    """The writes of a run, by its id or its beginning, or of all runs of a plan, by its hash."""
    plans = sa.select(sync_logs.c.run_id).where(
        sync_logs.c.scope.startswith(f"plan {name[:12]}", autoescape=True)
    )
    return sa.or_(_TABLE.run_id.startswith(name, autoescape=True), _TABLE.run_id.in_(plans))


def of_run(run_id: str) -> sa.ColumnElement[bool]:
    """The writes of this run."""
    return _TABLE.run_id == run_id


def of_span(since: datetime, until: datetime) -> sa.ColumnElement[bool]:
    """All writes of a span of time, its end not included."""
    return sa.and_(_TABLE.at >= since, _TABLE.at < until)


def written_by(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[Written]:
    """What these writes changed and is not undone yet, by item."""
    query = sa.select(listing_writes).where(which, _TABLE.undone_at.is_(None)).order_by(_TABLE.id)
    found: dict[int, Written] = {}
    for row in connection.execute(query):
        known = found.get(row.mapping_id, Written(row.mapping_id, (), row.sku, (), None, {}))
        # A quantity's row knows that alone: the rest of how it was is in the rows after it.
        before = {**(row.before or {}), **(known.before or {})}
        if known.actions and known.before is None:
            before = {}
        found[row.mapping_id] = Written(
            row.mapping_id,
            (*known.rows, row.id),
            row.sku or known.sku,
            (*known.actions, row.action),
            before or None,
            {**known.after, **(row.after or {})},
        )
    return list(found.values())


def note_undone(connection: sa.Connection, rows: Sequence[int]) -> None:
    """Records that these writes are put back."""
    connection.execute(sa.update(listing_writes).where(_TABLE.id.in_(rows)).values(undone_at=utc_now()))
