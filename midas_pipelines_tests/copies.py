"""Fresh databases by copying a template: milliseconds, where building the tables takes longer than most tests."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from midas_pipelines.settings import BULK, DatabaseLimits, load_settings
from midas_pipelines.store import database as databases
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema import version
from midas_pipelines_tests.postgres import fast_folder

PATIENT = DatabaseLimits(lock_seconds=20, idle_seconds=60)
"""A machine that is busy with tests must not end a transaction; tests of the limits themselves set others."""

Prepare = Callable[[Database], None]
"""Fills a new, empty database; a template is known by its function."""


def connect(url: str) -> Database:
    """The database at a URL, as the program itself opens it, but SQLite waits for no disk."""
    database = Database(load_settings(database_url=url).database(), PATIENT)
    if not database.is_postgresql:
        sa.event.listen(database.engine, "connect", _wait_for_no_disk)
    return database


def _wait_for_no_disk(connection: Any, _: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


@contextmanager
def engines_used_again() -> Iterator[None]:
    """A new database has the engine of one that was closed, at the same URL with the same limits: its statements are
    compiled, which takes longest."""
    make, close = databases._make_engine, Database.close
    idle, keys = defaultdict[Any, list[sa.Engine]](list), dict[sa.Engine, Any]()

    def make_or_reuse(url: sa.URL, limits: DatabaseLimits = BULK) -> sa.Engine:
        key = url, limits
        engine = idle[key].pop() if idle[key] else make(url, limits)
        engine.dispose()  # of what a thread that outlived its database has opened
        keys[engine] = key
        return engine

    def keep(closed: Database) -> None:
        close(closed)
        if (key := keys.pop(closed.engine, None)) is not None:
            idle[key].append(closed.engine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(databases, "_make_engine", make_or_reuse)
        patch.setattr(Database, "close", keep)
        yield


SCHEMA = {
    "sqlite": "SELECT schema_version FROM pragma_schema_version JOIN pragma_user_version ON user_version = schema_version",
    "postgresql": "SELECT ARRAY[current_schemas(false)::text, pg_postmaster_start_time()::text, "
    "(SELECT concat(count(*), ',', max(xmin::text::bigint)) FROM pg_attribute WHERE attrelid >= 16384), "
    "(SELECT concat(count(*), ',', max(xmin::text::bigint)) FROM pg_class WHERE oid >= 16384)]::text",
}
"""Finds a value that every change of a table changes; in SQLite nothing once there was one after the copy."""


@contextmanager
def columns_looked_at_once() -> Iterator[None]:
    """Copies of a template whose columns are as they should be have them too, until one of their tables changes."""
    look, good = version.differing_columns, set[object]()

    def look_once(connection: sa.Connection) -> list[dict[str, str]]:
        schema = connection.exec_driver_sql(SCHEMA[connection.dialect.name]).scalar()
        if schema in good:
            return []
        found = look(connection)
        if not found and schema is not None:
            good.add(schema)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(version, "differing_columns", look_once)
        yield


def _prepare(url: str, prepare: Prepare) -> None:
    with connect(url) as database:
        prepare(database)
        file = database.engine.url.database
        if not database.is_postgresql and file is not None and Path(file).exists():  # see SCHEMA
            with database.writing() as connection:
                at = connection.exec_driver_sql("PRAGMA schema_version").scalar()
                connection.exec_driver_sql(f"PRAGMA user_version = {at}")


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


@contextmanager
def fresh_database(copies: Copies, prepare: Prepare) -> Iterator[Database]:
    """A new database that `prepare` has filled, while the block runs."""
    url = copies.fresh(prepare)
    with connect(url) as database:
        yield database
    copies.drop(url)


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
            copied = path.with_suffix(
                ".new"
            )  # no open file of this name is closed: that would drop SQLite's locks on it
            shutil.copyfile(self._templates[prepare], copied).rename(path)
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


CATALOGS = ("pg_class", "pg_attribute", "pg_proc", "pg_trigger", "pg_constraint", "pg_namespace", "pg_type")
OURS = 16384
"""The first oid that a database gives to what is made in it."""
SHAPE = " UNION ALL ".join(
    f"SELECT '{catalog}', count(*), coalesce(max(xmin::text::bigint), 0) FROM {catalog} WHERE "
    + ("attrelid" if catalog == "pg_attribute" else "oid")
    + f" >= {OURS}"
    for catalog in CATALOGS
)
SHAPE += (
    " UNION ALL SELECT 'settings', count(*), 0 FROM pg_db_role_setting JOIN pg_database "
    "ON pg_database.oid = setdatabase AND datname = current_database()"
)
"""Differs after every change of a table, a function, a trigger, a right or a setting."""
SPARE_BYTES = 2_000_000
"""By so much a database may have grown and be used again."""


class Cleaner:
    """Brings one database back to how it was made, in a third of the time that a new one takes."""

    def __init__(self, url: str) -> None:
        self._session = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        self._shape, self._bytes = self._look()
        names = "SELECT oid::regclass::text FROM pg_class WHERE relkind = '{}' AND oid >= {} ORDER BY oid"
        tables = [name for (name,) in self._session.execute(names.format("r", OURS))]
        numbers = [name for (name,) in self._session.execute(names.format("S", OURS))]
        self._rows = {name: self._copied(name) for name in tables}
        self._clean = "SET session_replication_role = replica;" + "".join(
            f"DELETE FROM {name};" for name in tables
        )
        for name in numbers:
            for value, called in self._session.execute(f"SELECT last_value, is_called FROM {name}"):
                self._clean += f"SELECT setval('{name}', {value}, {called});"

    def clean(self) -> bool:
        """Whether it is as it was made; ends the sessions that are left in it."""
        with suppress(psycopg.OperationalError):  # a test has ended all sessions, this one too
            return self._cleaned()
        return False

    def _cleaned(self) -> bool:
        others = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        self._session.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM {others}")
        shape, size = self._look()
        if shape != self._shape or size > self._bytes + SPARE_BYTES:
            return False
        self._session.execute(self._clean)
        for name, kept in self._rows.items():
            if kept:
                with self._session.cursor().copy(f"COPY {name} FROM STDIN") as copy:
                    copy.write(kept)
        return True

    def close(self) -> None:
        """Ends its session."""
        self._session.close()

    def _look(self) -> tuple[list[Any], int]:
        size = self._session.execute("SELECT pg_database_size(current_database())").fetchone()
        return self._session.execute(SHAPE).fetchall(), size[0] if size else 0

    def _copied(self, name: str) -> bytes:
        with self._session.cursor().copy(f"COPY {name} TO STDOUT") as copy:
            return b"".join(bytes(part) for part in copy)


class PostgresCopies:
    """Databases on one server, under names that no other process gives; one that is dropped unchanged is used again."""

    def __init__(self, url: str) -> None:
        self._url = load_settings(database_url=url).database()
        self._server = sa.create_engine(self._url, isolation_level="AUTOCOMMIT")
        self._prefix = f"midas_test_{os.getpid()}_{uuid4().hex[:8]}"
        self._templates: dict[Prepare, str] = {}
        self._numbers = count()
        self._cleaners: dict[str, tuple[Prepare, Cleaner]] = {}
        self._made: set[str] = set()
        self._clean: defaultdict[Prepare, list[str]] = defaultdict(list)

    def fresh(self, prepare: Prepare) -> str:
        if self._clean[prepare]:
            return self._clean[prepare].pop()
        if prepare not in self._templates:
            name = self._create("template0")
            _prepare(self._address(name), prepare)
            self._templates[prepare] = name
        url = self._address(self._create(self._templates[prepare]))
        self._cleaners[url] = prepare, Cleaner(url)
        return url

    def latin(self) -> str:
        """The address of an empty database that holds Western European characters alone."""
        return self._address(self._create("template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"))

    def drop(self, url: str) -> None:
        if url in self._cleaners:
            prepare, cleaner = self._cleaners[url]
            if cleaner.clean():
                self._clean[prepare].append(url)
                return
            del self._cleaners[url]
            cleaner.close()
        self._drop(url.rpartition("/")[2].partition("?")[0])

    def close(self) -> None:
        for _, cleaner in self._cleaners.values():
            cleaner.close()
        for name in sorted(self._made):
            self._drop(name)
        self._server.dispose()

    def _drop(self, name: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.discard(name)

    def _create(self, template: str) -> str:
        name = f"{self._prefix}_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} STRATEGY file_copy TEMPLATE {template}")
        self._made.add(name)
        return name

    def _address(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        with self._server.connect() as connection:
            connection.exec_driver_sql(statement)
