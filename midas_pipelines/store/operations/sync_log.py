"""Reads the sync log, which has a row for each sync; the gateway adds what it has done. It holds no personal data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import sync_logs
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.workflows import WORKFLOWS

KINDS = sorted({"gateway", *(one.kind for one in WORKFLOWS if one.kind)})
"""What a row of the log may be about."""


def note_work(database: Database, row: dict[str, Any]) -> None:
    """Writes a row of finished work: the gateway's, which is not a sync with a start and an end."""
    with database.writing() as connection:
        connection.execute(sa.insert(sync_logs).values(row))


def newest_sync(connection: sa.Connection, kind: str, run_id: str | None = None) -> dict[str, Any] | None:
    """The newest row of that kind that a run wrote, or without one that has ended."""
    which = sync_logs.c.outcome != "running" if run_id is None else sync_logs.c.run_id == run_id
    return _newest(connection, kind, which)


def last_syncs(database: Database) -> list[dict[str, Any]]:
    """The newest row of each kind, also of a sync that has not ended."""
    with database.reading() as connection:
        return [row for kind in KINDS if (row := _newest(connection, kind)) is not None]


def _newest(connection: sa.Connection, kind: str, *which: sa.ColumnElement[bool]) -> dict[str, Any] | None:
    log = sync_logs.c  # PostgreSQL would look for a kind that is equal through the newest rows of all kinds
    query = sa.select(sync_logs).where(log.kind.between(kind, kind), *which)
    row = connection.execute(query.order_by(log.kind.desc(), log.id.desc()).limit(1)).mappings().first()
    return dict(row) if row is not None else None


QUIET_SECONDS = 600


@dataclass(frozen=True, slots=True)
class RunningSync:
    """A sync under way: items done, of how many (None until that is known), the seconds it has taken so far, and by its pace
    the items a second and the seconds left; None before the first item is done."""

    kind: str
    scope: str
    run_id: str | None
    started_at: datetime
    done: int
    total: int | None
    seconds: float
    rate: float | None
    seconds_left: float | None

    def __str__(self) -> str:
        left = f", {self.seconds_left:.0f} s left" if self.seconds_left is not None else ""
        return f"{self.done} of {self.total or 0}{left}"


def running_syncs(connection: sa.Connection) -> list[RunningSync]:
    """The syncs under way; one that reported no progress for `QUIET_SECONDS` was killed."""
    row, found = sync_logs.c, []
    recent = sa.and_(row.outcome == "running", row.started_at > utc_now(-86_400))
    query = sa.select(sync_logs, utc_now().label("now")).where(recent)
    for one in connection.execute(query.order_by(row.id)):
        counts = one.counts or {}
        reported = datetime.fromisoformat(counts["at"]) if "at" in counts else one.started_at
        if (one.now - reported).total_seconds() < QUIET_SECONDS:
            seconds = max(0.001, (one.now - one.started_at).total_seconds())
            done, total = int(counts.get("done", 0)), int(counts.get("total") or 0) or None
            rate = done / seconds if done else None
            left = max(0, total - done) / rate if rate and total else None
            about = (one.kind, one.scope, one.run_id, one.started_at)
            found.append(RunningSync(*about, done, total, seconds, rate, left))
    return found
