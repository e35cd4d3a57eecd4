"""The status report."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from midas_pipelines.lib.timetable import next_run
from midas_pipelines.settings import Settings
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.operations.overview import Overview, overview
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.schema.version import version as database_version
from midas_pipelines.workflows import WORKFLOWS, Workflow

if TYPE_CHECKING:
    from midas_pipelines.gateway.service import Service

PACKAGES = ("midas-pipelines", "dagster", "fastapi")


def status_report(service: Service, now: datetime) -> dict[str, Any]:
    """The response of `GET /api/marketplace/status`."""
    seen = overview(service.database)
    with service.database.reading() as connection:
        inbox = webhooks.backlog(connection)
    syncs = {row["kind"]: row for row in last_syncs(service.database)}
    return {
        "channels": [_website(seen), _fourseller(service, seen)],
        "items": _backlog(seen.dirty, seen.oldest_dirty, seen.items.get("quarantined", 0), now),
        "webhooks": _backlog(inbox.pending, inbox.oldest, inbox.quarantined, now),
        "orders": seen.orders,
        "order_exceptions": seen.order_exceptions,
        "consistency": seen.consistency,
        "consistency_at": seen.consistency_at,
        "workflows": [
            _workflow(workflow, syncs.get(workflow.kind), service.settings, now)
            for workflow in WORKFLOWS
            if workflow.kind
        ],
        "versions": {name: version(name) for name in PACKAGES}
        | {"database": database_version(service.database).current or "none"},
        "worker": _worker(service),
        "up_since": service.started_at,
    }


def _website(seen: Overview) -> dict[str, Any]:
    items = sum(count for state, count in seen.items.items() if state != "removed")
    return {"name": "website", "listed": items, "healthy": True, "trouble": None, "failed_calls_last_day": 0}


def _fourseller(service: Service, seen: Overview) -> dict[str, Any]:
    trouble = service.worker.trouble if service.worker is not None else None
    return {
        "name": "fourseller",
        "listed": seen.items.get("listed", 0),
        "healthy": trouble is None,
        "trouble": trouble,
        "failed_calls_last_day": seen.failed_calls,
    }


def _worker(service: Service) -> str:
    if service.worker is None:
        return "elsewhere"
    return "running" if service.supervisor.problem() is None else "stopped"


def _backlog(waiting: int, oldest: datetime | None, quarantined: int, now: datetime) -> dict[str, Any]:
    age = max(0.0, (now - oldest).total_seconds()) if oldest is not None else 0.0
    return {"waiting": waiting, "oldest": oldest, "oldest_seconds": round(age, 3), "quarantined": quarantined}


def _workflow(
    workflow: Workflow, last: dict[str, Any] | None, settings: Settings, now: datetime
) -> dict[str, Any]:
    return {
        "name": workflow.kind,
        "last_started_at": last["started_at"] if last else None,
        "last_outcome": last["outcome"] if last else None,
        "last_seconds": last["seconds"] if last else None,
        "next_at": next_run(settings, workflow, now),
    }
