"""Who pushes now: the workers that are alive, and whether a restore has stopped all pushes."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import cursors, workers
from midas_pipelines.storefront.bulk import upsert
from midas_pipelines.storefront.types import utc_now

LEASE_SECONDS = 15
BEAT_SECONDS = 3.0
MARGIN_SECONDS = 2.0
"""No write to 4Seller begins when less than this is left of the lease."""

log = logging.getLogger(__name__)


class Heartbeat:
    """Keeps one worker's row alive between `begin` and `end`, which may be nested; safe to share between threads."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker
        self._guard = threading.Lock()
        self._users = 0
        self._until = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Starts the heartbeat; to be called before the worker claims anything.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is away; nothing was started.
        """
        with self._guard:
            if self._users == 0:
                self._beat()
                self._stop = threading.Event()
                # Its own thread, so that a busy event loop or a used-up thread pool does not end the lease.
                self._thread = threading.Thread(target=self._keep, args=(self._stop,), daemon=True)
                self._thread.start()
            self._users += 1

    def end(self) -> None:
        """Stops it; what the worker still has claimed is free for others."""
        with self._guard:
            self._users = max(0, self._users - 1)
            if self._users or self._thread is None:
                return
            self._stop.set()
            self._thread.join(LEASE_SECONDS)
            self._thread = None
            with suppress(SQLAlchemyError), self._database.writing() as connection:
                connection.execute(sa.delete(workers).where(workers.c.name == self._worker))

    @property
    def held(self) -> bool:
        """Whether the lease certainly holds, by our own monotonic clock; also before the first `begin`."""
        return self._thread is None or time.monotonic() < self._until

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_SECONDS):
            try:
                self._beat()
            except SQLAlchemyError as failed:
                log.warning("The heartbeat of %s failed: %s", self._worker, type(failed).__name__)

    def _beat(self) -> None:
        began = time.monotonic()
        with self._database.writing() as connection:
            upsert(connection, workers, {"name": self._worker}, {"alive_until": utc_now(LEASE_SECONDS)})
        self._until = began + LEASE_SECONDS - MARGIN_SECONDS


def alive_workers() -> sa.Select[tuple[str]]:
    """The names of the workers whose lease holds."""
    # A lease that ends later than a new one would was written before the clock was set back.
    holds = workers.c.alive_until.between(utc_now(), utc_now(LEASE_SECONDS))
    return sa.select(workers.c.name).where(holds)


def remove_dead_workers(connection: sa.Connection) -> None:
    """Removes the rows of workers that ended without `Heartbeat.end`."""
    connection.execute(sa.delete(workers).where(workers.c.alive_until < utc_now()))


NAME = "pushes_stopped"
RESTORED = "restored from the backup of"
"""How the reason begins while orders since the backup have to be read."""


def stop_pushes(connection: sa.Connection, reason: str) -> None:
    """From this commit on nothing is pushed; orders are imported as ever."""
    upsert(connection, cursors, {"name": NAME}, {"value": reason[:200], "moment": utc_now()})


def allow_pushes(connection: sa.Connection, *, only_restored: bool = False) -> bool:
    """Ends the stop, or only one that a restore began; True when there was one."""
    ended = sa.delete(cursors).where(cursors.c.name == NAME)
    if only_restored:
        ended = ended.where(cursors.c.value.startswith(RESTORED))
    return bool(connection.execute(ended).rowcount)


def why_stopped(connection: sa.Connection) -> str | None:
    """Why nothing is pushed at present; None where pushes are allowed."""
    return connection.scalar(sa.select(cursors.c.value).where(cursors.c.name == NAME))
