"""Which items could be claimed this moment, read without a lock."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from midas_pipelines.store.tables import mappings
from midas_pipelines.storefront.types import utc_now

NEWEST = 100

table = mappings.c


def read_ready(connection: sa.Connection, *, limit: int) -> list[tuple[int, int, float | None]]:
    """(id, version, seconds since the last acknowledged push) of items that are dirty, due and in nobody's hands.

    By age of their rows; where there are more than `limit`, also those that changed last, so that a fresh change
    does not wait behind a long backlog.
    """
    query = sa.select(table.id, table.version, table.acked_at, utc_now().label("now")).where(*_due())
    rows = connection.execute(query.order_by(table.id).limit(limit)).all()
    if len(rows) >= limit:
        newest = connection.execute(query.order_by(table.dirty_since.desc()).limit(NEWEST)).all()
        rows = [*newest, *rows]
    return list({row.id: (row.id, row.version, _ago(row.acked_at, row.now)) for row in rows}.values())


def _due() -> list[sa.ColumnElement[bool]]:
    now = utc_now()
    return [
        table.dirty_since.is_not(None),
        sa.or_(table.claimed_until.is_(None), table.claimed_until < now),
        sa.or_(table.next_attempt_at.is_(None), table.next_attempt_at <= now),
    ]


def _ago(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()
