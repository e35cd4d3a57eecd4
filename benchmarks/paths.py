"""How many files of the package one event runs through: what a reader must open to follow it.

Counted by a profiler on SQLite; a file counts when a function of it was entered while the event was handled. The
sandbox, which only stands in for 4Seller, does not count.

    python -m benchmarks.paths [--files]     lists the files of each path
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg
import httpx
import sqlalchemy as sa
from standardwebhooks import Webhook

import midas_pipelines
from benchmarks.measuring import Result, sample_shop, sandbox, settings_of
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.store.database import Database
from midas_pipelines.store.privacy.keys import new_key

PACKAGE = str(Path(midas_pipelines.__file__).parent) + os.sep
LEFT_OUT = (PACKAGE + "sandbox" + os.sep,)
SECRET = "whsec_" + "bWlkYXMtYmVuY2htYXJrLXNlY3JldC0wMQ=="
ITEMS = 20
TARGETS = {
    "an order's webhook to its stock on the channel": 45,
    "a cancellation's webhook to its stock on the channel": 45,
    "a changed price, by Dagster": 36,
    "a changed stock, by the gateway": 28,
}
WAITING = (
    "SELECT (SELECT count(*) FROM marketplace_webhooks WHERE processed_at IS NULL) + "
    "(SELECT count(*) FROM fourseller_product_mappings WHERE dirty_since IS NOT NULL)"
)


class Trace:
    """Collects the files of the package whose functions are entered, in every thread started after `watch`."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.functions: set[tuple[str, str]] = set()
        self.watching = False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """What the interpreter calls at each call of a function."""
        if event != "call" or not self.watching:
            return
        code = frame.f_code
        file = code.co_filename
        if file.startswith(PACKAGE) and not file.startswith(LEFT_OUT) and code.co_name != "<module>":
            self.files.add(file.removeprefix(PACKAGE))
            self.functions.add((file, code.co_qualname))

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts while the block runs."""
        self.files, self.functions, self.watching = set(), set(), True
        try:
            yield
        finally:
            self.watching = False


def measure() -> list[Result]:
    """The four paths."""
    found = walk()
    return [
        Result(f"files that {name} runs through", f"{len(files)} files", f"<= {most}", len(files) <= most)
        for name, most in TARGETS.items()
        for files in (found[name],)
    ]


def walk() -> dict[str, list[str]]:
    """The files of each path, in the order of the alphabet."""
    found: dict[str, list[str]] = {}
    path = Trace()
    with sample_shop("sqlite", ITEMS) as database, sandbox() as channel:
        price(database, channel, path, found)
        events(database, channel, path, found)
    return found


def events(database: Database, channel: BackgroundSandbox, path: Trace, found: dict[str, list[str]]) -> None:
    """An order, its cancellation and a change of stock, each until nothing waits."""
    sku = one(database, "SELECT sku FROM products WHERE stock_quantity > 3 ORDER BY id LIMIT 1")
    order = {
        "id": "path-1",
        "status": "pending",
        "created_at": datetime.now(UTC).isoformat(),
        "updated_at": datetime.now(UTC).isoformat(),
        "currency": "USD",
        "total": "10.00",
        "shipping_cost": "0.00",
        "sales_channel": "ebay",
        "customer": {"name": "A Buyer", "email": "buyer@example.com"},
        "shipping_address": {"line1": "1 Example Street", "city": "Example", "country": "US"},
        "items": [{"sku": sku, "title": "A part", "quantity": 1, "price": "10.00"}],
    }
    cancelled = {**order, "status": "cancelled", "updated_at": "2027-01-01T00:00:00Z"}
    with running_gateway(database, channel, path) as url:
        rest(database)
        cases: dict[str, Callable[[], object]] = {
            "an order's webhook to its stock on the channel": lambda: send(url, "order.created", order),
            "a cancellation's webhook to its stock on the channel": lambda: send(
                url, "order.cancelled", cancelled
            ),
            "a changed stock, by the gateway": lambda: change(
                database, "UPDATE products SET stock_quantity = stock_quantity + 1 WHERE sku = :sku", sku
            ),
        }
        for name, happen in cases.items():
            with path.counting():
                happen()
                rest(database)
            outcomes = "SELECT count(*) FROM marketplace_webhooks WHERE outcome <> 'applied'"
            if one(database, outcomes):
                raise RuntimeError("an event was not applied: the path was not walked to its end")
            found[name] = sorted(path.files)


def price(database: Database, channel: BackgroundSandbox, path: Trace, found: dict[str, list[str]]) -> None:
    """A changed price, sent by the job that the schedule runs."""
    settings = settings_of(database, channel)
    os.environ |= {
        "MIDAS_DATABASE_URL": database.engine.url.render_as_string(hide_password=False),
        "FOURSELLER_API_URL": settings.fourseller_api_url,
        "FOURSELLER_API_KEY": channel.config.api_key,
        "FOURSELLER_SELLER_ID": channel.config.seller_id,
    }
    from midas_pipelines.cli.dagster.running import QUIET
    from midas_pipelines.definitions import defs

    with dg.DagsterInstance.ephemeral() as instance:

        def run(name: str) -> None:
            job = defs.resolve_job_def(name)
            assert job.execute_in_process(instance=instance, run_config=QUIET).success

        run("full_sync")
        sku = one(database, "SELECT sku FROM products WHERE sku IS NOT NULL ORDER BY id LIMIT 1")
        change(database, "UPDATE products SET price = price + 1 WHERE sku = :sku", sku)
        threading.setprofile(path)
        sys.setprofile(path)
        try:
            with path.counting():
                run("incremental_sync")
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    found["a changed price, by Dagster"] = sorted(path.files)


@contextmanager
def running_gateway(database: Database, channel: BackgroundSandbox, path: Trace) -> Iterator[str]:
    """The address of a gateway with its worker, in a thread that the profiler sees."""
    from midas_pipelines.gateway.server import server_of
    from midas_pipelines.gateway.service import Service
    from midas_pipelines.sockets import address_of, listen

    settings = settings_of(database, channel, fourseller_webhook_secret=SECRET, payload_key=new_key())
    threading.setprofile(path)
    service = Service(settings, database)
    listening = listen("127.0.0.1", 0)
    server = server_of(service)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield address_of(listening)
    finally:
        server.should_exit = True
        thread.join(30)
        threading.setprofile(None)  # type: ignore[arg-type]


def send(url: str, kind: str, data: dict[str, Any]) -> None:
    """Sends an event as 4Seller does."""
    body = json.dumps({"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": data})
    key, at = f"msg_{uuid.uuid4().hex}", datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": key,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(key, at, body),
    }
    answer = httpx.post(f"{url}/api/marketplace/webhooks", content=body, headers=headers, trust_env=False)
    answer.raise_for_status()


def change(database: Database, statement: str, sku: str) -> None:
    """A change by the shop's own code."""
    with database.engine.begin() as connection:
        connection.execute(sa.text(statement), {"sku": sku})


def one(database: Database, query: str) -> Any:
    """One value of the database."""
    with database.reading() as connection:
        return connection.scalar(sa.text(query))


def rest(database: Database, seconds: float = 30.0) -> None:
    """Waits until nothing waits, and a moment longer. Raises RuntimeError when that does not come."""
    until = time.monotonic() + seconds
    while one(database, WAITING):
        if time.monotonic() > until:
            raise RuntimeError("webhooks or items still wait")
        time.sleep(0.02)
    time.sleep(0.3)


if __name__ == "__main__":
    for path_name, path_files in walk().items():
        print(f"{len(path_files):3d} files (at most {TARGETS[path_name]}): {path_name}")  # noqa: T201
        if "--files" in sys.argv:
            print("    " + "\n    ".join(path_files))  # noqa: T201
