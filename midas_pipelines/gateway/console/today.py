"""Today: what needs a person, worst first; under it what runs without one. And the alerts to staff."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.console_pages import page_of
from midas_pipelines.errors import WrongInput
from midas_pipelines.gateway.console.guard import ConsoleRoute, done
from midas_pipelines.gateway.console.web import Before, person_of, render
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.lib.timetable import next_run
from midas_pipelines.notify.alerts import mark_alert, recent_alerts
from midas_pipelines.notify.delivery import send_test
from midas_pipelines.notify.targets import read_targets
from midas_pipelines.store.operations.backlog import Attention, needs_a_person
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.operations.sync_metrics import Trends, read_trends
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.workflows import WORKFLOWS

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

MOST_OPEN = 500
PAGE = 50
ELSEWHERE = {
    "brake": "/plan",
    "low_stock": "/stock",
    "quarantined_webhook": "/webhooks?state=quarantined",
    "alert": "/alerts",
    "expiring_key": "/keys",
    "channel_down": "/alerts",
}
"""Causes that are settled on a page of their own; all others are cards of `/decide`."""

ALERT_STATES: dict[str, dict[str, bool]] = {
    "open": {"only_open": True, "snoozed": False},
    "snoozed": {"only_open": True, "snoozed": True},
    "all": {"only_open": False},
}


@router.get("/")
def today(request: Request) -> Response:
    """The first page."""
    service = service_of(request)
    with service.database.reading() as connection:
        waiting = needs_a_person(connection)
    trends = read_trends(service.database, datetime.now(UTC))
    return render(
        request,
        "today.html",
        waiting=[(one, href(one)) for one in waiting],
        trends=trends,
        plots=_plots(trends),
        workflows=_workflows(service),
        trouble=service.worker.trouble if service.worker is not None else None,
    )


def href(attention: Attention) -> str:
    """Where that cause is settled."""
    return ELSEWHERE.get(attention.cause, f"/decide?cause={attention.cause}")


def _workflows(service: Service) -> list[dict[str, Any]]:
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


def _plots(trends: Trends) -> list[tuple[str, list[int] | list[float], str]]:
    """The small plots: title, values, and the words that say the same."""
    plots: list[tuple[str, list[int] | list[float], str]] = [
        (title, values, f"{sum(values)} in 24 hours, {values[-1]} in this one")
        for title, values in (("Orders per hour", trends.orders), ("Pushes per hour", trends.pushes))
    ]
    if found := trends.consistency:
        says = f"{found[-1]:.1%} in the last read-back, {min(found):.1%} at the lowest"
        plots.append(("Consistency, 30 days", found, says))
    return plots


@router.get("/alerts")
def alerts(
    request: Request,
    state: str = "open",
    kind: Annotated[str, Query(max_length=30)] = "",
    before: Before = None,
) -> Response:
    """The open alerts by kind, the snoozed ones, or all of them by time."""
    service = service_of(request)
    state = state if state in ALERT_STATES else "open"
    limit = PAGE if state == "all" else MOST_OPEN
    with service.database.reading() as connection:
        found, _ = recent_alerts(
            connection, **ALERT_STATES[state], kind=kind or None, limit=limit, before=before
        )
    groups = [("All, newest first", found)] if found else []
    if state != "all":
        found.sort(key=lambda one: str(one["kind"]))
        groups = [(name, list(rows)) for name, rows in groupby(found, key=lambda one: str(one["kind"]))]
    return render(
        request,
        "alerts.html",
        page_of=page_of,
        groups=groups,
        state=state,
        states=list(ALERT_STATES),
        kind=kind,
        more=found[-1]["id"] if len(found) == PAGE and state == "all" else None,
        targets=[target.kind for target in read_targets(service.settings.notify_urls)],
    )


@router.post("/alerts/mark")
def mark(
    request: Request,
    alert: Annotated[int, Form(ge=1, le=2**63 - 1)],
    what: Literal["close", "take", "give back", "snooze", "wake"] = Form(),
    hours: Annotated[int, Form(ge=1, le=720)] = 24,
) -> Response:
    """Closes an alert, takes it, or hides it for hours; what still holds after a close raises a new one."""
    by = person_of(request).name
    marks: dict[str, tuple[dict[str, object], str, str | None]] = {
        "close": ({"cleared_at": utc_now()}, "The alert is closed.", None),
        "take": ({"taken_by": by}, f"{by} sees to it.", "give back"),
        "give back": ({"taken_by": None}, "The alert is taken by no one.", None),
        "snooze": (
            {"snoozed_until": utc_now(3600 * hours)},
            f"The alert is hidden for {hours} hours.",
            "wake",
        ),
        "wake": ({"snoozed_until": None}, "The alert is shown again.", None),
    }
    values, text, undo = marks[what]
    with service_of(request).database.writing() as connection:
        if not mark_alert(connection, alert, **values):
            raise WrongInput("This alert was closed before.")
    fields = [("alert", alert), ("what", undo)]
    return done(request, text, undo="/alerts/mark" if undo else None, fields=fields)


@router.post("/alerts/test")
def test_message(request: Request) -> Response:
    """Sends a message to every target now."""
    targets = read_targets(service_of(request).settings.notify_urls)
    if not targets:
        raise WrongInput("There is nowhere to send to: set MIDAS_NOTIFY_URLS to apprise addresses.")
    problems = send_test(targets, person_of(request).name)
    if problems:
        raise WrongInput(" ".join(problems))
    return done(request, f"The test message was accepted by {len(targets)} of {len(targets)} targets.")
