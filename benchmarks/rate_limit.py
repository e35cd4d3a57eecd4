"""A rate limit shared by three processes: how much of it they use, and how often they are told off."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time

import httpx

from benchmarks.measuring import Result, sample_shop, sandbox, settings_of
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.product_sync import sync_products

RATE = 100.0
PROCESSES = 3
ITEMS = 2000


def measure() -> list[Result]:
    """Three processes push one shop's items through a limit of RATE requests a second."""
    with sample_shop("postgresql", ITEMS) as database, sandbox(latency_ms=20.0, rate_limit=RATE) as channel:
        settings = settings_of(database, channel, rate_limit=RATE)
        workers = [
            multiprocessing.get_context("spawn").Process(target=_push, args=(_plain(settings),))
            for _ in "abc"
        ]
        for worker in workers:
            worker.start()
        while not (begun := _calls(channel)):
            time.sleep(0.01)
        started = time.monotonic()
        for worker in workers:
            worker.join()
        seconds = time.monotonic() - started
        counts = httpx.get(f"{channel.control_url}/counts").json()
    sent = sum(sum(by_status.values()) for by_status in counts.values())
    refused = sum(by_status.get("429", 0) for by_status in counts.values())
    used = (sent - begun) / seconds / RATE
    return [
        Result(
            f"rate limit of {RATE:.0f}/s, {PROCESSES} processes",
            f"{used:.1%} of it used, {refused / sent:.2%} of answers 429",
            ">= 95 % used, < 1 % of answers 429",
            used >= 0.95 and refused / sent < 0.01,
            f"{sent} requests in {seconds:.1f} s",
        )
    ]


def _plain(settings: Settings) -> dict[str, object]:
    given = settings.model_dump(exclude_none=True)
    return {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in given.items()
    }


def _push(given: dict[str, object]) -> None:
    settings = Settings(**given)  # type: ignore[arg-type]
    with Database(settings.database()) as database:
        report = asyncio.run(sync_products(SyncContext(settings, database)))
    sys.exit(1 if report.failed else 0)


def _calls(channel: object) -> int:
    counts = httpx.get(f"{channel.control_url}/counts").json()  # type: ignore[attr-defined]
    return sum(sum(by_status.values()) for by_status in counts.values())
