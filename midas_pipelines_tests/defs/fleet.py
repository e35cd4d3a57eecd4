"""Dagster's daemon and several Celery workers as processes of their own, on PostgreSQL databases of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from midas_pipelines.cli.dagster.instance import write_dagster_yaml
from midas_pipelines.lib.partitions import shard_names
from midas_pipelines.settings import load_settings

MIDAS = "from midas_pipelines.cli import main; main()"
LAUNCH = """
mutation Launch($asked: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $asked) { __typename ... on PythonError { message } }
}"""
SCRIPTS = Path(sys.executable).parent


class Fleet:
    """The processes, started one by one and stopped together.

    Args:
        home: DAGSTER_HOME; logs are written there.
        environment: what each process is told, MIDAS_DAGSTER_POSTGRES_URL among it.
    """

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.home = home
        self.environment = environment | {"DAGSTER_HOME": str(home)}
        self.workers: list[subprocess.Popen[bytes]] = []
        self._others: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Fleet:
        os.environ |= self.environment
        write_dagster_yaml(self.home, load_settings())
        self.instance = dg.DagsterInstance.get()
        self.instance.event_log_storage.set_concurrency_slots("fourseller_listings", 6)
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._others + self.workers:
            _signal(child, signal.SIGTERM)
        deadline = time.monotonic() + 15
        for child in self._others + self.workers:
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            _signal(child, signal.SIGKILL)
            child.wait()
        self.instance.dispose()

    def start_daemon(self) -> None:
        """Dagster's daemon, with our definitions."""
        self._others.append(
            self._start("daemon", str(SCRIPTS / "dagster-daemon"), "run", "-m", "midas_pipelines.definitions")
        )

    def start_worker(self, name: str) -> None:
        """One more `midas step-worker`."""
        self.workers.append(self._start(name, sys.executable, "-c", MIDAS, "step-worker", "--name", name))

    def kill_worker(self, number: int) -> None:
        """Takes a worker away with all its processes, as a lost machine would be."""
        _signal(self.workers[number], signal.SIGKILL)

    def busy(self, number: int) -> bool:
        """Whether a worker has a step in hand."""
        log = (self.home / f"worker{number}.log").read_text()
        return log.count("received") > log.count(" succeeded in ")

    def backfill(self, *assets: str) -> None:
        """Asks for a run for each shard, as the UI does; the daemon launches them."""
        asked = {
            "assetSelection": [{"path": [asset]} for asset in assets],
            "partitionNames": shard_names(load_settings().shards),
        }
        command = ["-m", "midas_pipelines.definitions", "-t", LAUNCH, "-v", json.dumps({"asked": asked})]
        subprocess.run(
            [str(SCRIPTS / "dagster-graphql"), *command],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
            timeout=120,
        )

    def done(self) -> set[str]:
        """The shards with a run that succeeded."""
        runs = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
        return {run.tags["dagster/partition"] for run in runs}

    def tried_again(self) -> int:
        """How many runs were started in place of one that was lost."""
        return sum("dagster/retry_number" in run.tags for run in self.instance.get_runs())

    def wait(self, until: Callable[[], bool], seconds: float) -> None:
        """Returns once that holds. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Not done after {seconds:.0f} s; done: {sorted(self.done())}.")
            time.sleep(0.1)

    def _start(self, log: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{log}.log").open("ab") as output:
            return subprocess.Popen(
                command,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return
