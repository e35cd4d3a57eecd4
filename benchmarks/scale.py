"""What a full sync with nothing to change costs as the catalogue grows: processor time an item and peak memory.

Each run is a process of its own against a listing server in another; the first compares every item in full, those after
it only what is new. Draws `growth.svg`. `python -m benchmarks.scale 10000 100000 1000000` chooses the sizes.

`python -m benchmarks.scale --orders 2000000` measures instead what people and schedules ask about that many orders on
PostgreSQL, with five ledger rows each, and names the large tables that a statement goes through.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import sqlalchemy as sa

from benchmarks.measuring import Result, shop_url
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.storefront.sample import create_shop_tables
from midas_pipelines.sync.listings.scan import chunks
from midas_pipelines_tests.many_orders import READINGS, scans, seed_orders

SIZES = (10_000, 100_000)
RUNS = {"first": "full", "full": "full", "reconcile": "reconcile"}
STAGES = ("read", "compare", "scan")
MEMORY_TARGET_MB, PROCESSOR_TARGET_MS = 300.0, 0.25
ANSWER_TARGET_MS, ASKED = 200.0, 20
PICTURE = Path(__file__).parent / "growth.svg"
Measured = dict[str, dict[str, float]]


def measure(*sizes: int) -> list[Result]:
    """Full sync and reconciliation of unchanged catalogues on SQLite, by size."""
    found = {size: one_size(size) for size in sizes or SIZES}
    PICTURE.write_text(picture(found))
    return [result for size, runs in found.items() for result in _results(size, runs)]


def one_size(size: int) -> Measured:
    """The runs over a catalogue of that size."""
    command = [sys.executable, "-m", "benchmarks.listing_server", str(size)]
    with shop_url("sqlite") as url, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            _fill(url, size)
            return {name: _once(url, port, kind) for name, kind in RUNS.items()}
        finally:
            server.terminate()


def _fill(url: str, size: int) -> None:
    """A shop of that many items, all listed and confirmed."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {size})"
    with Database(load_settings(database_url=url).database()) as database:
        with database.writing() as connection:
            create_shop_tables(connection)
            connection.exec_driver_sql(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) "
                "INSERT INTO categories (name, slug) SELECT 'Category ' || i, 'category-' || i FROM n"
            )
            connection.exec_driver_sql(
                f"{numbers} INSERT INTO products (name, slug, sku, price, stock_quantity, category_id, status) "
                "SELECT 'Part ' || i, 'part-' || i, 'SKU-' || i, 10, 5, 1 + i % 20, 'active' FROM n"
            )
        upgrade(database)
        with database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE fourseller_product_mappings SET sku = 'SKU-' || product_id, state = 'listed', "
                "fourseller_product_id = 'P' || product_id, acked_quantity = 5, acked_price = '10.00', "
                "acked_version = version, acked_at = '2026-01-01 00:00:00.000000', dirty_since = NULL"
            )
        for changes in chunks(database, title_limit=255):
            with database.writing() as connection:
                connection.execute(
                    sa.text("UPDATE fourseller_product_mappings SET acked_hash = :hash WHERE id = :id"),
                    [{"hash": change.content_hash, "id": change.mapping.id} for change in changes],
                )


def _once(url: str, port: str, kind: str) -> dict[str, float]:
    environment = os.environ | {
        "MIDAS_DATABASE_URL": url,
        "FOURSELLER_API_URL": f"http://127.0.0.1:{port}/v1",
        "FOURSELLER_API_KEY": "bench-key",
        "FOURSELLER_SELLER_ID": "bench-seller",
    }
    command = [sys.executable, "-m", "benchmarks.sync_once", kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _results(size: int, runs: Measured) -> list[Result]:
    results = []
    for name, run in runs.items():
        item = 1000 * run["processor"] / size
        stages = ", ".join(f"{stage} {1000 * run[stage] / size:.3f}" for stage in STAGES if stage in run)
        what = "the first after a change of all" if name == "first" else "nothing changed"
        kept = run["peak_mb"] <= MEMORY_TARGET_MB and (name == "first" or item <= PROCESSOR_TARGET_MS)
        results.append(
            Result(
                f"{'full sync' if name != 'reconcile' else name}, {what}, {size:,} items, SQLite",
                f"{item:.3f} ms of processor an item, peak {run['peak_mb']:.0f} MB",
                f"<= {PROCESSOR_TARGET_MS} ms, <= {MEMORY_TARGET_MB:.0f} MB"
                if name != "first"
                else "for information",
                kept,
                f"ms by stage: {stages}",
            )
        )
    return results


def picture(found: dict[int, Measured]) -> str:
    """Processor time an item and peak memory by size, as bars."""
    rows, top = [], 24
    for size, runs in found.items():
        for name in ("full", "reconcile"):
            item, peak = 1000 * runs[name]["processor"] / size, runs[name]["peak_mb"]
            rows.append(
                f'<text x="190" y="{top + 11}" text-anchor="end">{name}, {size:,} items</text>'
                f'<rect x="200" y="{top}" width="{item * 600:.0f}" height="13" fill="#5b9bd5"/>'
                f'<text x="{206 + item * 600:.0f}" y="{top + 11}">{item:.3f} ms an item</text>'
                f'<rect x="470" y="{top}" width="{peak / 2:.0f}" height="13" fill="#8aab5c"/>'
                f'<text x="{476 + peak / 2:.0f}" y="{top + 11}">{peak:.0f} MB</text>'
            )
            top += 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{top + 6}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="200" y="14">processor time</text><text x="470" y="14">peak memory</text>{"".join(rows)}</svg>\n'
    )


def many_orders(count: int) -> list[Result]:
    """How long each reading takes on that many orders: p95 of twenty, one after the other."""
    results = []
    with shop_url("postgresql") as url, Database(load_settings(database_url=url).database()) as database:
        with database.writing() as connection:
            create_shop_tables(connection)
        upgrade(database)
        seed_orders(database, count)
        for name, reading in READINGS.items():
            whole, took = scans(database, reading), []
            for _ in range(ASKED):
                begun = time.perf_counter()
                reading(database)
                took.append(1000 * (time.perf_counter() - begun))
            p95 = sorted(took)[round(0.95 * ASKED) - 1]
            tables = "; ".join(one.partition(":")[0] for one in whole)
            target = f"<= {ANSWER_TARGET_MS:.0f} ms"
            measured = f"p95 {p95:.0f} ms"
            results.append(
                Result(f"{name}, {count:,} orders", measured, target, p95 <= ANSWER_TARGET_MS, tables)
            )
    return results


if __name__ == "__main__":
    given = sys.argv[1:]
    for result in many_orders(int(given[1])) if given[:1] == ["--orders"] else measure(*map(int, given)):
        print(result)  # noqa: T201
