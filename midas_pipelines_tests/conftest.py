"""Databases for the tests: each test gets a fresh one, on SQLite, on PostgreSQL or once on each.

A test below `store/` or `storefront/`, where the SQL is, runs on both. So does one marked `both_databases`: one about
locks, concurrency, triggers, encodings, values that a column may refuse, or a whole walk. The others run on SQLite,
which is faster; with MIDAS_TEST_DATABASES=both in the environment they too run on both. `only_on("postgresql")` marks
what the other database does not have.

`database` is empty, `bare_shop` has the shop's tables, `shop` has the shop's and ours. The shop on PostgreSQL is
made by the shop's own DDL (`storefront/storefront.sql`), on SQLite by `create_shop_tables`.
"""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.storefront.sample import create_shop_tables
from midas_pipelines_tests.copies import (
    Copies,
    PostgresCopies,
    SqliteCopies,
    columns_looked_at_once,
    engines_used_again,
    fresh_database,
)
from midas_pipelines_tests.postgres import PrivatePostgres

WHERE_THE_SQL_IS = ("store", "storefront")
SHOP_DDL = Path(__file__).parent / "storefront" / "storefront.sql"


gc.disable()  # until the tests are collected
os.environ.pop(
    "PYTHONDONTWRITEBYTECODE", None
)  # the processes that tests start would compile it all each time


@pytest.fixture(scope="session", autouse=True)
def folders_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where snapshots and payload keys are kept, also by the commands that tests start: pytest removes them."""
    for name in ("MIDAS_SNAPSHOTS", "MIDAS_STATE_FOLDER"):
        os.environ[name] = str(tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session", autouse=True)
def sqlite_that_waits_for_no_disk() -> Iterator[None]:
    """For the histories that Dagster makes in this process; see `copies.connect` for the shop's databases."""

    def off(connection: object, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    sa.event.listen(sa.Pool, "connect", off)
    yield
    sa.event.remove(sa.Pool, "connect", off)


@pytest.fixture(scope="session", autouse=True)
def known_engines() -> Iterator[None]:
    """In all of this process."""
    with engines_used_again(), columns_looked_at_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def migrations_that_are_read_once() -> Iterator[None]:
    """Each of Dagster's histories that a test makes would load the same hundred files."""
    read, known = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def read_once(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in known:
            known[place] = read(config)
        return known[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", read_once)
        yield


def pytest_collection_finish() -> None:
    """What is loaded by now stays: no collection of garbage looks at it again, and those of tests are rarer."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session")
def postgresql_copies() -> Iterator[PostgresCopies]:
    """On the server of MIDAS_TEST_POSTGRES_URL, else on a private one of this process."""
    url = os.environ.get("MIDAS_TEST_POSTGRES_URL")
    server = None if url else PrivatePostgres()
    copies = PostgresCopies(url or server.url("postgres") if server else str(url))
    yield copies
    if server is not None:
        server.stop()
    else:
        copies.close()


@pytest.fixture(scope="session")
def sqlite_copies() -> Iterator[SqliteCopies]:
    """In a folder of this process."""
    copies = SqliteCopies()
    yield copies
    copies.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that uses a database on one kind of it or on both."""
    if "copies" in metafunc.fixturenames:
        metafunc.parametrize("copies", databases_of(metafunc.definition), indirect=True)


def databases_of(test: pytest.Item) -> tuple[str, ...]:
    """The kinds of database that a test runs on."""
    if (only := test.get_closest_marker("only_on")) is not None:
        return only.args
    folder = test.path.relative_to(Path(__file__).parent).parts[0]
    both = (
        folder in WHERE_THE_SQL_IS
        or test.get_closest_marker("both_databases") is not None
        or os.environ.get("MIDAS_TEST_DATABASES") == "both"
    )
    return ("sqlite", "postgresql") if both else ("sqlite",)


@pytest.fixture
def copies(request: pytest.FixtureRequest) -> Copies:
    """Databases of the kind that the test runs on; see `databases_of`."""
    made: Copies = request.getfixturevalue(f"{request.param}_copies")
    return made


@pytest.fixture
def database(copies: Copies) -> Iterator[Database]:
    """An empty database."""
    with fresh_database(copies, empty) as database:
        yield database


@pytest.fixture
def bare_shop(copies: Copies) -> Iterator[Database]:
    """The shop's tables, before the first upgrade."""
    with fresh_database(copies, create_shop) as database:
        yield database


@pytest.fixture
def shop(copies: Copies) -> Iterator[Database]:
    """The shop's tables without rows, and ours with their triggers."""
    with fresh_database(copies, create_upgraded_shop) as database:
        yield database


@pytest.fixture
def postgresql_shop(postgresql_copies: PostgresCopies) -> Iterator[Database]:
    """`shop` on PostgreSQL alone, for what SQLite does not have: roles, row locks, TRUNCATE."""
    with fresh_database(postgresql_copies, create_upgraded_shop) as database:
        yield database


@pytest.fixture
def sqlite_shop(sqlite_copies: SqliteCopies) -> Iterator[Database]:
    """`shop` on SQLite alone, for what PostgreSQL does not have: ids used again, INSERT OR REPLACE."""
    with fresh_database(sqlite_copies, create_upgraded_shop) as database:
        yield database


def empty(database: Database) -> None:
    """Leaves a database as it is."""


def create_shop(database: Database) -> None:
    """The shop's tables as the shop itself would have made them."""
    with database.writing() as connection:
        if database.is_postgresql:
            connection.exec_driver_sql(SHOP_DDL.read_text())
        else:
            create_shop_tables(connection)


def create_upgraded_shop(database: Database) -> None:
    """The shop's tables, then ours."""
    create_shop(database)
    upgrade(database)
