"""One sync in a process of its own; prints its processor time by stage, its seconds, its peak memory and its report."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp  # noqa: F401 - loading it is no part of a stage

from benchmarks.memory import peak_mb
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.sync import product_sync
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.reconcile import run
from midas_pipelines.sync.reconcile.apply import ReadBack

spent: Counter[str] = Counter()


def timed(
    stage: str, whole: Callable[..., Any], clock: Callable[[], float] = time.process_time
) -> Callable[..., Any]:
    """The function, with its processor time added to that of its stage."""
    if asyncio.iscoroutinefunction(whole):

        async def asynchronous(*given: Any, **named: Any) -> Any:
            started = time.process_time()
            try:
                return await whole(*given, **named)
            finally:
                spent[stage] += time.process_time() - started

        return asynchronous

    def synchronous(*given: Any, **named: Any) -> Any:
        started = clock()
        try:
            return whole(*given, **named)
        finally:
            spent[stage] += clock() - started

    return synchronous


def main(kind: str) -> None:
    """Runs a `full` sync, a `reconcile`, or a poll of `orders`."""
    product_sync.read_listing = run.read_listing = timed("read", run.read_listing)
    ReadBack.judge_all = timed("compare", ReadBack.judge_all)  # type: ignore[method-assign]
    product_sync.scan = timed("scan", product_sync.scan)
    # These two run in threads beside the event loop, which is what sends.
    Push.claim_batch = timed("plan", Push.claim_batch, time.thread_time)  # type: ignore[method-assign]
    Push.acknowledge = timed("acknowledge", Push.acknowledge, time.thread_time)  # type: ignore[method-assign]
    Push.run = timed("send", Push.run)  # type: ignore[method-assign]
    settings = load_settings()
    with Database(settings.database()) as database:
        context = SyncContext(settings, database)
        wall, started = time.perf_counter(), time.process_time()
        syncs: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "full": lambda: product_sync.sync_products(context, product_sync.Mode.FULL),
            "reconcile": lambda: run.reconcile(context),
            "orders": lambda: import_orders(context),
        }
        report = asyncio.run(syncs[kind]())
        total = time.process_time() - started
    spent["send"] -= spent["plan"] + spent["acknowledge"]
    peak = peak_mb()
    found = {
        "processor": total,
        "seconds": time.perf_counter() - wall,
        "peak_mb": peak,
        **spent,
        "report": vars(report),
    }
    print(json.dumps(found, default=str))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
