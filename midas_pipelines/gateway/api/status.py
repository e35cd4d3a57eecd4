"""Status report, probes, Prometheus metrics and the audit log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.api.orders import Cursor, decode_cursor, next_cursor
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.lib.timetable import next_run
from midas_pipelines.store.gateway.audit import read_audit
from midas_pipelines.store.operations.backlog import overview
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.schema.version import require_columns, require_upgraded
from midas_pipelines.store.schema.version import version as database_version
from midas_pipelines.workflows import WORKFLOWS

PACKAGES = ("midas-pipelines", "dagster", "fastapi")
READY_SECONDS = 3.0
"""What a probe waits for the database."""

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
    consistency: float | None = Field(
        description="The share of items shown as the shop has them, last read back."
    )
    consistency_at: datetime | None
    workflows: list[WorkflowStatus]
    versions: dict[str, str]
    worker: str = Field(description="running, stopped, or elsewhere")
    up_since: datetime


class Alive(BaseModel):
    """The process answers."""

    status: str


class AuditRow(BaseModel):
    """One request or its answer, a command, or who was not let in."""

    at: datetime
    event: str
    actor: str
    role: str | None
    action: str
    target: str | None
    detail: dict[str, Any] | None
    status: int | None
    remote: str | None
    request_id: str | None


class AuditPage(BaseModel):
    """The audit log, the newest first."""

    data: list[AuditRow]
    next: str | None


@router.get(f"{PREFIX}/status", summary="Status of all parts", response_model=StatusReport)
def get_status(request: Request) -> dict[str, Any]:
    """Channels, workflows, backlogs and their age, consistency, 4Seller's health, versions."""
    return _report(service_of(request), datetime.now(UTC))


@router.get(f"{PREFIX}/audit", summary="Who changed what", response_model=AuditPage)
def get_audit(
    request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 50, cursor: Cursor = None
) -> dict[str, Any]:
    """Every call that changed something, and every change at the command line: when, by whom, from where."""
    with service_of(request).database.reading() as connection:
        rows = read_audit(connection, before=decode_cursor(cursor), limit=limit)
    return {"data": rows, "next": next_cursor(rows, limit)}


@router.get("/healthz", summary="Does the process work?", response_model=Alive)
async def healthz(request: Request) -> dict[str, str]:
    """503 when a task of this process has ended, is stuck or keeps failing: then restart it."""
    problem = service_of(request).supervisor.problem()
    if problem is not None:
        raise CallRefused(503, problem)
    return {"status": "alive"}


@router.get("/readyz", summary="Can it do its work?", response_model=Alive)
async def readyz(request: Request) -> dict[str, str]:
    """503 while the database does not answer or is not prepared, or a task of this process does not work."""
    service = service_of(request)
    retry = {"Retry-After": "5"}
    try:
        async with asyncio.timeout(READY_SECONDS):
            await service.probe(require_upgraded)
            await service.probe(require_columns)
    except TimeoutError:
        raise CallRefused(503, "The database does not answer.", retry) from None
    problem = service.supervisor.problem()
    if problem is not None:
        raise CallRefused(503, problem, retry)
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="For Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Counters, histograms of latency, backlogs."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _report(service: Service, now: datetime) -> dict[str, Any]:
    """The response of `GET /api/marketplace/status`."""
    seen = overview(service.database)
    trouble = service.worker.trouble if service.worker is not None else None
    sold = sum(count for state, count in seen.items.items() if state != "removed")
    return {
        "channels": [
            _channel("website", sold, None, 0),
            _channel("fourseller", seen.items.get("listed", 0), trouble, seen.failed_calls),
        ],
        "items": _backlog(seen.dirty, seen.oldest_dirty, seen.quarantined_items, now),
        "webhooks": _backlog(seen.webhooks, seen.oldest_webhook, seen.quarantined_webhooks, now),
        "orders": seen.orders,
        "order_exceptions": seen.order_exceptions,
        "consistency": seen.consistency,
        "consistency_at": seen.consistency_at,
        "workflows": _workflows(service, now),
        "versions": {name: version(name) for name in PACKAGES}
        | {"database": database_version(service.database).current or "none"},
        "worker": _worker(service),
        "up_since": service.started_at,
    }


def _channel(name: str, listed: int, trouble: str | None, failed: int) -> Channel:
    return Channel(
        name=name, listed=listed, healthy=trouble is None, trouble=trouble, failed_calls_last_day=failed
    )


def _worker(service: Service) -> str:
    if service.worker is None:
        return "elsewhere"
    return "running" if service.supervisor.problem() is None else "stopped"


def _backlog(waiting: int, oldest: datetime | None, quarantined: int, now: datetime) -> dict[str, Any]:
    age = max(0.0, (now - oldest).total_seconds()) if oldest is not None else 0.0
    return {"waiting": waiting, "oldest": oldest, "oldest_seconds": round(age, 3), "quarantined": quarantined}


def _workflows(service: Service, now: datetime) -> list[dict[str, Any]]:
    syncs = {row["kind"]: row for row in last_syncs(service.database)}
    nothing = dict.fromkeys(("started_at", "outcome", "seconds"))
    return [
        {"name": workflow.kind, "next_at": next_run(service.settings, workflow, now)}
        | {f"last_{name}": syncs.get(workflow.kind, nothing)[name] for name in nothing}
        for workflow in WORKFLOWS
        if workflow.kind
    ]
