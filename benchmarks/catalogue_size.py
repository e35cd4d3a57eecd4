"""What a push of a thousand changed items costs in a large catalogue, against the same in a small one; PostgreSQL.

The push runs in a process of its own against a sandbox in another, so that its peak memory is its own. Each size is
pushed several times, in turns, and the medians are compared: the target is 1.5 x and 300 MB.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines_tests.postgres import PrivatePostgres

SMALL, LARGE, DIRTY, ROUNDS = 10_000, 1_000_000, 1_000, 5
RATIO_TARGET, MEMORY_TARGET_MB = 1.5, 300.0
KEY, SELLER = "bench-key", "bench-seller"


def main(large: int = LARGE, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measures and prints; returns seconds, ratio and peak memory."""
    server = PrivatePostgres()
    config = SandboxConfig(api_key=KEY, seller_id=SELLER, seed=1)
    try:
        with BackgroundSandbox(config, process=True) as sandbox:
            urls = {size: _catalogue(server, size) for size in (SMALL, large)}
            runs: dict[int, list[dict[str, float]]] = {SMALL: [], large: []}
            for number in range(rounds + 1):
                for size, url in urls.items():
                    run = _push(url, sandbox.url, size, number)
                    if number:  # the first of each warms the caches
                        runs[size].append(run)
    finally:
        server.stop()
    return _report(runs, large)


def _catalogue(server: PrivatePostgres, size: int) -> str:
    """A database of that many items, all of them listed and confirmed."""
    admin = sa.create_engine(Settings(database_url=server.url("postgres")).database(), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE items_{size}")
    admin.dispose()
    url = server.url(f"items_{size}")
    with Database(Settings(database_url=url).database()) as database:
        with database.writing() as connection:
            _fill_shop(connection, size)
        upgrade(database)
        _confirm(database)
    return url


def _fill_shop(connection: sa.Connection, size: int) -> None:
    from midas_pipelines.storefront.sample import create_shop_tables

    create_shop_tables(connection)
    connection.exec_driver_sql(
        "INSERT INTO categories (name, slug) SELECT 'Category ' || n, 'category-' || n FROM generate_series(1, 20) n"
    )
    connection.exec_driver_sql(
        "INSERT INTO products (name, slug, sku, price, stock_quantity, category_id, status) "
        "SELECT 'Part ' || n, 'part-' || n, 'SKU-' || n, 10, 5, 1 + n % 20, 'active' "
        f"FROM generate_series(1, {size}) n"
    )


def _confirm(database: Database) -> None:
    """As after a first full sync: every item tied to a product, nothing dirty, and statistics up to date."""
    from midas_pipelines.sync.scan import read_chunk

    with database.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE fourseller_product_mappings m SET sku = p.sku, fourseller_product_id = 'P' || p.id, "
            "state = 'listed', acked_quantity = p.stock_quantity, acked_price = p.price, "
            "acked_version = m.version, acked_at = now(), dirty_since = NULL FROM products p WHERE p.id = m.product_id"
        )
    after = 0
    while rows := read_chunk(database, after):
        after = rows[-1].id
        _confirm_content(database, rows)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def _confirm_content(database: Database, rows: list[Any]) -> None:
    from midas_pipelines.sync.scan import planned

    with database.writing() as connection:
        changes = planned(connection, rows, 255)
        connection.execute(
            sa.text("UPDATE fourseller_product_mappings SET acked_hash = :hash WHERE id = :id"),
            [{"hash": change.content_hash, "id": change.mapping.id} for change in changes],
        )


def _push(url: str, sandbox_url: str, size: int, number: int) -> dict[str, float]:
    """Changes the stock of a thousand items spread over the catalogue, and pushes from a fresh process."""
    with Database(Settings(database_url=url).database()) as database, database.writing() as connection:
        connection.exec_driver_sql(
            f"UPDATE products SET stock_quantity = {10 + number} WHERE id % {size // DIRTY} = 1"
        )
    environment = os.environ | {
        "MIDAS_DATABASE_URL": url,
        "FOURSELLER_API_URL": sandbox_url,
        "FOURSELLER_API_KEY": KEY,
        "FOURSELLER_SELLER_ID": SELLER,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.push_once"], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _report(runs: dict[int, list[dict[str, float]]], large: int) -> dict[str, Any]:
    seconds = {size: statistics.median(run["seconds"] for run in found) for size, found in runs.items()}
    peak = max(run["peak_mb"] for run in runs[large])
    ratio = seconds[large] / seconds[SMALL]
    table = Table(title="A push of 1,000 changed items")
    for name in ("catalogue", "seconds", "items a second", "peak memory"):
        table.add_column(name, justify="right")
    for size, found in runs.items():
        rate = DIRTY / seconds[size]
        memory = max(run["peak_mb"] for run in found)
        table.add_row(f"{size:,}", f"{seconds[size]:.2f}", f"{rate:,.0f}", f"{memory:.0f} MB")
    console = Console()
    console.print(table)
    console.print(f"ratio {ratio:.2f} (target {RATIO_TARGET}), peak {peak:.0f} MB (target {MEMORY_TARGET_MB:.0f})")
    return {
        "seconds_small": seconds[SMALL],
        "seconds_large": seconds[large],
        "ratio": ratio,
        "peak_mb": peak,
        "met": ratio <= RATIO_TARGET and peak <= MEMORY_TARGET_MB,
    }


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
