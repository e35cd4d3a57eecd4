"""What our layer costs on top of Dagster: loading the definitions, a run that finds nothing to do, and a command.

All in seconds of processor time, each against its peer in turn, so that a busy machine changes little.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from benchmarks.measuring import Result, sample_shop, sandbox, settings_of

TRIES = 7
ITEMS = 556
MIDAS = str(Path(sys.executable).with_name("midas"))


def measure() -> list[Result]:
    """The import, the run, and three commands."""
    with _compiled() as environment:
        imported, commands = _import(environment), _commands(environment)
    return [imported, _nothing_to_do(), *commands]


@contextmanager
def _compiled() -> Iterator[dict[str, str]]:
    """An environment whose Python keeps its compiled files, as an installation does."""
    with tempfile.TemporaryDirectory(prefix="midas-compiled-") as folder:
        given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        yield given | {"PYTHONPYCACHEPREFIX": folder}


def _import(environment: Mapping[str, str]) -> Result:
    statements = ("import dagster", "import midas_pipelines.definitions")
    for statement in statements:  # once for the compiled files
        _processor_seconds([sys.executable, "-c", statement], environment)
    tries = [
        [_processor_seconds([sys.executable, "-c", statement], environment) for statement in statements]
        for _ in range(TRIES)
    ]
    dagster, ours = (statistics.median(column) for column in zip(*tries, strict=True))
    return Result(
        "import of midas_pipelines.definitions",
        f"{ours / dagster:.2f} x bare import dagster",
        "<= 1.4 x",
        ours / dagster <= 1.4,
        f"medians of {TRIES}: {ours:.2f} s and {dagster:.2f} s of processor",
    )


def _commands(environment: Mapping[str, str]) -> list[Result]:
    with sample_shop("sqlite", ITEMS) as database:
        url = database.engine.url.render_as_string(hide_password=False)
        given = {**environment, "MIDAS_DATABASE_URL": url}
        results = []
        for command, most in ((["--help"], 0.15), (["status"], 0.45), (["explain", "MD1-00001"], 0.45)):
            best = min(_processor_seconds([MIDAS, *command], given) for _ in range(TRIES + 1))
            name = f"midas {command[0]}, processor time"
            results.append(
                Result(name, f"{best:.2f} s", f"<= {most} s", best <= most, f"best of {TRIES + 1}, on SQLite")
            )
    return results


def _processor_seconds(command: list[str], environment: Mapping[str, str]) -> float:
    """What a process of its own uses, by the system's count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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

        @dg.asset(check_specs=[dg.AssetCheckSpec("brake", asset="nothing", blocking=True)])
        def nothing() -> dg.MaterializeResult:
            passed = dg.AssetCheckResult(passed=True, check_name="brake")
            return dg.MaterializeResult(metadata={"items": 0}, check_results=[passed])

        @dg.asset_check(asset=dg.AssetKey("shop"), blocking=True)
        def columns() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=True)

        selected = dg.AssetSelection.assets(nothing) | dg.AssetSelection.checks(columns)
        peer = dg.Definitions([nothing], asset_checks=[columns], jobs=[dg.define_asset_job("bare", selected)])
        bare = peer.resolve_job_def("bare")  # of the same steps: a check and an asset with one of its own
        with dg.DagsterInstance.ephemeral() as instance:

            def run(name: str) -> None:
                job = defs.resolve_job_def(name)
                assert job.execute_in_process(instance=instance, run_config=QUIET).success

            def run_bare() -> None:
                assert bare.execute_in_process(instance=instance, run_config=dict(QUIET)).success

            run("full_sync")
            run("incremental_sync")
            run_bare()
            tries = [(_timed(lambda: run("incremental_sync")), _timed(run_bare)) for _ in range(TRIES)]
    ours, theirs = (statistics.median(column) for column in zip(*tries, strict=True))
    return Result(
        f"incremental run in process, nothing changed among {ITEMS} items",
        f"{ours - theirs:.2f} s beyond a run of the same empty steps",
        "<= 0.1 s",
        ours - theirs <= 0.1,
        f"medians of {TRIES}: {ours:.2f} s and {theirs:.2f} s of processor",
    )


def _timed(act: Callable[[], None]) -> float:
    started = time.process_time()
    act()
    return time.process_time() - started
