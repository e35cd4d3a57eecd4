"""Several processes push one shop: how much of a shared rate limit they use together."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from multiprocessing.context import SpawnProcess
from typing import Any

import httpx

from benchmarks.measuring import Result, sample_shop, sandbox, settings_of
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.settings import Settings, load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.product_sync import sync_products

RATE = 100.0
PROCESSES = 3
ITEMS = 1200
KILLED_AFTER = 3.0
"""Seconds after which one process is killed, with the tokens and claims that it holds."""

_context = multiprocessing.get_context("spawn")


def measure() -> list[Result]:
    """Three processes within a limit, also when one of them dies."""
    return [_limited(kills=False), _limited(kills=True)]


def _limited(*, kills: bool) -> Result:
    with sample_shop("postgresql", ITEMS) as database, sandbox(latency_ms=20.0, rate_limit=RATE) as channel:
        workers, ends = _start(settings_of(database, channel, rate_limit=RATE), PROCESSES)
        while not (begun := _sent(channel)):
            time.sleep(0.01)
        started = time.monotonic()
        if kills:
            time.sleep(KILLED_AFTER)
            workers.pop().kill()
        seconds = max(ends.get(timeout=120) for _ in workers) - started
        sent, refused = _sent(channel), _sent(channel, "429")
    used = (sent - begun) / seconds / RATE
    return Result(
        f"rate limit of {RATE:.0f}/s, {PROCESSES} processes" + (", one killed" if kills else ""),
        f"{used:.1%} of it used, {refused / sent:.2%} of answers 429",
        ">= 95 % used, < 1 % of answers 429",
        used >= 0.95 and refused / sent < 0.01,
        f"{sent} requests in {seconds:.1f} s",
    )


def _start(settings: Settings, processes: int) -> tuple[list[SpawnProcess], Any]:
    """Processes that begin to push at the same moment, once each has loaded; and a queue of when each ended."""
    ends, ready = _context.Queue(), _context.Barrier(processes + 1)
    given = {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in settings.model_dump(exclude_none=True).items()
    }
    workers = [_context.Process(target=_push, args=(given, ready, ends)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    ready.wait(60)
    return workers, ends


def _push(given: dict[str, object], ready: Any, ends: Any) -> None:
    import aiohttp  # noqa: F401 - loading it is no part of a push

    settings = load_settings(**given)
    with Database(settings.database()) as database:
        context = SyncContext(settings, database)
        ready.wait(60)
        asyncio.run(sync_products(context))
    ends.put(time.monotonic())


def _sent(channel: BackgroundSandbox, status: str | None = None) -> int:
    """How many calls were answered, or answered with that status."""
    counts = httpx.get(f"{channel.control_url}/counts").json()
    return sum(
        count for by_status in counts.values() for one, count in by_status.items() if status in (None, one)
    )
