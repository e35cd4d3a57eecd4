"""Polling many orders over HTTP, page by page, into an empty database: peak memory, and whether time grows as they do."""

from __future__ import annotations

from benchmarks.measuring import Result, shop_url
from benchmarks.orders import verify
from benchmarks.scale.catalogue import fill
from benchmarks.scale.runs import KINDS, MEMORY_TARGET_MB, Run, linear, run, serving
from benchmarks.scale.server import SKUS
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database

SIZES = (10_000, 200_000)


def measure(*sizes: int) -> list[Result]:
    """The first poll of that many orders on both databases."""
    results = []
    for kind, name in KINDS.items():
        chosen = sizes or SIZES
        runs = [_poll(kind, size) for size in chosen]
        results += [_result(name, size, done) for size, done in zip(chosen, runs, strict=True)]
        results += linear(f"polling orders, {name}", chosen, runs)
    return results


def _poll(kind: str, size: int) -> Run:
    with (
        shop_url(kind) as url,
        serving(orders=size) as channel,
        Database(load_settings(database_url=url).database()) as database,
    ):
        fill(database, len(SKUS), stock=1_000_000)
        done = run(url, channel, "orders")
        assert done["report"]["imported"] == size, done["report"]
        verify(database)
        return done


def _result(name: str, size: int, done: Run) -> Result:
    return Result(
        f"polling {size:,} orders over HTTP, {name}",
        f"peak {done['peak_mb']:.0f} MB",
        f"<= {MEMORY_TARGET_MB:.0f} MB",
        done["peak_mb"] <= MEMORY_TARGET_MB,
        f"{done['seconds']:.1f} s; {1000 * done['processor'] / size:.3f} ms of processor an order",
    )
