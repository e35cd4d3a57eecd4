"""Importing orders: items, deduction, ledger, audit and sealed payloads, against dlt only landing the same JSON.

Both read the same file of orders and write to the same private PostgreSQL, by turns, and the best of their rounds
counts, so that neither pays for a cold cache. dlt runs in an environment of its own (`dependency-groups.bench`).
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from benchmarks.measuring import Result, sample_shop
from midas_pipelines.fourseller.models import read_order
from midas_pipelines.fourseller.pages import read_page
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.checks import unbalanced_orders, unexplained_deductions
from midas_pipelines.store.privacy.keys import new_key
from midas_pipelines.store.stock.ledger import negative_stock, unexplained_stock
from midas_pipelines.storefront.schema import products
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.pages import OrderPages, OrderReport

ORDERS = 10_000
ROUNDS = 3
LANDING = Path(__file__).parent / "land_orders.py"
PEER = Path(tempfile.gettempdir()) / "midas-bench-dlt"
"""dlt's environment: made once, kept between measurements."""


def measure() -> list[Result]:
    """The seconds of both, and their ratio."""
    ours, theirs = [], []
    peer = peer_python()
    for number in range(ROUNDS):
        with sample_shop("postgresql") as database, tempfile.TemporaryDirectory() as folder:
            skus = _stocked_skus(database)
            path = Path(folder) / "orders.json"
            _write_pages(path, orders_json(skus, ORDERS, seed=number))
            if peer is not None:
                theirs.append(_land(peer, database, path))
            ours.append(_import(database, path))
            verify(database)
    return [_result(min(ours), min(theirs) if theirs else None)]


def _result(ours: float, theirs: float | None) -> Result:
    promise = f"importing {ORDERS:,} orders with items, deduction, ledger and audit, PostgreSQL"
    target = "<= 1.0 x dlt landing the same JSON"
    if theirs is None:
        return Result(
            promise, f"{ours:.2f} s", target, False, "dlt could not be installed: no peer to compare with"
        )
    ratio = ours / theirs
    return Result(
        promise,
        f"{ratio:.2f} x dlt",
        target,
        ratio <= 1.0,
        f"{ours:.2f} s, dlt {theirs:.2f} s; best of {ROUNDS}, up to {load_settings().orders_batch} orders a transaction, payloads sealed",
    )


def _import(database: Database, path: Path, number: int = ORDERS) -> float:
    """Seconds from the text of the JSON to the last commit, by the way that polling takes."""
    settings = load_settings(
        database_url=database.engine.url.render_as_string(hide_password=False),  # type: ignore[arg-type]
        payload_key=SecretStr(new_key()),
    )
    context = SyncContext(settings, database, run_id="bench")
    started = time.perf_counter()
    asyncio.run(_take_in(context, path, number))
    return time.perf_counter() - started


async def _take_in(context: SyncContext, path: Path, number: int) -> None:
    report = OrderReport()
    intake = OrderPages(context, report, read_at=context.database.now())
    with path.open() as pages:
        for place, rows in enumerate(pages):
            envelope = {"data": json.loads(rows), "total": number, "limit": 100, "offset": 100 * place}
            await intake.add(read_page(envelope, read_order))
    await intake.finish()
    assert report.imported == number, report


def _write_pages(path: Path, orders: Iterable[dict[str, Any]]) -> None:
    """One page of 100 orders a line, as the API answers them."""
    rest = iter(orders)
    with path.open("w") as pages:
        while page := list(islice(rest, 100)):
            pages.write(json.dumps(page) + "\n")


def _land(python: Path, database: Database, path: Path) -> float:
    """Seconds that dlt took to extract, normalize and load, its own imports and set-up not counted."""
    # dlt insists on a password; the private server takes any.
    url = database.engine.url.set(drivername="postgresql", password="none").render_as_string(
        hide_password=False
    )
    done = subprocess.run(
        [str(python), str(LANDING), str(path), url], capture_output=True, text=True, check=True
    )
    return float(done.stdout.strip().splitlines()[-1])


def verify(database: Database) -> None:
    """A fast import that is wrong would be worth nothing."""
    for found in (unbalanced_orders, unexplained_deductions, unexplained_stock, negative_stock):
        assert not found(database), f"{found.__name__} after the import"


def _stocked_skus(database: Database) -> list[str]:
    with database.writing() as connection:
        connection.execute(sa.update(products).values(stock_quantity=products.c.stock_quantity + 1_000_000))
    query = (
        "SELECT sku FROM products p WHERE NOT EXISTS (SELECT 1 FROM product_variants WHERE product_id = p.id)"
    )
    with database.reading() as connection:
        return list(connection.exec_driver_sql(query).scalars())


def orders_json(skus: list[str], number: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """Invented orders of one to three lines, as 4Seller's API writes them."""
    chance = random.Random(seed)
    return (order_json(chance, skus, f"B{seed}-{place:06d}", place) for place in range(number))


def order_json(chance: random.Random, skus: list[str], order_id: str, place: int) -> dict[str, Any]:
    """One of them."""
    cents = [chance.randint(100, 20_000) for _ in range(chance.choice((1, 1, 2, 3)))]
    items = [
        {
            "sku": sku,
            "product_id": None,
            "title": f"Part {sku} Compatible For Sample Phone",
            "quantity": 1 + (price % 3 == 0),
            "price": f"{price / 100:.2f}",
        }
        for sku, price in zip(chance.sample(skus, len(cents)), cents, strict=True)
    ]
    total = sum(round(float(item["price"]) * 100) * item["quantity"] for item in items) + 499
    moment = f"2026-01-{1 + place % 28:02d}T{place % 24:02d}:{place % 60:02d}:00.000000Z"
    return {
        "id": order_id,
        "status": chance.choice(("pending", "processing", "unpaid")),
        "created_at": moment,
        "updated_at": moment,
        "currency": "USD",
        "total": f"{total // 100}.{total % 100:02d}",
        "shipping_cost": "4.99",
        "sales_channel": chance.choice(("amazon", "ebay", "tiktok", "walmart")),
        "customer": {"email": f"shopper{place}@example.com", "name": "Testa Sample", "phone": "+1-555-0100"},
        "shipping_address": {
            "line1": "1 Nowhere Lane",
            "line2": None,
            "city": "Faketown",
            "state": "CA",
            "postal_code": "00000",
            "country": "US",
        },
        "items": items,
        "tracking": None,
    }


def peer_python() -> Path | None:
    """The interpreter of dlt's environment, which is made when it is missing; None when it cannot be."""
    python = PEER / "bin" / "python"
    if not (PEER / "ready").exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True, capture_output=True)
            install = [str(python), "-m", "pip", "install", "--quiet", "dlt[postgres]>=1.4"]
            subprocess.run(install, check=True, capture_output=True)
        except subprocess.CalledProcessError:
            return None
        (PEER / "ready").touch()
    return python


if __name__ == "__main__":
    for result in measure():
        print(f"{result.promise}: {result.measured} ({result.detail})")  # noqa: T201
