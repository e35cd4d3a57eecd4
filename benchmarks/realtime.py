"""The promises of real time, measured: a gateway in a process of its own, the sandbox in another at 20 ms, and a database.

Latencies end when the sandbox has applied the push, by its own `updated_at`: both read this machine's clock. Each part
uses an item once a round, so that a later change never hides an earlier one.

    python -m benchmarks.realtime [--seconds 60] [--database postgresql|sqlite]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table
from standardwebhooks import Webhook

from benchmarks.measuring import Result
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.settings import DatabaseLimits, load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.store.privacy.keys import new_key
from midas_pipelines.storefront.sample import create_shop_tables
from midas_pipelines.storefront.schema import products
from midas_pipelines_tests.postgres import PrivatePostgres

SECONDS = 60.0
SECRET = "whsec_" + "bWlkYXMtYmVuY2htYXJrLXNlY3JldC0wMQ=="
ITEMS = 200
ROUNDS = 5
PER_SECOND = 25.0  # changes a second while latency is measured: a busy shop, not a flood
CONNECTIONS = 8
BULK, LIMIT = 100_000, "100"
"""New items that a full sync lists meanwhile, and the calls a second that it and the gateway share."""
PENDING = "SELECT count(*) FROM marketplace_webhooks WHERE processed_at IS NULL"
DIRTY = "SELECT count(*) FROM fourseller_product_mappings WHERE dirty_since IS NOT NULL"
SLOW_ITEM = ITEMS


@dataclass
class Place:
    """Everything that takes part."""

    database: Database
    sandbox: BackgroundSandbox
    port: int
    environment: dict[str, str]
    orders: int = 0
    shown: dict[int, tuple[int, float]] = field(default_factory=dict)

    def look(self) -> None:
        """Reads what the channel shows: quantity, and the moment it was set, by product."""
        rows = httpx.get(f"{self.sandbox.control_url}/products", timeout=30).json()
        self.shown = {
            row["metadata"]["product_id"]: (
                row["inventory"]["quantity"],
                datetime.fromisoformat(row["updated_at"]).timestamp(),
            )
            for row in rows
        }

    def one(self, query: str) -> int:
        """A number from the database."""
        with self.database.reading() as connection:
            return int(connection.scalar(sa.text(query)) or 0)

    def rest(self, seconds: float = 120.0) -> float:
        """Waits until nothing waits; the seconds it took."""
        started = time.perf_counter()
        while self.one(PENDING) + self.one(DIRTY):
            if time.perf_counter() - started > seconds:
                raise RuntimeError(f"{self.one(PENDING)} webhooks and {self.one(DIRTY)} items still wait")
            time.sleep(0.02)
        return time.perf_counter() - started


# places


@contextmanager
def postgresql() -> Iterator[str]:
    """A private server's address."""
    server = PrivatePostgres()
    try:
        yield server.url("postgres")
    finally:
        server.stop()


@contextmanager
def sqlite() -> Iterator[str]:
    """A file's address."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/shop.db"


@contextmanager
def place(url: str, **more: str) -> Iterator[Place]:
    """A shop of `ITEMS` items, a sandbox at 20 ms, and a gateway that has listed them all; `more` settings for it."""
    config = SandboxConfig(latency_ms=20.0)
    with Database(load_settings(database_url=url).database()) as database:
        _make_shop(database)
        with BackgroundSandbox(config) as sandbox:
            environment = _environment(url, sandbox) | more
            with _gateway(environment) as port:
                found = Place(database, sandbox, port, environment)
                found.rest()
                yield found


def _environment(url: str, sandbox: BackgroundSandbox) -> dict[str, str]:
    environment = os.environ | {
        "MIDAS_DATABASE_URL": url,
        "FOURSELLER_API_URL": sandbox.url,
        "FOURSELLER_API_KEY": sandbox.config.api_key,
        "FOURSELLER_SELLER_ID": sandbox.config.seller_id,
        "FOURSELLER_WEBHOOK_SECRET": SECRET,
        "MIDAS_PAYLOAD_KEY": new_key(),
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("DAGSTER_HOME", None)
    return environment


def _make_shop(database: Database) -> None:
    with database.writing() as connection:
        create_shop_tables(connection)
        rows = [
            {
                "name": f"Part {number}",
                "slug": f"part-{number}",
                "sku": f"B-{number}",
                "price": "10.00",
                "stock_quantity": 1_000_000,
            }
            for number in range(ITEMS)
        ]
        connection.execute(sa.insert(products), rows)
    upgrade(database)


@contextmanager
def _gateway(environment: dict[str, str]) -> Iterator[int]:
    command = [str(Path(sys.executable).parent / "midas"), "gateway", "--port", "0"]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        words = child.stdout.readline().split()
        yield int(next(word for word in words if word.startswith("http://")).rstrip(";").rsplit(":", 1)[1])
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(40)


# parts


def stock_changes(at: Place) -> dict[str, float]:
    """A plain UPDATE in the shop's table, until the channel has it."""
    latencies: list[float] = []
    for round_ in range(ROUNDS):
        began: dict[int, float] = {}
        for product in range(1, ITEMS + 1):
            began[product] = time.time()
            with at.database.writing() as connection:
                connection.execute(
                    sa.update(products)
                    .where(products.c.id == product)
                    .values(stock_quantity=1_000_001 + round_)
                )
            time.sleep(max(0.0, 1 / PER_SECOND - (time.time() - began[product])))
        at.rest()
        at.look()
        latencies += [at.shown[product][1] - began[product] for product in began]
    return percentiles(latencies)


def beside_a_full_sync(at: Place) -> dict[str, float]:
    """A plain UPDATE in the shop's table, until the channel has it, while another process lists so many new items."""
    with at.database.writing() as connection:
        connection.execute(
            sa.text(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BULK}) INSERT INTO products "
                "(name, slug, sku, price, stock_quantity, status) SELECT 'Bulk ' || i, 'bulk-' || i, 'BULK-' || i, 10, 5, "
                "'active' FROM n"
            )
        )
    command = [sys.executable, "-m", "benchmarks.sync_once", "full"]
    began: dict[int, float] = {}
    with subprocess.Popen(command, env=at.environment, stdout=subprocess.DEVNULL) as sync:
        try:
            time.sleep(15)  # reads the shop, and lists items from then on
            for product in range(1, ITEMS + 1):
                began[product] = time.time()
                with at.database.writing() as connection:
                    connection.execute(
                        sa.update(products).where(products.c.id == product).values(stock_quantity=2_000_000)
                    )
                time.sleep(0.1)
            time.sleep(5)
            running = sync.poll() is None
        finally:
            sync.kill()
    at.look()
    late = [product for product in began if at.shown[product][0] != 2_000_000]
    latencies = [at.shown[product][1] - began[product] for product in began if product not in late]
    return percentiles(latencies) | {
        "not_there": len(late),
        "listed": len(at.shown) - ITEMS,
        "running": running,
    }


def order_webhooks(at: Place) -> dict[str, float]:
    """A signed order, until the channel shows the new stock of what it sold."""
    latencies: list[float] = []
    for _ in range(ROUNDS):
        began = asyncio.run(_send(at, range(1, ITEMS + 1), PER_SECOND))
        at.rest()
        at.look()
        latencies += [at.shown[product][1] - moment for product, moment in began.items()]
    return percentiles(latencies)


def beside_a_slow_order(at: Place, slow: Callable[[Place], AbstractContextManager[None]]) -> dict[str, float]:
    """A signed order, until the channel shows the new stock of what it sold, beside one of an item that is slow meanwhile."""
    latencies: list[float] = []
    for _ in range(ROUNDS):
        with slow(at):
            began = asyncio.run(_send(at, [SLOW_ITEM, *range(1, SLOW_ITEM // 2)], PER_SECOND))
        at.rest()
        at.look()
        del began[SLOW_ITEM]
        latencies += [at.shown[product][1] - moment for product, moment in began.items()]
    return percentiles(latencies)


@contextmanager
def locked_item(at: Place) -> Iterator[None]:
    """A transaction of the shop holds the item."""
    with Database(at.database.engine.url, DatabaseLimits(idle_seconds=60)) as shop, shop.writing() as holder:
        holder.exec_driver_sql(f"SELECT id FROM products WHERE id = {SLOW_ITEM} FOR UPDATE")
        yield


@contextmanager
def slow_trigger(at: Place) -> Iterator[None]:
    """A trigger of the shop takes three seconds for a line with the item; it stays."""
    with at.database.writing() as connection:
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(3); RETURN NEW; END'"
        )
        connection.exec_driver_sql(
            "CREATE OR REPLACE TRIGGER slow BEFORE INSERT ON order_items FOR EACH ROW "
            f"WHEN (NEW.product_id = {SLOW_ITEM}) EXECUTE FUNCTION slow()"
        )
    yield


def sustained(at: Place, seconds: float, per_second: float = 400.0) -> dict[str, float]:
    """So many webhooks a second for so long: what waits meanwhile, and whether anything is lost."""
    before = at.one("SELECT count(*) FROM orders")
    stock = at.one("SELECT sum(stock_quantity) FROM products")
    count = int(seconds * per_second)
    started = time.perf_counter()
    waiting, late = asyncio.run(_send_and_watch(at, count, per_second))
    sent_seconds = time.perf_counter() - started
    drained = at.rest()
    at.look()
    imported = at.one("SELECT count(*) FROM orders") - before
    deducted = stock - at.one("SELECT sum(stock_quantity) FROM products")
    with at.database.reading() as connection:
        now = dict(connection.execute(sa.select(products.c.id, products.c.stock_quantity)).tuples().all())
    half = len(waiting) // 2
    return {
        "sent": count,
        "per_second": round(count / sent_seconds, 1),
        "lost": count - imported,
        "not_deducted": count - deducted,
        "wrong_on_channel": sum(at.shown[product][0] != quantity for product, quantity in now.items()),
        "backlog_first_half": _mean(waiting[:half]),
        "backlog_second_half": _mean(waiting[half:]),
        "backlog_most": max(waiting, default=0),
        "drain_seconds": round(drained, 2),
        "answer_p99": percentiles(late)["p99"],
    }


def burst(at: Place, changes: int = 5000, items: int = 100) -> dict[str, float]:
    """So many changes on so few items, as fast as the database takes them: what it costs in pushes."""
    at.rest()
    time.sleep(3)
    before = _writes(at)
    started = time.perf_counter()
    for number in range(changes):
        with at.database.writing() as connection:
            connection.execute(
                sa.update(products)
                .where(products.c.id == number % items + 1)
                .values(stock_quantity=products.c.stock_quantity - 1)
            )
    seconds = time.perf_counter() - started
    at.rest()
    return {"changes": changes, "seconds": round(seconds, 2), "pushes": _writes(at) - before}


# how


def _writes(at: Place) -> int:
    counts = httpx.get(f"{at.sandbox.control_url}/counts", timeout=30).json()
    return sum(sum(found.values()) for method, found in counts.items() if method in ("PATCH", "PUT"))


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p90, p99 and the slowest."""
    ordered = sorted(seconds) or [0.0]
    picked = {f"p{share}": ordered[int(share / 100 * (len(ordered) - 1))] for share in (50, 90, 99)}
    return {name: round(value, 4) for name, value in (picked | {"slowest": ordered[-1]}).items()}


def _mean(numbers: list[int]) -> float:
    return round(sum(numbers) / len(numbers), 1) if numbers else 0.0


def _request(at: Place, product: int) -> bytes:
    at.orders += 1
    now = datetime.now(UTC)
    order = {
        "id": f"BENCH-{at.orders}",
        "status": "pending",
        "created_at": now.isoformat(),
        "updated_at": now.isoformat(),
        "currency": "USD",
        "total": "10.00",
        "sales_channel": "amazon",
        "customer": {"email": "shopper@example.com", "name": "Testa Sample", "phone": "+1-555-0100"},
        "shipping_address": {"line1": "1 Nowhere Lane", "city": "Faketown", "country": "US"},
        "items": [{"sku": f"B-{product - 1}", "title": "Part", "quantity": 1, "price": "10.00"}],
    }
    body = json.dumps({"type": "order.created", "timestamp": now.isoformat(), "data": order})
    key = f"msg_{at.orders}"
    head = (
        "POST /api/marketplace/webhooks HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        f"webhook-id: {key}\r\nwebhook-timestamp: {int(now.timestamp())}\r\n"
        f"webhook-signature: {Webhook(SECRET).sign(key, now, body)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


class Sender:
    """A few connections that are kept open: what sends must cost little beside what is measured."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def open(self) -> None:
        for _ in range(CONNECTIONS):
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))

    async def send(self, request: bytes) -> int:
        """The status of the answer."""
        reader, writer = await self._free.get()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            return int(head.split(b" ", 2)[1])
        finally:
            self._free.put_nowait((reader, writer))


async def _send(at: Place, sold: Sequence[int], per_second: float) -> dict[int, float]:
    """Sends an order for each of these items; returns when each was sent."""
    sender = Sender(at.port)
    await sender.open()
    began: dict[int, float] = {}
    for product in sold:
        request = _request(at, product)
        began[product] = time.time()
        _expect(await sender.send(request))
        await asyncio.sleep(max(0.0, 1 / per_second - (time.time() - began[product])))
    return began


async def _send_and_watch(at: Place, count: int, per_second: float) -> tuple[list[int], list[float]]:
    sender = Sender(at.port)
    await sender.open()
    waiting: list[int] = []
    late: list[float] = []

    async def one(number: int) -> None:
        started = time.perf_counter()
        _expect(await sender.send(_request(at, number % ITEMS + 1)))
        late.append(time.perf_counter() - started)

    async def watch() -> None:
        while True:
            waiting.append(await asyncio.to_thread(at.one, PENDING))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.TaskGroup() as sending:
        for number in range(count):
            await asyncio.sleep(max(0.0, started + number / per_second - loop.time()))
            sending.create_task(one(number))
    watching.cancel()
    return waiting, late


def _expect(status: int) -> None:
    if status != 202:
        raise RuntimeError(f"a webhook was answered {status}")


def on(kind: str, seconds: float) -> dict[str, dict[str, Any]]:
    """All parts on one kind of database."""
    with postgresql() if kind == "postgresql" else sqlite() as url, place(url) as at:
        found = {
            "stock change -> channel": stock_changes(at),
            "order webhook -> channel": order_webhooks(at),
            "400 webhooks/s": sustained(at, seconds),
            "burst of 5,000 changes": burst(at),
        }
        if kind == "postgresql":  # SQLite has one writer: there all wait for a slow one
            found |= {
                "orders beside one of a locked item": beside_a_slow_order(at, locked_item),
                "orders beside one with a trigger of 3 s": beside_a_slow_order(at, slow_trigger),
            }
    with postgresql() if kind == "postgresql" else sqlite() as url, place(url, MIDAS_RATE_LIMIT=LIMIT) as at:
        return found | {"stock change beside a full sync of 100,000": beside_a_full_sync(at)}


def measure() -> list[Result]:
    """The promises, for `make bench`; what SQLite does is for information."""
    found = on("postgresql", SECONDS)
    results = [_result(what, numbers) for what, numbers in found.items()]
    for what, numbers in on("sqlite", SECONDS).items():
        results.append(
            replace(_result(f"{what}, SQLite", numbers, what), target="for information", kept=True)
        )
    return results


def _result(promise: str, numbers: dict[str, Any], what: str | None = None) -> Result:
    name, limit = TARGETS[what or promise]
    detail = ", ".join(f"{key} {value}" for key, value in numbers.items() if key != name)
    arrived = not numbers.get("not_there") and numbers.get("running", True)
    kept = bool(numbers[name] <= limit and arrived and (name != "lost" or _flat(numbers)))
    return Result(promise, f"{name} {numbers[name]}", f"{name} <= {limit}", kept, detail)


def _flat(numbers: dict[str, Any]) -> bool:
    """Whether the rate was held and what waits did not grow."""
    grown = numbers["backlog_second_half"] > 2 * numbers["backlog_first_half"] + 50
    wrong = numbers["not_deducted"] or numbers["wrong_on_channel"]
    return bool(numbers["per_second"] >= 390 and not grown and not wrong)


TARGETS = {
    "stock change -> channel": ("p99", 0.2),
    "stock change beside a full sync of 100,000": ("p99", 0.2),
    "order webhook -> channel": ("p99", 1.0),
    "orders beside one of a locked item": ("p99", 1.0),
    "orders beside one with a trigger of 3 s": ("p99", 1.0),
    "400 webhooks/s": ("lost", 0),
    "burst of 5,000 changes": ("pushes", 300),
}


def main(arguments: list[str] | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """Measures, prints a table and returns it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long 400 webhooks a second are held")
    parser.add_argument("--database", choices=("postgresql", "sqlite", "both"), default="both")
    given = parser.parse_args(arguments)
    kinds = ("postgresql", "sqlite") if given.database == "both" else (given.database,)
    results = {kind: on(kind, given.seconds) for kind in kinds}
    table = Table("database", "what", "measured", "target", title="Real time, sandbox at 20 ms")
    for kind, parts in results.items():
        for what, numbers in parts.items():
            name, limit = TARGETS[what]
            shown = ", ".join(f"{key} {value}" for key, value in numbers.items())
            table.add_row(
                kind, what, shown, f"{name} <= {limit}" if kind == "postgresql" else "for information"
            )
    Console(width=150).print(table)
    return results


if __name__ == "__main__":
    main()
