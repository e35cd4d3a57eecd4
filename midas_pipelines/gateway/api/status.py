"""Status report, probes, Prometheus metrics and the audit log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.api.paging import Cursor, decode_cursor, next_cursor
from midas_pipelines.gateway.service import service_of
from midas_pipelines.gateway.status_report import status_report
from midas_pipelines.store.gateway.audit import read_audit
from midas_pipelines.store.schema.version import require_upgraded

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
    orders: int
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
    """One request, or its answer."""

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
    return status_report(service_of(request), datetime.now(UTC))


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
