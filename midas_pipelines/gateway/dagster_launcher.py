"""Launches Dagster runs by Dagster's own client; what that has no call for is asked of the webserver's GraphQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from midas_pipelines.errors import CallRefused

SECONDS = 10.0
RETRY = {"Retry-After": "10"}
TOO_BIG = (
    "This is too big to be done at once, and no Dagster is configured to do it: set MIDAS_DAGSTER_URL to its webserver, "
    "for example http://127.0.0.1:3000, or name at most 50 SKUs."
)
DRIVER = {"midas/driver": "gateway"}

_SWITCHES = """
{ repositoriesOrError { ... on RepositoryConnection { nodes {
  schedules { name pipelineName scheduleState { status } futureTicks(limit: 1) { results { timestamp } } }
  sensors { name sensorState { status } }
  jobs { name runs(limit: 1) { runId status startTime } }
} } } }
"""


@dataclass
class Switch:
    """A workflow as Dagster has it: whether it is on, when it ticks next, and its last run."""

    on: bool | None = None  # None where it has neither a schedule nor a sensor
    next_at: datetime | None = None
    run_status: str | None = None
    run_at: datetime | None = None
    run_url: str | None = None


class DagsterLauncher:
    """A Dagster webserver, or the lack of one."""

    def __init__(self, url: str | None) -> None:
        self.url = url

    def launch(self, job: str, ops: dict[str, dict[str, Any]]) -> tuple[str, str]:
        """Launches a job with the configuration of its assets; the run's id, and where a person can watch it. Raises
        CallRefused: 409 when no webserver is configured, 503 when it does not answer or refuses."""
        if self.url is None:
            raise CallRefused(409, TOO_BIG)
        from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError  # a second to load

        web = urlsplit(self.url)
        client = DagsterGraphQLClient(
            web.hostname or "",
            web.port,
            use_https=web.scheme == "https",
            timeout=int(SECONDS),
            path_prefix=web.path.rstrip("/"),
        )
        config = {"ops": {name: {"config": value} for name, value in ops.items()}}
        try:
            run_id = client.submit_job_execution(job, run_config=config, tags=DRIVER)
        except DagsterGraphQLClientError as failed:
            kind = str(failed.args[0])  # other texts than the error's kind may quote the configuration
            why = kind if kind.isidentifier() else "it did not answer"
            text = f"The Dagster at MIDAS_DAGSTER_URL did not launch {job}: {why}."
            raise CallRefused(503, text, RETRY) from None
        return run_id, f"{self.url}/runs/{run_id}"

    def switches(self) -> dict[str, Switch]:
        """Every workflow by name. Raises CallRefused where Dagster does not answer."""
        answer = self._ask(_SWITCHES)
        found: dict[str, Switch] = {}
        for node in (answer.get("repositoriesOrError") or {}).get("nodes") or []:
            for job in node["jobs"]:
                switch = found[job["name"]] = Switch()
                for run in job["runs"]:
                    switch.run_status, switch.run_at = run["status"].lower(), _moment(run["startTime"])
                    switch.run_url = f"{self.url}/runs/{run['runId']}"
            for one in node["schedules"]:
                switch = found.setdefault(one["pipelineName"], Switch())
                switch.on = one["scheduleState"]["status"] == "RUNNING"
                for tick in one["futureTicks"]["results"] if switch.on else ():
                    switch.next_at = _moment(tick["timestamp"])
            for one in node["sensors"]:
                switch = found.setdefault(one["name"].removesuffix("_sensor"), Switch())
                switch.on = one["sensorState"]["status"] == "RUNNING"
        return found

    def _ask(self, query: str) -> dict[str, Any]:
        if self.url is None:
            raise CallRefused(409, "No Dagster is connected: set MIDAS_DAGSTER_URL.")
        try:
            asked = {"query": query}
            response = httpx.post(f"{self.url}/graphql", json=asked, timeout=SECONDS, trust_env=False)
            data = response.raise_for_status().json().get("data")
        except (httpx.HTTPError, ValueError, AttributeError) as failed:
            why = f"did not answer: {type(failed).__name__}"
            if isinstance(failed, httpx.HTTPStatusError):
                why = f"answered {failed.response.status_code}; a redirect is not followed"
            raise CallRefused(503, f"Dagster at MIDAS_DAGSTER_URL {why}.", RETRY) from None
        return data if isinstance(data, dict) else {}


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
