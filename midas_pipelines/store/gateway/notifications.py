"""Notifies workers: LISTEN on PostgreSQL, polling `PRAGMA data_version` on SQLite; each in its own thread.

A notification is only a hint and may be lost, so workers also poll now and then.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.triggers import CHANNEL, ITEMS, WEBHOOKS

LOOK_SECONDS = 0.015
"""How often SQLite is asked whether another connection has committed: a read of shared memory, some 10 µs."""

RECONNECT_SECONDS = 1.0
LISTEN_SECONDS = 0.2

log = logging.getLogger(__name__)


class Notifications:
    """A context in which `on_wake` is called, from another thread, with the kind of work: items or webhooks."""

    def __init__(self, database: Database, on_wake: Callable[[str], None]) -> None:
        self._database = database
        self._on_wake = on_wake
        self._stop = threading.Event()
        self._thread = self._new_thread()

    def __enter__(self) -> Notifications:
        self._thread.start()
        return self

    def ensure_running(self) -> None:
        """Starts the thread again if it has ended."""
        if not self._thread.is_alive() and not self._stop.is_set():
            log.warning("The notification thread had ended; it is started again")
            self._thread = self._new_thread()
            self._thread.start()

    def _new_thread(self) -> threading.Thread:
        work = self._listen if self._database.is_postgresql else self._watch
        return threading.Thread(target=work, name="midas-wakes", daemon=True)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                with closing(_own_connection(self._database)) as connection:
                    self._hear(connection)
            except (psycopg.Error, sa.exc.SQLAlchemyError):
                self._stop.wait(RECONNECT_SECONDS)

    def _hear(self, connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = True
        connection.execute(f"LISTEN {CHANNEL}")
        self._on_wake(ITEMS)  # work from before the thread listened
        self._on_wake(WEBHOOKS)
        while not self._stop.is_set():
            for notice in connection.notifies(timeout=LISTEN_SECONDS):
                self._on_wake(notice.payload)
                if self._stop.is_set():
                    return

    def _watch(self) -> None:
        path = self._database.engine.url.database
        assert path is not None
        seen = None
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            while not self._stop.wait(LOOK_SECONDS):
                try:
                    version = connection.execute("PRAGMA data_version").fetchone()[0]
                except sqlite3.OperationalError:
                    continue  # locked for a moment, as when the log is being folded into the file
                if version != seen:
                    seen = version
                    self._on_wake(ITEMS)
                    self._on_wake(WEBHOOKS)


def _own_connection(database: Database) -> psycopg.Connection[Any]:
    """A connection outside the pool, made the way the pool makes its own."""
    pooled = database.engine.raw_connection()
    connection = pooled.driver_connection
    assert isinstance(connection, psycopg.Connection)
    pooled.detach()
    return connection


def notify(connection: sa.Connection, what: str) -> None:
    """Wakes the workers when this transaction commits; on SQLite the commit itself does."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_notify(CHANNEL, what)))
