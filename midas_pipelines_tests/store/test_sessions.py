"""Sessions are pinned whatever the database has set, and neither we nor the shop wait for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import psycopg
import pytest
import sqlalchemy as sa

from midas_pipelines.settings import DatabaseLimits
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.version import NotUpgraded, require_upgraded
from midas_pipelines.store.sessions import Session
from midas_pipelines_tests.shop import add_product, run, value

ODD = {
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'sql_standard'",
    "timezone": "'Asia/Kathmandu'",
    "client_encoding": "'LATIN1'",
    "standard_conforming_strings": "off",
    "bytea_output": "'escape'",
    "extra_float_digits": "-3",
    "array_nulls": "off",
    "search_path": "'pg_temp'",
    "default_transaction_isolation": "'serializable'",
    "default_transaction_read_only": "on",
    "idle_session_timeout": "1",
    "synchronous_commit": "off",
    "statement_timeout": "20",
    "lock_timeout": "1",
    "random_page_cost": "100",
}


@contextmanager
def database_like(shop: Database, **limits: float) -> Iterator[Database]:
    """The same database by new sessions with these limits."""
    with Database(shop.engine.url, DatabaseLimits.model_validate(limits)) as database:
        yield database


def test_a_database_with_settings_of_its_own_is_read_and_written_as_ever(postgresql_shop: Database) -> None:
    name = postgresql_shop.engine.url.database
    with postgresql_shop.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for setting, odd in ODD.items():
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET {setting} = {odd}")
    with database_like(postgresql_shop) as database:
        add_product(database, sku="A'\\1", price=Decimal("1.50"))
        assert value(database, "SELECT sku FROM products") == "A'\\1"
        assert abs((database.now() - postgresql_shop.now()).total_seconds()) < 60
        pinned = ("DateStyle", "TimeZone", "transaction_isolation", "synchronous_commit", "random_page_cost")
        with database.writing() as connection:
            shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in pinned]
        assert shown == ["ISO, MDY", "UTC", "read committed", "on", "1.1"]


def test_a_database_whose_triggers_do_not_fire_is_refused_in_a_sentence(postgresql_shop: Database) -> None:
    name = postgresql_shop.engine.url.database
    run(postgresql_shop, f"ALTER DATABASE {name} SET session_replication_role = replica")
    with database_like(postgresql_shop) as database, pytest.raises(NotUpgraded, match="no trigger fires"):
        require_upgraded(database)


def test_a_schema_that_the_database_leads_to_is_kept(postgresql_shop: Database) -> None:
    name = postgresql_shop.engine.url.database
    with postgresql_shop.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("CREATE SCHEMA shop")
        connection.exec_driver_sql("CREATE TABLE shop.products (id int)")
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET search_path = shop, public")
    with database_like(postgresql_shop) as database:
        assert value(database, "SELECT count(*) FROM information_schema.columns") > 0
        assert value(database, "SELECT current_schema()") == "shop"


def test_a_frozen_process_of_ours_gives_the_shop_its_row_back(postgresql_shop: Database) -> None:
    product = add_product(postgresql_shop, stock_quantity=5)
    sale = f"UPDATE products SET stock_quantity = stock_quantity - 1 WHERE id = {product}"
    frozen = DatabaseLimits(idle_seconds=0.3)

    def import_slowly() -> None:
        with Database(postgresql_shop.engine.url, frozen) as database, database.writing() as connection:
            connection.exec_driver_sql(sale)
            run(postgresql_shop, sale)  # the shop's, which waits for ours
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(sa.exc.DBAPIError):
        import_slowly()
    assert value(postgresql_shop, "SELECT stock_quantity FROM products") == 4


def test_we_wait_for_a_row_of_the_shops_for_a_moment_only(postgresql_shop: Database) -> None:
    product = add_product(postgresql_shop, stock_quantity=5)
    lock = f"SELECT id FROM products WHERE id = {product} FOR UPDATE"
    with postgresql_shop.writing() as shops, database_like(postgresql_shop, lock_seconds=0.1) as database:
        shops.exec_driver_sql(lock)
        with pytest.raises(sa.exc.OperationalError) as failed:
            run(database, lock)
        assert isinstance(failed.value.orig, psycopg.errors.LockNotAvailable)


def test_behind_a_pooler_each_transaction_is_pinned_for_itself(postgresql_shop: Database) -> None:
    with database_like(postgresql_shop, statement_seconds=7) as database, database.engine.connect() as first:
        session = first.connection.driver_connection
        assert isinstance(session, Session)
        session.pooled = True
        first.exec_driver_sql("RESET ALL")
        first.commit()
        assert first.exec_driver_sql("SHOW statement_timeout").scalar() == "7s"
        assert first.exec_driver_sql("SHOW TimeZone").scalar() == "UTC"


def silent_server() -> socket.socket:
    """Accepts connections and never says a word."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(5)
    return listening


def test_a_server_that_accepts_and_never_answers_is_given_up() -> None:
    with silent_server() as listening:
        port = listening.getsockname()[1]
        url = sa.URL.create("postgresql+psycopg", username="midas", host="127.0.0.1", port=port, database="x")
        database = Database(url, DatabaseLimits(connect_seconds=2))
        with pytest.raises(sa.exc.OperationalError):
            database.now()


def fall_silent(database: Database, statement: str) -> None:
    """Runs a statement on a connection that gives the server little time to answer, and commits."""
    with database.writing() as connection:
        session = connection.connection.driver_connection
        assert isinstance(session, Session)
        session.answer_seconds = 0.2
        connection.exec_driver_sql(statement)


def test_a_session_cut_before_its_transaction_begins_is_an_error_of_sqlalchemy(
    postgresql_shop: Database,
) -> None:
    with database_like(postgresql_shop) as database, database.engine.connect() as connection:
        session = connection.connection.driver_connection
        assert isinstance(session, Session)
        run(postgresql_shop, f"SELECT pg_terminate_backend({session.info.backend_pid}, 5000)")
        with pytest.raises(sa.exc.OperationalError):
            connection.begin()


def test_a_server_that_falls_silent_is_given_up_and_its_connection_closed(postgresql_shop: Database) -> None:
    with database_like(postgresql_shop) as database:
        with pytest.raises(sa.exc.OperationalError, match="gave no answer"):
            fall_silent(database, "SELECT pg_sleep(30)")
        assert value(database, "SELECT 1") == 1


def test_a_commit_that_is_not_answered_is_given_up(postgresql_shop: Database) -> None:
    add_product(postgresql_shop, stock_quantity=5)
    run(
        postgresql_shop,
        "CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NULL; END'",
    )
    run(
        postgresql_shop,
        "CREATE CONSTRAINT TRIGGER sleepy AFTER UPDATE ON products DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION sleepy()",
    )
    database = Database(postgresql_shop.engine.url)
    with pytest.raises(sa.exc.OperationalError):
        fall_silent(database, "UPDATE products SET name = 'x'")
    database.close()


def test_sqlite_waits_for_another_writer_no_longer_than_its_role(sqlite_shop: Database) -> None:
    with sqlite_shop.writing(), database_like(sqlite_shop, statement_seconds=0.1) as other:
        done: list[type[Exception]] = []

        def write() -> None:
            try:
                add_product(other)
            except sa.exc.OperationalError as locked:
                done.append(type(locked))

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(10)
        assert done == [sa.exc.OperationalError]
