"""What people and schedules ask about two years of orders on PostgreSQL, with five ledger rows each, all written by SQL.

Names beside each reading the large tables that its statements go through from end to end.
"""

from __future__ import annotations

import time

from benchmarks.measuring import Result, shop_url
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.storefront.sample import create_shop_tables
from midas_pipelines_tests.many_orders import scans, seed_orders
from midas_pipelines_tests.many_readings import READINGS

ANSWER_TARGET_MS, ASKED, ITEMS = 200.0, 20, 5_000


def measure(count: int = 2_000_000) -> list[Result]:
    """How long each reading takes on that many orders of 5,000 items: p95 of some, one after the other."""
    results = []
    with shop_url("postgresql") as url, Database(load_settings(database_url=url).database()) as database:
        with database.writing() as connection:
            create_shop_tables(connection)
        upgrade(database)
        seed_orders(database, count, ITEMS)
        for name, reading in READINGS.items():
            whole, took = scans(database, reading), []
            for _ in range(ASKED):
                begun = time.perf_counter()
                reading(database)
                took.append(1000 * (time.perf_counter() - begun))
            p95 = sorted(took)[round(0.95 * ASKED) - 1]
            results.append(
                Result(
                    f"{name}, {count:,} orders",
                    f"p95 {p95:.0f} ms",
                    f"<= {ANSWER_TARGET_MS:.0f} ms, no large table read whole",
                    p95 <= ANSWER_TARGET_MS and not whole,
                    "; ".join(f"reads whole: {one.partition(':')[0]}" for one in whole),
                )
            )
    return results
