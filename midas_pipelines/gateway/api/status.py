"""Probes, metrics, and the status of all parts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.lib.timetable import entry, is_on, next_run
from midas_pipelines.store.operations.backlog import needs_a_person, overview
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.schema.version import read_version, require_columns, require_upgraded
from midas_pipelines.workflows import WORKFLOWS

PACKAGES = ("midas-pipelines", "dagster", "fastapi")
READY_SECONDS = 3.0  # what a probe waits for the database

router = APIRouter(route_class=GuardedRoute, tags=["status"])


class BacklogReport(BaseModel):
    """A backlog and its age."""

    waiting: int
    oldest: datetime | None
    oldest_seconds: float
    quarantined: int


class WorkflowStatus(BaseModel):
    """One workflow: how it last went, and when Dagster is due to run it."""

    name: str
    last_started_at: datetime | None
    last_outcome: str | None
    last_seconds: float | None
    next_at: datetime | None = Field(description="Null while schedules are not switched on.")


class Channel(BaseModel):
    """A sales channel."""

    name: str
    listed: int = Field(description="Items it lists.")
    healthy: bool
    trouble: str | None
    failed_calls_last_day: int


class StatusReport(BaseModel):
    """The status of all parts."""

    channels: list[Channel]
    items: BacklogReport
    webhooks: BacklogReport
    orders: int = Field(description="Imported in the last 24 hours.")
    order_exceptions: int
    needs_a_person: dict[str, int] = Field(
        description="How many of each cause: conflicts, oversold and unmapped lines, low stock, alerts and more."
    )
    consistency: float | None = Field(description="The share of items last shown as the shop has them.")
    consistency_at: datetime | None
    workflows: list[WorkflowStatus]
    versions: dict[str, str]
    worker: str = Field(description="running, stopped, or elsewhere")
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
    """Channels, workflows, backlogs and their age, consistency, 4Seller's health, versions."""
    service, now = service_of(request), datetime.now(UTC)
    seen = overview(service.database)
    waiting = {one.cause: one.count for one in service.database.read(needs_a_person)}
    trouble = service.worker.trouble if service.worker is not None else None
    sold = sum(count for state, count in seen.items.items() if state != "removed")
    works = "running" if service.supervisor.problem() is None else "stopped"

    def backlog(waiting: int, oldest: datetime | None, quarantined: int) -> dict[str, Any]:
        age = round(max(0.0, (now - oldest).total_seconds()) if oldest is not None else 0.0, 3)
        return {"waiting": waiting, "quarantined": quarantined, "oldest": oldest, "oldest_seconds": age}

    def workflow(row: dict[str, Any]) -> dict[str, Any]:
        last = row["last"] or {}
        ended = {f"last_{name}": last.get(name) for name in ("started_at", "outcome", "seconds")}
        return {"name": row["kind"], "next_at": row["next_at"], **ended}

    listed, failed = seen.items.get("listed", 0), seen.failed_calls
    channels = [
        {"name": "website", "listed": sold, "trouble": None, "failed_calls_last_day": 0},
        {"name": "fourseller", "listed": listed, "trouble": trouble, "failed_calls_last_day": failed},
    ]
    versions = {name: version(name) for name in PACKAGES}
    return {
        **vars(seen),
        "channels": [row | {"healthy": row["trouble"] is None} for row in channels],
        "items": backlog(seen.dirty, seen.oldest_dirty, seen.quarantined_items),
        "webhooks": backlog(seen.webhooks, seen.oldest_webhook, seen.quarantined_webhooks),
        "needs_a_person": waiting,
        "workflows": [workflow(row) for row in workflow_rows(service) if row["kind"]],
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
