"""Several processes push one shop: what a second one gains, and how much of a shared rate limit they use together."""

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
ITEMS, FEWER_ITEMS = 1200, 500
KILLED_AFTER = 3.0
"""Seconds after which one process is killed, with the tokens and claims that it holds."""

FEW_IN_FLIGHT = 10
"""So few that the API's 50 ms and not the two cores, which sandbox and database share, bound one process."""

_context = multiprocessing.get_context("spawn")


def measure() -> list[Result]:
    """Two processes against one without a limit; three within a limit, also when one of them dies."""
    return [_two_processes(), _limited(kills=False), _limited(kills=True)]


def _two_processes() -> Result:
    one, two = (_seconds(processes) for processes in (1, 2))
    return Result(
        "the same push by two processes, 50 ms API, no rate limit",
        f"{one / two:.2f} x as fast as one",
        ">= 1.7 x",
        one / two >= 1.7,
        f"{FEWER_ITEMS} items, {FEW_IN_FLIGHT} in flight each, PostgreSQL: {one:.1f} s and {two:.1f} s",
    )


def _seconds(processes: int) -> float:
    with sample_shop("postgresql", FEWER_ITEMS) as database, sandbox(latency_ms=50.0) as channel:
        settings = settings_of(database, channel, in_flight=FEW_IN_FLIGHT)
        workers, ends, started = _start(settings, processes)
        seconds = max(ends.get(timeout=120) for _ in workers) - started
        made = httpx.get(f"{channel.control_url}/counts").json()["POST"]
    if made.get("201") != FEWER_ITEMS:
        raise RuntimeError(f"{made} for {FEWER_ITEMS} items: not every one was created once")
    return seconds


def _limited(*, kills: bool) -> Result:
    with sample_shop("postgresql", ITEMS) as database, sandbox(latency_ms=20.0, rate_limit=RATE) as channel:
        workers, ends, _ = _start(settings_of(database, channel, rate_limit=RATE), PROCESSES)
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


def _start(settings: Settings, processes: int) -> tuple[list[SpawnProcess], Any, float]:
    """Processes that begin to push at the same moment, once each has loaded; a queue of when each ended; and that moment."""
    ends, ready = _context.Queue(), _context.Barrier(processes + 1)
    given = {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in settings.model_dump(exclude_none=True).items()
    }
    workers = [_context.Process(target=_push, args=(given, ready, ends)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    ready.wait(60)
    return workers, ends, time.monotonic()


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
