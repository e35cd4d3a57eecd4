"""Product sync: the first, an unchanged one, and under faults; as ratios to what the API allows at best."""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import time

import aiohttp
import httpx
import sqlalchemy as sa

from benchmarks.measuring import Result, channel_settings, sample_shop, sandbox, settings_of
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.store.schema.operation_tables import listing_writes
from midas_pipelines.storefront.sample import CATALOGUE_SIZE
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.product_sync import Mode, ProductReport, sync_products

LATENCY_MS = 50.0
IN_FLIGHT = 50
TRIES = 7
ITEMS = 3000
PUSHING = ("plan", "send", "acknowledge")
STAGES = ("read", "compare", "scan", *PUSHING)
PROCESSOR_TARGET_MS = 1.0
PAGES = math.ceil(CATALOGUE_SIZE / 100)
LIMIT_SECONDS = math.ceil(CATALOGUE_SIZE / IN_FLIGHT) * LATENCY_MS / 1000
"""Twelve rounds of fifty: no client can be faster."""


def measure() -> list[Result]:
    """First sync on both databases, its processor time by stage, unchanged sync, faults of 1, 5 and 20 %."""
    kinds = ("postgresql", "sqlite")
    results = [_first(kind) for kind in kinds] + [_processor(kind) for kind in kinds] + [_unchanged()]
    return results + [_faulty(share) for share in (0.01, 0.05, 0.20)]


def _first(kind: str) -> Result:
    """Also of a client that only sends the same bodies: what is practical on this machine at this moment."""
    seconds: list[float] = []
    bare: list[float] = []
    writes: list[int] = []
    for _ in range(TRIES):
        with sample_shop(kind) as database, sandbox(latency_ms=LATENCY_MS) as channel:
            report = _full(SyncContext(settings_of(database, channel), database))
            seconds.append(report.push_seconds)
            writes.append(report.requests - 1)  # one reads the empty listing
            with database.reading() as connection:
                bodies = [json.dumps(one) for one in connection.scalars(sa.select(listing_writes.c.after))]
        with sandbox(latency_ms=LATENCY_MS) as channel:
            bare.append(asyncio.run(_send_bare(channel, bodies)))
    ratio, floor = (statistics.median(one) / LIMIT_SECONDS for one in (seconds, bare))
    return Result(
        f"first full sync, {CATALOGUE_SIZE} items, {LATENCY_MS:.0f} ms API, {IN_FLIGHT} in flight, {kind}",
        f"{ratio:.2f} x limit, {max(writes) / CATALOGUE_SIZE:.2f} writes an item",
        f"push phase <= 1.2 x {LIMIT_SECONDS:.1f} s, one write an item",
        ratio <= 1.2 and max(writes) == CATALOGUE_SIZE,
        f"a client that only sends the same bodies {floor:.2f} x; push seconds: "
        + ", ".join(f"{one:.2f}" for one in sorted(seconds)),
    )


async def _send_bare(channel: BackgroundSandbox, bodies: list[str]) -> float:
    """Seconds in which aiohttp alone creates these products, as many in flight."""
    headers = {"Authorization": f"Bearer {channel.config.api_key}", "X-Seller-ID": channel.config.seller_id}
    headers["Content-Type"] = "application/json"
    left = list(enumerate(bodies))

    async def send() -> None:
        while left:
            number, body = left.pop()
            key = {"Idempotency-Key": str(number)}
            async with session.post(f"{channel.url}/products", data=body, headers=key) as answer:
                assert answer.status == 201
                await answer.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        started = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(IN_FLIGHT)))
        return time.perf_counter() - started


def _processor(kind: str) -> Result:
    """What a created item costs this machine's processor, our side alone; the time of loading libraries apart."""
    with sample_shop(kind, ITEMS) as database, sandbox() as channel:
        environment = os.environ | channel_settings(database, channel)
        command = [sys.executable, "-m", "benchmarks.sync_once", "full"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    spent = {stage: 1000 * json.loads(done.stdout).get(stage, 0.0) / ITEMS for stage in STAGES}
    pushing = sum(spent[stage] for stage in PUSHING)
    return Result(
        f"processor of a created item, {ITEMS:,} items, {kind}",
        f"{pushing:.2f} ms to push it",
        f"<= {PROCESSOR_TARGET_MS:.1f} ms: plan, send, acknowledge",
        pushing <= PROCESSOR_TARGET_MS,
        "ms by stage: " + ", ".join(f"{stage} {spent[stage]:.2f}" for stage in STAGES),
    )


def _unchanged() -> Result:
    with sample_shop("postgresql") as database, sandbox(latency_ms=LATENCY_MS) as channel:
        context = SyncContext(settings_of(database, channel), database)
        _full(context)
        before = _counts(channel)
        _full(SyncContext(settings_of(database, channel), database))
        after = _counts(channel)
    reads = after.get("GET", 0) - before.get("GET", 0)
    writes = sum(after.values()) - sum(before.values()) - reads
    return Result(
        f"full sync, nothing changed, {CATALOGUE_SIZE} items",
        f"{reads} reads, {writes} writes",
        f"{PAGES} reads, 0 writes",
        (reads, writes) == (PAGES, 0),
    )


def _faulty(share: float) -> Result:
    """Two full syncs under faults, idempotency keys ignored, then one without: nothing twice, nothing missing."""
    config = {"latency_ms": LATENCY_MS, "fault_rate": share, "honour_idempotency_key": False, "seed": 1}
    with sample_shop("postgresql") as database, sandbox(**config) as channel:
        at_once = settings_of(
            database, channel, list_lag_seconds=0
        )  # else a lost create is sent again after a minute
        first = _full(SyncContext(at_once, database))
        second = _full(SyncContext(at_once, database))
        products = httpx.get(f"{channel.control_url}/products").json()
    skus = [product["sku"] for product in products]
    twice = len(skus) - len(set(skus))
    missing = CATALOGUE_SIZE - len(set(skus))
    return Result(
        f"two full syncs, {share:.0%} of calls failing",
        f"{twice} twice, {missing} missing; {first.failed} then {second.failed} left for a later run",
        "0 twice, 0 missing",
        twice == 0 and missing == 0,
        f"first sync {first.push_seconds / LIMIT_SECONDS:.2f} x limit, {first.requests} requests",
    )


def _full(context: SyncContext) -> ProductReport:
    return asyncio.run(sync_products(context, Mode.FULL))


def _counts(channel: BackgroundSandbox) -> dict[str, int]:
    found = httpx.get(f"{channel.control_url}/counts").json()
    return {method: sum(by_status.values()) for method, by_status in found.items()}
