"""A full sync as a backfill over shards, by one Celery worker and by two: how much the second one gains."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Result, sample_shop, sandbox
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines_tests.defs.fleet import Fleet
from midas_pipelines_tests.postgres import PrivatePostgres

SHARDS = 16
ITEMS = 556
LATENCY_MS = 50.0


def measure() -> list[Result]:
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
