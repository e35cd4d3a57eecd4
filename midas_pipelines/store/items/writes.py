"""The listing before and after each write, as a push keeps it: by run or plan, for `midas undo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.operation_tables import listing_writes
from midas_pipelines.store.schema.tables import sync_logs
from midas_pipelines.storefront.types import utc_now

_TABLE = listing_writes.c
SHOWN_RUNS = 10
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


def recent_runs(connection: sa.Connection) -> list[dict[str, Any]]:
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
    return [dict(row) for row in connection.execute(query.limit(SHOWN_RUNS)).mappings()]


def of_run_or_plan(name: str) -> sa.ColumnElement[bool]:
    """The writes of a run, by its id or its beginning, or of all runs of a plan, by its hash."""
    plans = sa.select(sync_logs.c.run_id).where(
        sync_logs.c.scope.startswith(f"plan {name[:12]}", autoescape=True)
    )
    return sa.or_(_TABLE.run_id.startswith(name, autoescape=True), _TABLE.run_id.in_(plans))


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
