"""Transactions: a read sees one moment and waits for nobody, a write is whole or not at all."""

from __future__ import annotations

import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines_tests.copies import connect
from midas_pipelines_tests.shop import add_product, rows, run

COUNT = "SELECT count(*) FROM products"


def test_a_read_sees_one_moment_while_others_write(shop: Database) -> None:
    with shop.reading() as connection:
        before = connection.exec_driver_sql(COUNT).scalar()
        add_product(shop)
        assert connection.exec_driver_sql(COUNT).scalar() == before
    assert rows(shop, COUNT) == [(1,)]


def test_a_read_does_not_wait_for_an_open_write(shop: Database) -> None:
    with shop.writing() as connection:
        connection.exec_driver_sql("INSERT INTO products (name, slug, price) VALUES ('A', 'a', 1)")
        assert rows(shop, COUNT) == [(0,)]
    assert rows(shop, COUNT) == [(1,)]


def test_a_write_that_raises_leaves_nothing(shop: Database) -> None:
    with suppress(KeyError), shop.writing() as connection:
        connection.exec_driver_sql("INSERT INTO products (name, slug, price) VALUES ('A', 'a', 1)")
        raise KeyError
    assert rows(shop, COUNT) == [(0,)]


def test_a_read_that_writes_by_mistake_keeps_nothing(database: Database) -> None:
    run(database, "CREATE TABLE note (id INTEGER)")
    with suppress(Exception), database.reading() as connection:
        connection.exec_driver_sql("INSERT INTO note VALUES (1)")
    assert rows(database, "SELECT * FROM note") == []


def test_sqlite_keeps_what_was_committed_through_a_power_cut_and_checks_references(
    sqlite_shop: Database,
) -> None:
    pragmas = ("journal_mode", "synchronous", "foreign_keys")
    with Database(sqlite_shop.engine.url) as opened:
        assert [rows(opened, f"PRAGMA {name}")[0][0] for name in pragmas] == ["wal", 2, 1]


def test_an_error_quotes_no_value_of_a_row(database: Database) -> None:
    run(database, "CREATE TABLE buyers (name TEXT UNIQUE, age INTEGER CHECK (age > 0))")
    run(database, "INSERT INTO buyers VALUES ('Zoe Sample', 1)")
    for name, age in (("Zoe Sample", 1), ("Bob Sample", -1)):
        with pytest.raises(sa.exc.IntegrityError) as failed:
            run(database, "INSERT INTO buyers VALUES (:name, :age)", name=name, age=age)
        text = "".join(traceback.format_exception(failed.value))
        assert "Sample" not in text
        assert "buyers" in text


QUOTED = 'Zoe "Z" Sample 99999'


def test_an_error_about_a_value_does_not_quote_it(postgresql_shop: Database) -> None:
    for cast in ("integer", "timestamptz", "json", "smallint", "inet"):
        with pytest.raises(sa.exc.DBAPIError) as failed:
            run(postgresql_shop, f"SELECT CAST(:given AS text)::{cast}", given=QUOTED)
        assert "Sample" not in "".join(traceback.format_exception(failed.value))


@pytest.mark.parametrize("state", ["P0001", "53100", "MY001"])
def test_an_error_does_not_say_what_a_trigger_quotes(postgresql_shop: Database, state: str) -> None:
    raised = f"DO $$BEGIN RAISE 'not for Zoe Sample' USING ERRCODE = '{state}'; END$$"
    with pytest.raises(sa.exc.DBAPIError) as failed:
        run(postgresql_shop, raised)
    assert "Zoe" not in "".join(map(str, (failed.value.args, failed.value.orig)))


def test_a_new_file_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with (
        Database(load_settings(database_url=f"sqlite:///{path}").database()) as made,
        made.writing() as connection,
    ):
        connection.exec_driver_sql("CREATE TABLE note (id INTEGER)")
        assert {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == dict.fromkeys(
            ("shop.db", "shop.db-shm", "shop.db-wal"), 0o600
        )


def test_another_process_never_takes_the_journal_away_from_under_us(sqlite_shop: Database) -> None:
    path = str(sqlite_shop.engine.url.database)
    add_product(sqlite_shop)
    with sqlite_shop.reading() as connection:
        connection.exec_driver_sql(COUNT)
        with connect(sqlite_shop.engine.url.render_as_string()) as other:
            rows(other, COUNT)
        # A process that believes to be the last one removes the journal when it closes the file.
        stranger = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM products').fetchall(); c.close()"
        subprocess.run([sys.executable, "-c", stranger, path], check=True, timeout=60)
        assert Path(f"{path}-wal").exists()
