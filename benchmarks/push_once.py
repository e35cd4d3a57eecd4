"""One push in a process of its own; prints what it did, how long it took and its peak memory.

`python -m benchmarks.push_once` sends quantities; with a moment (seconds since 1970) it pushes all that is dirty, from
that moment on, so that several processes can begin together.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp  # noqa: F401 - loading it is no part of a push

from benchmarks.memory import peak_mb
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.product_sync import push_inventory, sync_products


def main(begin: str | None = None) -> None:
    """Pushes what is dirty."""
    settings = load_settings()
    with Database(settings.database()) as database:
        context = SyncContext(settings, database)
        if begin is not None:
            time.sleep(max(0.0, float(begin) - time.time()))
        started, processor = time.perf_counter(), time.process_time()
        push = push_inventory(context, ignore_delays=True) if begin is None else sync_products(context)
        report = asyncio.run(push)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    pushed = report.scanned - report.failed - report.unchanged
    found = {"seconds": seconds, "processor": processor, "peak_mb": peak_mb()}
    print(json.dumps(found | {"pushed": pushed, "failed": report.failed}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
