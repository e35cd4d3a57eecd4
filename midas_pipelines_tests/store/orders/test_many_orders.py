"""On two years of orders no statement that people or schedules run all the time reads a large table from end to end."""

from __future__ import annotations

from midas_pipelines.store.database import Database
from midas_pipelines_tests.many_orders import READINGS, scans, seed_orders


def test_no_reading_goes_through_a_large_table(postgresql_shop: Database) -> None:
    seed_orders(postgresql_shop, 8_000)
    found = {name: scans(postgresql_shop, reading) for name, reading in READINGS.items()}
    assert {name: statements for name, statements in found.items() if statements} == {}
    (whole,) = scans(postgresql_shop, _count)
    assert whole.startswith("Seq Scan of marketplace_orders")


def _count(database: Database) -> object:
    with database.reading() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM marketplace_orders WHERE total > 5").scalar()
