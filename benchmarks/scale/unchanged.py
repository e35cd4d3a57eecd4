"""What a full sync and a reconciliation with nothing to change cost as the catalogue grows: time and peak memory.

Each run is a process of its own against a server in another; the first compares every item in full, those after it only
what is new. `make bench ARGS="scale.unchanged:10000,100000,1000000"` chooses the sizes.
"""

from __future__ import annotations

from benchmarks.measuring import Result, shop_url
from benchmarks.scale.catalogue import confirm, fill
from benchmarks.scale.runs import KINDS, MEMORY_TARGET_MB, Run, linear, run, serving
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database

SIZES = (10_000, 100_000)
RUNS = {
    "first": ("full", "full sync, the first after a change of all"),
    "full": ("full", "full sync, nothing changed"),
    "reconcile": ("reconcile", "reconcile, nothing changed"),
}
STAGES = ("read", "compare", "scan")
PROCESSOR_TARGET_MS = 0.25


def measure(*sizes: int) -> list[Result]:
    """The three runs on both databases, by size."""
    results = []
    for kind, name in KINDS.items():
        found = {size: one_size(kind, size) for size in sizes or SIZES}
        for key, (_, what) in RUNS.items():
            runs = [found[size][key] for size in found]
            results += [
                _result(f"{what}, {size:,} items, {name}", size, runs[place])
                for place, size in enumerate(found)
            ]
            results += linear(f"{what}, {name}", list(found), runs)
    return results


def one_size(kind: str, size: int) -> dict[str, Run]:
    """The runs over a catalogue of that size."""
    with shop_url(kind) as url, serving(products=size) as channel:
        with Database(load_settings(database_url=url).database()) as database:
            fill(database, size)
            confirm(database, range(1, size + 1))
        return {key: _whole(run(url, channel, sync), size) for key, (sync, _) in RUNS.items()}


def _whole(done: Run, size: int) -> Run:
    """The run, which found every item as it should be."""
    found = done["report"].get("unchanged", done["report"].get("equal"))
    assert found == size, done["report"]
    return done


def _result(promise: str, size: int, done: Run) -> Result:
    item, first = 1000 * done["processor"] / size, "the first" in promise
    stages = ", ".join(f"{stage} {1000 * done[stage] / size:.3f}" for stage in STAGES if stage in done)
    return Result(
        promise,
        f"{item:.3f} ms of processor an item, peak {done['peak_mb']:.0f} MB",
        f"<= {MEMORY_TARGET_MB:.0f} MB"
        if first
        else f"<= {PROCESSOR_TARGET_MS} ms, <= {MEMORY_TARGET_MB:.0f} MB",
        done["peak_mb"] <= MEMORY_TARGET_MB and (first or item <= PROCESSOR_TARGET_MS),
        f"{done['seconds']:.1f} s; ms by stage: {stages}",
        {"processor_ms": item, "clock_ms": 1000 * done["seconds"] / size, "peak_mb": done["peak_mb"]},
    )
