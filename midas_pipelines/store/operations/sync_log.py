"""The sync log: one row per sync, one per failed call. No bodies and no personal data are written."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import api_errors, sync_logs
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import write_each

MOST_UNWRITTEN = 20_000
"""Failed calls kept while the database is away; more are lost."""


class ErrorBook:
    """Collects failed calls and writes them to `fourseller_api_errors` in blocks, and the rest when it closes."""

    def __init__(self, database: Database, run_id: str | None, block: int = 50) -> None:
        self._database = database
        self._run_id = run_id
        self._block = block
        self._rows: deque[dict[str, Any]] = deque(maxlen=MOST_UNWRITTEN)
        self._lock = threading.Lock()

    def __enter__(self) -> ErrorBook:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def note(self, call: Any) -> None:
        """Records one failed call, as the client reports it."""
        names = ("endpoint", "status", "code", "message", "attempt", "item")
        row = {name: getattr(call, name) for name in names}
        self._rows.append(row | {"run_id": self._run_id, "created_at": call.at})
        if len(self._rows) % self._block == 0:
            with suppress(sa.exc.SQLAlchemyError):  # the rows wait while the database is away
                self.flush()

    def flush(self) -> None:
        """Writes the collected calls; those that the database does not take are kept for the next time."""
        with self._lock:
            rows = [self._rows.popleft() for _ in range(len(self._rows))]
            try:
                if rows:
                    adding = sa.insert(api_errors)
                    with self._database.writing() as connection:
                        write_each(connection, rows, lambda part: connection.execute(adding, part))
            except BaseException:
                self._rows.extendleft(reversed(rows))
                raise


def begin_sync(database: Database, kind: str, scope: str, run_id: str | None) -> int:
    """Opens a row in `fourseller_sync_logs` and returns its id."""
    with database.writing() as connection:
        row = sa.insert(sync_logs).values(kind=kind, scope=scope, run_id=run_id).returning(sync_logs.c.id)
        log_id: int = connection.execute(row).scalar_one()
        return log_id


def note_progress(database: Database, log_id: int, done: int, total: int) -> None:
    """Writes the progress of a running sync, for readers in other processes."""
    counts = {"done": done, "total": total, "at": datetime.now(UTC).isoformat()}
    running = sa.and_(sync_logs.c.id == log_id, sync_logs.c.outcome == "running")
    with database.writing() as connection:
        connection.execute(sa.update(sync_logs).where(running).values(counts=counts))


def end_sync(database: Database, log_id: int, **columns: Any) -> None:
    """Closes the row with its `outcome` (done, partial where some items failed, failed), counts, requests, seconds, reason."""
    with database.writing() as connection:
        connection.execute(sa.update(sync_logs).where(sync_logs.c.id == log_id).values(columns))


def note_work(database: Database, row: dict[str, Any]) -> None:
    """Writes a row of finished work: the gateway's, which is not a sync with a start and an end."""
    with database.writing() as connection:
        connection.execute(sa.insert(sync_logs).values(row))


def sync_of_run(database: Database, kind: str, run_id: str) -> dict[str, Any] | None:
    """The newest row of that kind written by a run, as a dictionary."""
    with database.reading() as connection:
        return _newest(connection, kind, sync_logs.c.run_id == run_id)


def last_ended(connection: sa.Connection, kind: str) -> dict[str, Any] | None:
    """The newest row of that kind that has ended."""
    return _newest(connection, kind, sync_logs.c.outcome != "running")


def _newest(connection: sa.Connection, kind: str, which: sa.ColumnElement[bool]) -> dict[str, Any] | None:
    query = sa.select(sync_logs).where(sync_logs.c.kind == kind, which).order_by(sync_logs.c.id.desc())
    row = connection.execute(query.limit(1)).mappings().first()
    return dict(row) if row is not None else None


@dataclass(frozen=True, slots=True)
class RunningSync:
    """A sync under way: items done, of how many (0 until that is known), and the seconds it has taken so far."""

    kind: str
    scope: str
    run_id: str | None
    started_at: datetime
    done: int
    total: int
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """By its pace so far; None before the first item is done."""
        return max(0, self.total - self.done) * self.seconds / self.done if self.done and self.total else None

    def __str__(self) -> str:
        left = f", {self.seconds_left:.0f} s left" if self.seconds_left is not None else ""
        return f"{self.done} of {self.total}{left}"


def running_syncs(connection: sa.Connection, quiet_seconds: int = 600) -> list[RunningSync]:
    """The syncs under way; one that reported no progress for so long was killed."""
    row, found = sync_logs.c, []
    recent = sa.and_(row.outcome == "running", row.started_at > utc_now(-86_400))
    query = sa.select(sync_logs, utc_now().label("now")).where(recent)
    for one in connection.execute(query.order_by(row.id)):
        counts = one.counts or {}
        reported = datetime.fromisoformat(counts["at"]) if "at" in counts else one.started_at
        if (one.now - reported).total_seconds() < quiet_seconds:
            seconds = max(0.001, (one.now - one.started_at).total_seconds())
            done, total = int(counts.get("done", 0)), int(counts.get("total") or 0)
            found.append(RunningSync(one.kind, one.scope, one.run_id, one.started_at, done, total, seconds))
    return found


def last_syncs(database: Database) -> list[dict[str, Any]]:
    """The newest row of each kind, found by the index from kind to kind."""
    first = sa.select(sa.func.min(sync_logs.c.kind).label("kind")).cte("kinds", recursive=True)
    following = sa.select(sa.func.min(sync_logs.c.kind)).where(sync_logs.c.kind > first.c.kind)
    kinds = first.union_all(sa.select(following.scalar_subquery()).where(first.c.kind.is_not(None)))
    newest = sa.select(sync_logs.c.id).where(sync_logs.c.kind == kinds.c.kind)
    newest = newest.order_by(sync_logs.c.kind.desc(), sync_logs.c.id.desc()).limit(1)
    ids = sa.select(newest.scalar_subquery()).select_from(kinds).where(kinds.c.kind.is_not(None))
    with database.reading() as connection:
        found = connection.scalars(ids).all()
        query = sa.select(sync_logs).where(sync_logs.c.id.in_(found)).order_by(sync_logs.c.kind)
        return [dict(row) for row in connection.execute(query).mappings()]
