"""Probes, metrics, and the status of all parts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.lib.timetable import entry, is_on, next_run
from midas_pipelines.store.operations.backlog import Overview, needs_a_person, overview
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.schema.version import read_version, require_columns, require_upgraded
from midas_pipelines.workflows import WORKFLOWS

PACKAGES = ("midas-pipelines", "dagster", "fastapi")
READY_SECONDS = 3.0  # what a probe waits for the database

router = APIRouter(route_class=GuardedRoute, tags=["status"])


class LastSync(BaseModel):
    """How the newest sync of a workflow went."""

    started_at: datetime
    outcome: str
    seconds: float | None


class WorkflowStatus(BaseModel):
    """One workflow: how often it runs, when Dagster is due to run it, and how it last went."""

    name: str
    every: str
    on: bool
    next_at: datetime | None = Field(description="Null while schedules are not switched on.")
    last: LastSync | None = Field(description="Null where it never ran, or syncs nothing.")


class Channel(BaseModel):
    """A sales channel."""

    name: str
    listed: int = Field(description="Items it lists.")
    healthy: bool
    trouble: str | None = Field(description="Its error as this worker sees it.")


@dataclass(frozen=True, kw_only=True)
class StatusReport(Overview):
    """The status of all parts, as `midas status` shows it, and of this gateway."""

    channels: list[Channel]
    needs_a_person: Annotated[
        dict[str, int],
        Field(
            description="How many of each cause: conflicts, oversold and unmapped lines, low stock, alerts and more."
        ),
    ]
    workflows: list[WorkflowStatus]
    versions: dict[str, str]
    worker: Annotated[str, Field(description="running, stopped, or elsewhere")]
    up_since: datetime


@router.get("/healthz", summary="Does the process work?", response_model=dict[str, str])
async def healthz(request: Request) -> dict[str, str]:
    """503 when a task of this process has ended, is stuck or keeps failing: then restart it."""
    problem = service_of(request).supervisor.problem()
    if problem is not None:
        raise CallRefused(503, problem)
    return {"status": "alive"}


@router.get("/readyz", summary="Can it do its work?", response_model=dict[str, str])
async def readyz(request: Request) -> dict[str, str]:
    """503 while the database does not answer or is not prepared, or a task of this process does not work."""
    service, problem = service_of(request), None
    try:
        async with asyncio.timeout(READY_SECONDS):
            await service.probe(require_upgraded)
            await service.probe(lambda database: database.read(require_columns))
            problem = service.supervisor.problem()
    except TimeoutError:
        problem = "The database does not answer."
    if problem is not None:
        raise CallRefused(503, problem, {"Retry-After": "5"})
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="For Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Counters, histograms of latency, backlogs."""
    return Response(generate_latest(service_of(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get(f"{PREFIX}/status", summary="Status of all parts", response_model=StatusReport)
def get_status(request: Request) -> dict[str, Any]:
    """Channels, what is in sync, workflows, backlogs, consistency, 4Seller's health, versions."""
    service = service_of(request)
    seen, trouble = overview(service.database), service.worker.trouble if service.worker is not None else None
    sold = sum(count for state, count in seen.items.items() if state != "removed")
    listed = {"website": (sold, None), "fourseller": (seen.items.get("listed", 0), trouble)}
    works = "running" if service.supervisor.problem() is None else "stopped"
    versions = {name: version(name) for name in PACKAGES}
    return {
        **vars(seen),
        "channels": [
            {"name": name, "listed": count, "healthy": why is None, "trouble": why}
            for name, (count, why) in listed.items()
        ],
        "needs_a_person": {one.cause: one.count for one in service.database.read(needs_a_person)},
        "workflows": workflow_rows(service),
        "versions": versions | {"database": service.database.read(read_version).current or "none"},
        "worker": "elsewhere" if service.worker is None else works,
        "up_since": service.started_at,
    }


def workflow_rows(service: Service) -> list[dict[str, Any]]:
    """Each workflow: what it does, when it runs, and the last sync of its kind, if it is one that syncs."""
    now, settings = datetime.now(UTC), service.settings
    syncs = {row["kind"]: row for row in last_syncs(service.database)}
    rows = []
    for one in WORKFLOWS:
        row = {"every": entry(settings, one).every, "on": is_on(settings, one)}
        row |= {"next_at": next_run(settings, one, now), "last": syncs.get(one.kind) if one.kind else None}
        rows.append(row | {"name": one.name, "what": one.what, "kind": one.kind})
    return rows
