"""What a push of a thousand changed items costs in a large catalogue, against the same in a small one; PostgreSQL.

The push runs in a process of its own against a sandbox in another, so that its peak memory is its own. Each size is
pushed several times, in turns, and the medians are compared: the target is 1.5 x and 300 MB.
"""

from __future__ import annotations

import statistics

import httpx
import sqlalchemy as sa

from benchmarks.measuring import Result
from benchmarks.scale.catalogue import confirm, fill
from benchmarks.scale.runs import KEY, MEMORY_TARGET_MB, SELLER, once
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines_tests.postgres import PrivatePostgres

SMALL, LARGE, DIRTY, ROUNDS = 10_000, 1_000_000, 1_000, 5
RATIO_TARGET = 1.5


def measure(large: int = LARGE, rounds: int = ROUNDS) -> list[Result]:
    """The promise of the design: what a push costs does not grow with the catalogue."""
    server = PrivatePostgres()
    config = SandboxConfig(api_key=KEY, seller_id=SELLER, seed=1)
    try:
        with BackgroundSandbox(config) as sandbox:
            products = _products(sandbox.url)
            urls = {size: _catalogue(server, size, products) for size in (SMALL, large)}
            runs: dict[int, list[dict[str, float]]] = {SMALL: [], large: []}
            for number in range(rounds + 1):
                for size, url in urls.items():
                    run = _push(url, sandbox.url, size, number)
                    if number:  # the first of each warms the caches
                        runs[size].append(run)
    finally:
        server.stop()
    return _results(runs, large)


def _products(url: str) -> list[str]:
    """As many products at the sandbox as items will change; the rest of the catalogue need not be there."""
    headers = {"Authorization": f"Bearer {KEY}", "X-Seller-ID": SELLER}
    with httpx.Client(headers=headers) as client:
        answers = [
            client.post(f"{url}/products", json={"title": "Part", "sku": f"SKU-{n}", "price": "10.00"})
            for n in range(DIRTY)
        ]
    return [answer.json()["id"] for answer in answers]


def _catalogue(server: PrivatePostgres, size: int, products: list[str]) -> str:
    """A database of that many items, all of them listed and confirmed."""
    admin = sa.create_engine(
        load_settings(database_url=server.url("postgres")).database(), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE items_{size}")
    admin.dispose()
    url = server.url(f"items_{size}")
    with Database(load_settings(database_url=url).database()) as database:
        fill(database, size)
        _tie(database, size, products)
    return url


def _tie(database: Database, size: int, products: list[str]) -> None:
    """Ties the items that will change to the products at the sandbox, and confirms their content; nothing asks for that of the
    others."""
    items = [1 + place * (size // DIRTY) for place in range(len(products))]
    pairs = [{"product": one, "item": item} for one, item in zip(products, items, strict=True)]
    with database.writing() as connection:
        connection.execute(
            sa.update(mappings).values(
                fourseller_product_id=sa.literal("X") + mappings.c.fourseller_product_id
            )
        )
        query = sa.text(
            "UPDATE fourseller_product_mappings SET fourseller_product_id = :product WHERE product_id = :item"
        )
        connection.execute(query, pairs)
    confirm(database, items)


def _push(url: str, sandbox_url: str, size: int, number: int) -> dict[str, float]:
    """Changes the stock of a thousand items spread over the catalogue, and pushes from a fresh process."""
    with Database(load_settings(database_url=url).database()) as database, database.writing() as connection:
        connection.exec_driver_sql(
            f"UPDATE products SET stock_quantity = {10 + number} WHERE mod(id, {size // DIRTY}) = 1"
        )
    return once(url, sandbox_url, "push_once")


def _results(runs: dict[int, list[dict[str, float]]], large: int) -> list[Result]:
    seconds = {size: statistics.median(run["seconds"] for run in found) for size, found in runs.items()}
    peak = max(run["peak_mb"] for run in runs[large])
    ratio = seconds[large] / seconds[SMALL]
    return [
        Result(
            f"pushing {DIRTY:,} changed items among {large:,}, PostgreSQL",
            f"{ratio:.2f} x the same among {SMALL:,}",
            f"<= {RATIO_TARGET} x",
            ratio <= RATIO_TARGET,
            f"{seconds[large]:.2f} s and {seconds[SMALL]:.2f} s, medians of {len(runs[large])}",
        ),
        Result(
            f"peak memory of that push among {large:,}",
            f"{peak:.0f} MB",
            f"<= {MEMORY_TARGET_MB:.0f} MB",
            peak <= MEMORY_TARGET_MB,
        ),
    ]
