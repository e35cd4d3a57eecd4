"""Daemon and webserver as processes: a schedule and a sensor do their work, as GraphQL tells it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from midas_pipelines_tests.ports import free_port

MIDAS = "from midas_pipelines.cli import main; main()"
RUNS = """
query Runs($key: String!, $value: String!) {
  runsOrError(filter: {statuses: [SUCCESS], tags: [{key: $key, value: $value}]}) {
    ... on Runs { results { jobName assetMaterializations { partition } } }
  }
}"""
AUTOMATION = """
{ repositoriesOrError { ... on RepositoryConnection { nodes {
  schedules { name scheduleState { status } }
  sensors { name sensorState { status } }
} } } }"""


@pytest.fixture
def graphql(tmp_path: Path) -> Iterator[str]:
    """`midas dev` with no shoppers, what is left over taken up after ten seconds; gives the address to ask."""
    port = free_port()
    options = ["--port", str(port), "--sandbox-port", str(free_port()), "--shoppers", "0"]
    with (tmp_path / "dev.log").open("wb") as log:
        dev = subprocess.Popen(
            [sys.executable, "-c", MIDAS, "dev", "--workplace", str(tmp_path / "place"), *options],
            env=os.environ | {"MIDAS_STALE_WORK_SECONDS": "10"},
            stdout=log,
            stderr=log,
        )
    yield f"http://127.0.0.1:{port}/graphql"
    dev.send_signal(signal.SIGINT)
    assert dev.wait(60) == 0


def ask(graphql: str, query: str, **variables: str) -> Any:
    try:
        answer = httpx.post(graphql, json={"query": query, "variables": variables}, timeout=20)
        return answer.json()["data"]
    except httpx.HTTPError:
        return None  # not there yet


def first_run(graphql: str, key: str, value: str, seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = ask(graphql, RUNS, key=key, value=value)
        if found and found["runsOrError"]["results"]:
            return found["runsOrError"]["results"][0]
        time.sleep(1)
    pytest.fail(f"no run of {value} succeeded in {seconds:.0f} s")


@pytest.mark.soak
def test_a_schedule_and_a_sensor_do_their_work(graphql: str) -> None:
    pushed = first_run(graphql, "dagster/sensor_name", "stale_work_sensor")
    assert pushed["jobName"] == "incremental_sync"
    assert len({event["partition"] for event in pushed["assetMaterializations"]}) == 16
    ticked = first_run(graphql, "dagster/schedule_name", "inventory_push_schedule")
    assert ticked["jobName"] == "inventory_push"
    (repository,) = ask(graphql, AUTOMATION)["repositoriesOrError"]["nodes"]
    states = {one["name"]: one["scheduleState"]["status"] for one in repository["schedules"]}
    states |= {one["name"]: one["sensorState"]["status"] for one in repository["sensors"]}
    assert set(states.values()) == {"RUNNING"}, states
