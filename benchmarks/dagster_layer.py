"""What our layer costs on top of Dagster: loading the definitions, and a run that finds nothing to do."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import dagster as dg

from benchmarks.measuring import Result, sample_shop, sandbox, settings_of

TRIES = 7
ITEMS = 556


def measure() -> list[Result]:
    """Both, each against Dagster's own time in the same minute."""
    return [_import(), _nothing_to_do()]


def _import() -> Result:
    dagster, ours = [], []
    for _ in range(TRIES):  # in turn, so that a busy machine slows both
        dagster.append(_seconds_to_run("import dagster"))
        ours.append(_seconds_to_run("import midas_pipelines.definitions"))
    ratio = min(ours) / min(dagster)
    return Result(
        "import of midas_pipelines.definitions",
        f"{ratio:.2f} x bare import dagster",
        "<= 1.6 x",
        ratio <= 1.6,
        f"best of {TRIES}: {min(ours):.2f} s, dagster {min(dagster):.2f} s",
    )


def _seconds_to_run(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - started


def _nothing_to_do() -> Result:
    with sample_shop("postgresql", ITEMS) as database, sandbox() as channel:
        settings = settings_of(database, channel)
        os.environ |= {
            "MIDAS_DATABASE_URL": database.engine.url.render_as_string(hide_password=False),
            "FOURSELLER_API_URL": settings.fourseller_api_url,
            "FOURSELLER_API_KEY": channel.config.api_key,
            "FOURSELLER_SELLER_ID": channel.config.seller_id,
        }
        from midas_pipelines.cli.dagster.running import QUIET
        from midas_pipelines.definitions import defs
        from midas_pipelines.lib.partitions import run_tags

        @dg.asset
        def nothing() -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"items": 0})

        bare = dg.Definitions([nothing], jobs=[dg.define_asset_job("bare", [nothing])]).resolve_job_def(
            "bare"
        )
        with dg.DagsterInstance.ephemeral() as instance:

            def run(name: str) -> None:
                job = defs.resolve_job_def(name)
                assert job.execute_in_process(
                    instance=instance, run_config=QUIET, tags=run_tags(name)
                ).success

            def run_bare() -> None:
                assert bare.execute_in_process(instance=instance, run_config=dict(QUIET)).success

            run("full_sync")
            ours = [_timed(lambda: run("incremental_sync")) for _ in range(TRIES)]
            theirs = [_timed(run_bare) for _ in range(TRIES)]
    beyond = statistics.median(ours) - statistics.median(theirs)
    return Result(
        f"incremental run in process, nothing changed among {ITEMS} items",
        f"{beyond:.2f} s beyond an empty asset's run",
        "<= 0.3 s",
        beyond <= 0.3,
        f"medians of {TRIES}: {statistics.median(ours):.2f} s and {statistics.median(theirs):.2f} s",
    )


def _timed(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
