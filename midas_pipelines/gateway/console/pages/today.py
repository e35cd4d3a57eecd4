"""Today: what needs a person, worst first; under it what runs without one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from midas_pipelines.gateway.console.guard import ConsoleRoute
from midas_pipelines.gateway.console.web import render
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.lib.timetable import next_run
from midas_pipelines.store.operations.attention import Attention, needs_a_person
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.operations.trends import Trends, read_trends
from midas_pipelines.workflows import WORKFLOWS

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

ELSEWHERE = {
    "brake": "/plan",
    "low_stock": "/stock",
    "quarantined_webhook": "/webhooks?state=quarantined",
    "alert": "/alerts",
    "channel_down": "/alerts",
}
"""Causes that are settled on a page of their own; all others are cards of `/decide`."""


@router.get("/")
def today(request: Request) -> Response:
    """The first page."""
    service = service_of(request)
    with service.database.reading() as connection:
        waiting = needs_a_person(connection)
        trends = read_trends(connection, datetime.now(UTC))
    return render(
        request,
        "today.html",
        waiting=[(one, href(one)) for one in waiting],
        total=sum(one.count for one in waiting),
        trends=trends,
        plots=_plots(trends),
        workflows=workflows_now(service),
        trouble=service.worker.trouble if service.worker is not None else None,
    )


def href(attention: Attention) -> str:
    """Where that cause is settled."""
    return ELSEWHERE.get(attention.cause, f"/decide?cause={attention.cause}")


def workflows_now(service: Service) -> list[dict[str, Any]]:
    """Each workflow that syncs: its last result and its next run."""
    now = datetime.now(UTC)
    syncs = {row["kind"]: row for row in last_syncs(service.database)}
    return [
        {
            "name": workflow.name,
            "what": workflow.what,
            "kind": workflow.kind,
            "last": syncs.get(workflow.kind),
            "next_at": next_run(service.settings, workflow, now),
        }
        for workflow in WORKFLOWS
        if workflow.kind
    ]


def _plots(trends: Trends) -> list[dict[str, Any]]:
    """The small plots, each with the words that say the same."""
    hours = [("Orders per hour", trends.orders, ""), ("Pushes per hour", trends.pushes, "")]
    plots = [
        {
            "title": title,
            "values": values,
            "says": f"{sum(values)} in 24 hours, {values[-1]} in this one{unit}",
        }
        for title, values, unit in hours
    ]
    if trends.consistency:
        least, last = min(trends.consistency), trends.consistency[-1]
        says = f"{last:.1%} in the last read-back, {least:.1%} at the lowest"
        plots.append({"title": "Consistency, 30 days", "values": trends.consistency, "says": says})
    return plots
