"""One sync in a process of its own, on a database of either kind, against a server of `server.py` in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.measuring import Result
from midas_pipelines.store.privacy.keys import new_key

KINDS = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
MEMORY_TARGET_MB, LINEAR_TARGET = 300.0, 1.15
KEY, SELLER = "bench-key", "bench-seller"
Run = dict[str, Any]


@contextmanager
def serving(**channel: object) -> Iterator[str]:
    """The address of a server of `server.Channel`."""
    command = [sys.executable, "-m", "benchmarks.scale.server", json.dumps(channel)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        finally:
            server.terminate()


def run(shop: str, channel: str, kind: str) -> Run:
    """What `sync_once` measured of a sync of that kind."""
    return once(shop, channel, "sync_once", kind)


def once(shop: str, channel: str, program: str, *arguments: str) -> Run:
    """What a program of the benchmarks measured, in a process of its own, on that shop and against that channel."""
    environment = os.environ | {
        "MIDAS_DATABASE_URL": shop,
        "MIDAS_PAYLOAD_KEY": new_key(),
        "FOURSELLER_API_URL": channel,
        "FOURSELLER_API_KEY": KEY,
        "FOURSELLER_SELLER_ID": SELLER,
    }
    command = [sys.executable, "-m", f"benchmarks.{program}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} failed: {done.stderr[-2000:]}")
    found: Run = json.loads(done.stdout.splitlines()[-1])
    return found


def linear(what: str, sizes: Sequence[int], runs: Sequence[Run]) -> list[Result]:
    """Whether time grows as the size does: by the clock, and by the processor, each size against the one before."""
    results = []
    for place in range(1, len(sizes)):
        (small, large), (few, many) = sizes[place - 1 : place + 1], runs[place - 1 : place + 1]
        times = large / small
        clock, processor = (many[unit] / few[unit] / times for unit in ("seconds", "processor"))
        results.append(
            Result(
                f"{what}, {large:,} against {small:,}",
                f"{clock:.2f} x the seconds, {processor:.2f} x the processor of {times:g} times {small:,}",
                f"<= {LINEAR_TARGET} x",
                max(clock, processor) <= LINEAR_TARGET,
                f"{many['seconds']:.1f} s and {few['seconds']:.1f} s",
            )
        )
    return results
