"""Transactions: a read sees one moment and waits for nobody, a write is whole or not at all."""

from __future__ import annotations

from contextlib import suppress

from midas_pipelines.store.database import Database
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
    assert [rows(sqlite_shop, f"PRAGMA {name}")[0][0] for name in pragmas] == ["wal", 2, 1]
