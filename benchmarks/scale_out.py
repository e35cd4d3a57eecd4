"""How much a second process gains: pushing one backlog together, and a backfill over shards by one Celery worker and two."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Result, channel_settings, sample_shop, sandbox
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines_tests.defs.fleet import Fleet
from midas_pipelines_tests.postgres import PrivatePostgres

SHARDS = 16
ITEMS = 556
LATENCY_MS = 50.0
TRIES, BACKLOG, IN_FLIGHT = 5, 600, 10


def measure() -> list[Result]:
    """The same push by one process and by two, where the API's answers are waited for and where they are not; then a backfill."""
    return [_together(LATENCY_MS), _together(0.0), *_backfill()]


def _together(latency_ms: float) -> Result:
    """The wall clock from the moment when all begin to the end of the last. Without latency the processor bounds it, of which
    sandbox and PostgreSQL take their part."""
    tries = {count: [_push(count, latency_ms) for _ in range(TRIES)] for count in (1, 2)}
    (one, alone), (two, both) = (map(statistics.median, zip(*found, strict=True)) for found in tries.values())
    return Result(
        f"{BACKLOG} items created by two processes, {latency_ms:.0f} ms API without a rate limit, PostgreSQL",
        f"{one / two:.2f} x as fast as by one",
        ">= 1.7 x" if latency_ms else "for information",
        not latency_ms or one / two >= 1.7,
        f"medians of {TRIES}: {one:.2f} s and {two:.2f} s, processor of all processes {alone:.2f} s and {both:.2f} s; "
        f"{IN_FLIGHT} in flight each, all on this machine's {os.cpu_count()} cores",
    )


def _push(count: int, latency_ms: float) -> tuple[float, float]:
    """The seconds that it took, and the processor time of the pushing processes."""
    with sample_shop("postgresql", BACKLOG) as database, sandbox(latency_ms=latency_ms) as channel:
        environment = os.environ | channel_settings(database, channel) | {"MIDAS_IN_FLIGHT": str(IN_FLIGHT)}
        command = [sys.executable, "-m", "benchmarks.push_once", str(time.time() + 5 * count)]
        begun = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        done = [json.loads(process.communicate()[0]) for process in begun]
        assert sum(one["pushed"] for one in done) == BACKLOG
        return max(one["seconds"] for one in done), sum(one["processor"] for one in done)


def _backfill() -> list[Result]:
    """The wall clock from the first step received to the last shard done."""
    one, two = (_seconds(workers) for workers in (1, 2))
    ratio = one / two
    return [
        Result(
            f"full sync of {ITEMS} items as {SHARDS} runs, Celery workers 1 to 2",
            f"{ratio:.2f} x as fast",
            ">= 1.5 x",
            ratio >= 1.5,
            f"{one:.0f} s and {two:.0f} s, PostgreSQL as broker",
        )
    ]


def _seconds(workers: int) -> float:
    server = PrivatePostgres()
    folder = tempfile.TemporaryDirectory(prefix="midas-fleet-")
    try:
        with sample_shop("postgresql", ITEMS) as database, sandbox(latency_ms=LATENCY_MS) as channel:
            shop = database.engine.url.render_as_string(hide_password=False)
            with Fleet(Path(folder.name), _environment(server, shop, channel)) as fleet:
                for number in range(workers):
                    fleet.start_worker(f"worker{number}")
                fleet.start_daemon()
                fleet.backfill("fourseller_listings")
                fleet.wait(lambda: any(fleet.busy(number) for number in range(workers)), 300)
                started = time.perf_counter()
                fleet.wait(lambda: len(fleet.done()) == SHARDS, 900)
                return time.perf_counter() - started
    finally:
        server.stop()
        folder.cleanup()


def _environment(server: PrivatePostgres, shop: str, channel: BackgroundSandbox) -> dict[str, str]:
    queue = f"postgresql+psycopg{server.url('postgres').removeprefix('postgresql')}"
    return {
        "MIDAS_DATABASE_URL": shop,
        "FOURSELLER_API_URL": channel.url,
        "FOURSELLER_API_KEY": channel.config.api_key,
        "FOURSELLER_SELLER_ID": channel.config.seller_id,
        "MIDAS_DAGSTER_POSTGRES_URL": server.url("template1"),
        "MIDAS_EXECUTOR": "celery",
        "MIDAS_CELERY_BROKER": f"sqla+{queue}",
        "MIDAS_CELERY_BACKEND": f"db+{queue}",
        "MIDAS_SHARDS": str(SHARDS),
    }
