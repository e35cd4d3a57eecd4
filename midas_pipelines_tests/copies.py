"""Fresh databases by copying a template: milliseconds, where building the tables takes longer than most tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Protocol
from uuid import uuid4

import sqlalchemy as sa

from midas_pipelines.settings import DatabaseLimits, load_settings
from midas_pipelines.store.database import Database
from midas_pipelines_tests.postgres import fast_folder

PATIENT = DatabaseLimits(lock_seconds=20, idle_seconds=60)
"""A machine that is busy with tests must not end a transaction; tests of the limits themselves set others."""

Prepare = Callable[[Database], None]
"""Fills a new, empty database; a template is known by its function."""


def connect(url: str) -> Database:
    """The database at a URL, as the program itself opens it, but SQLite waits for no disk."""
    database = Database(load_settings(database_url=url).database(), PATIENT)
    if not database.is_postgresql:
        sa.event.listen(
            database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
        )
    return database


@cache
def connect_again(url: str) -> Database:
    """`connect`, but once for each URL: the next test at it finds its statements compiled, which takes longest."""
    return connect(url)


def _prepare(url: str, prepare: Prepare) -> None:
    with connect(url) as database:
        prepare(database)


class Copies(Protocol):
    """Databases of one kind, made on demand and gone at the end."""

    def fresh(self, prepare: Prepare) -> str:
        """The URL of a new database that `prepare` has filled, now or in a template made earlier.

        One that was dropped may have had the same URL.
        """
        ...

    def drop(self, url: str) -> None:
        """Removes one of them."""
        ...

    def close(self) -> None:
        """Removes all of them."""
        ...


class SqliteCopies:
    """Files in a folder of their own."""

    def __init__(self) -> None:
        self._folder = Path(mkdtemp(prefix="midas-sqlite-", dir=fast_folder()))
        self._templates: dict[Prepare, Path] = {}
        self._numbers = count()
        self._dropped: list[Path] = []

    def fresh(self, prepare: Prepare) -> str:
        if prepare not in self._templates:
            path = self._new_path()
            _prepare(f"sqlite:///{path}", prepare)
            self._templates[prepare] = path
        path = self._dropped.pop() if self._dropped else self._new_path()
        if self._templates[prepare].exists():  # an empty database may have no file yet
            shutil.copyfile(self._templates[prepare], path)
        return f"sqlite:///{path}"

    def drop(self, url: str) -> None:
        path = url.removeprefix("sqlite:///")
        for suffix in ("", "-wal", "-shm"):
            Path(path + suffix).unlink(missing_ok=True)
        self._dropped.append(Path(path))

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _new_path(self) -> Path:
        return self._folder / f"{next(self._numbers)}.db"


class PostgresCopies:
    """Databases on one server, under names that no other process gives."""

    def __init__(self, url: str) -> None:
        self._url = load_settings(database_url=url).database()
        self._server = sa.create_engine(self._url, isolation_level="AUTOCOMMIT")
        self._prefix = f"midas_test_{os.getpid()}_{uuid4().hex[:8]}"
        self._templates: dict[Prepare, str] = {}
        self._numbers = count()
        self._made: set[str] = set()
        self._dropped: list[str] = []

    def fresh(self, prepare: Prepare) -> str:
        if prepare not in self._templates:
            name = self._create("template0")
            _prepare(self._address(name), prepare)
            self._templates[prepare] = name
        return self._address(self._create(self._templates[prepare]))

    def latin(self) -> str:
        """The address of an empty database that holds Western European characters alone."""
        return self._address(self._create("template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"))

    def drop(self, url: str) -> None:
        self._drop(url.rpartition("/")[2].partition("?")[0])

    def close(self) -> None:
        for name in sorted(self._made):
            self._drop(name)
        self._server.dispose()

    def _drop(self, name: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.discard(name)
        self._dropped.append(name)

    def _create(self, template: str) -> str:
        name = self._dropped.pop() if self._dropped else f"{self._prefix}_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} STRATEGY file_copy TEMPLATE {template}")
        self._made.add(name)
        return name

    def _address(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        with self._server.connect() as connection:
            connection.exec_driver_sql(statement)
