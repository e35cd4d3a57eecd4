"""One inventory push in a process of its own; prints what it did, how long it took and its peak memory."""

from __future__ import annotations

import asyncio
import json
import resource
import time

from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.product_sync import push_inventory


def main() -> None:
    """Pushes what is dirty."""
    settings = load_settings()
    with Database(settings.database()) as database:
        started = time.perf_counter()
        report = asyncio.run(push_inventory(SyncContext(settings, database), ignore_delays=True))
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "pushed": report.pushed, "failed": report.failed}))  # noqa: T201


if __name__ == "__main__":
    main()
