"""Knowing whether a claim's holder still lives, so that what a killed run had claimed is free at once.

A worker holds a lock that ends with its process, however that dies: an advisory lock of a session on PostgreSQL, a
locked file beside the database on SQLite. The lease remains for what this cannot see, such as a machine cut off.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from midas_pipelines.store.database import Database
from midas_pipelines.store.mappings import unlocked
from midas_pipelines.store.tables import mappings

if sys.platform != "win32":
    import fcntl

# A claimed item is dirty until its claim ends: the small index on dirty items finds it.
CLAIMED = sa.and_(mappings.c.dirty_since.is_not(None), mappings.c.claimed_by.is_not(None))
LOCK = "hashtext('midas_pipelines.worker'), hashtext(%(worker)s)"


class Presence:
    """One worker's proof that it lives, from `begin` to `end`; several in a process may share a worker's name."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker
        self._session: sa.Connection | None = None
        self._file: IO[bytes] | None = None

    def begin(self) -> None:
        """Shows that the worker lives; to be called before it claims anything."""
        if self._database.is_postgresql:
            engine = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
            self._session = engine.connect()
            self._session.exec_driver_sql(f"SELECT pg_advisory_lock_shared({LOCK})", {"worker": self._worker})
        elif sys.platform != "win32":
            self._file = _locked(_path(self._database, self._worker))

    def end(self) -> None:
        """Ends it; what the worker has still claimed is anybody's."""
        if self._session is not None:
            with suppress(
                DBAPIError
            ):  # at once; else it ends when the server notices that the session is gone
                self._session.exec_driver_sql(
                    f"SELECT pg_advisory_unlock_shared({LOCK})", {"worker": self._worker}
                )
            # Not given back to the pool: with the session goes the lock, whatever state the connection is in.
            self._session.invalidate()
            self._session.close()
        if self._file is not None:
            self._file.close()
            is_dead(self._database, self._worker)  # takes the file away, unless another needs it


def free_dead_claims(database: Database) -> int:
    """Ends the claims of workers that died without releasing them, without an attempt; returns how many."""
    freed = 0
    with database.writing() as connection:
        query = sa.select(mappings.c.claimed_by).where(CLAIMED).distinct()
        for worker in connection.scalars(query).all():
            if not is_dead(database, worker, connection):
                continue
            of_worker = sa.select(mappings.c.id).where(CLAIMED, mappings.c.claimed_by == worker)
            held = list(connection.scalars(of_worker))
            statement = sa.update(mappings).where(mappings.c.id.in_(unlocked(connection, held)))
            freed += connection.execute(statement.values(claimed_by=None, claimed_until=None)).rowcount
    return freed


def is_dead(database: Database, worker: str, connection: sa.Connection | None = None) -> bool:
    """Whether nobody holds the worker's lock; on SQLite the file of a dead one is removed."""
    if connection is not None and database.is_postgresql:
        query = f"SELECT pg_try_advisory_xact_lock({LOCK})"
        return bool(connection.exec_driver_sql(query, {"worker": worker}).scalar())
    if sys.platform == "win32":
        return False
    path = _path(database, worker)
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        path.unlink(missing_ok=True)
    return True


def _locked(path: Path) -> IO[bytes]:
    """The worker's file, open and locked; opened anew where another has just taken the old one away."""
    while True:
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()


def _path(database: Database, worker: str) -> Path:
    shop = Path(str(database.engine.url.database)).absolute()
    return shop.with_name(f".{shop.name}.{hashlib.sha256(worker.encode()).hexdigest()[:16]}.worker")
