"""Today: what needs a person, worst first; under it what runs without one. The alerts to staff, and the numbers that open
pages follow: read once for all of them, sent when they change."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response, StreamingResponse

from midas_pipelines.console_pages import page_of
from midas_pipelines.errors import WrongInput
from midas_pipelines.gateway.api.problems import NO_DATABASE
from midas_pipelines.gateway.api.readings import Before, older
from midas_pipelines.gateway.api.status import workflow_rows
from midas_pipelines.gateway.console.decide import href
from midas_pipelines.gateway.console.web import PAGE, ConsoleRoute, done, person_of, render
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.notify.alerts import mark_alert, recent_alerts
from midas_pipelines.notify.delivery import read_targets, send_test
from midas_pipelines.store.operations.backlog import CAUSES, needs_a_person, read_backlog
from midas_pipelines.store.operations.sync_log import running_syncs
from midas_pipelines.store.operations.sync_metrics import read_trends
from midas_pipelines.storefront.types import utc_now

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

MOST_OPEN = 500
ALERT_STATES: dict[str, dict[str, bool]] = {
    "open": {"only_open": True, "snoozed": False},
    "snoozed": {"only_open": True, "snoozed": True},
    "all": {"only_open": False},
}

EVERY_SECONDS = 3.0
LOOK_SECONDS = 0.5  # how soon a stream notices that the gateway is ending
LONGEST_SECONDS = 600.0  # then the browser connects again, and its session is checked again

log = logging.getLogger(__name__)


@router.get("/")
def today(request: Request) -> Response:
    """The first page."""
    service = service_of(request)
    return render(
        request,
        "today.html",
        waiting=[(one, href(one)) for one in service.read(needs_a_person)],
        trends=read_trends(service.database, datetime.now(UTC)),
        workflows=[row for row in workflow_rows(service) if row["kind"]],
        trouble=service.worker.trouble if service.worker is not None else None,
    )


class Live:
    """One reader for all open pages of a process; it reads only while a page is open."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._read_at = -EVERY_SECONDS
        self._text = ""
        self._reading = asyncio.Lock()

    async def stream(self) -> AsyncIterator[str]:
        """Server-sent events: the numbers now, and again whenever they change."""
        sent, until = "", time.monotonic() + LONGEST_SECONDS
        yield "retry: 5000\n\n"
        while time.monotonic() < until and not self._service.is_ending():
            text = await self._newest()
            if text != sent:
                sent = text
                yield f"data: {text}\n\n"
            await asyncio.sleep(LOOK_SECONDS)

    async def _newest(self) -> str:
        async with self._reading:
            if time.monotonic() - self._read_at >= EVERY_SECONDS:
                try:
                    self._text = await asyncio.to_thread(self._read)
                except NO_DATABASE as failed:
                    log.warning("Live numbers could not be read: %s.", type(failed).__name__)
                self._read_at = time.monotonic()
        return self._text

    def _read(self) -> str:
        with self._service.database.reading() as connection:
            found = {one.cause: one.count for one in needs_a_person(connection)}
            running = running_syncs(connection)
            backlog = read_backlog(connection)
        numbers: dict[str, Any] = {
            **{cause: found.get(cause, 0) for cause in CAUSES},
            **{f"progress_{one.kind}": str(one) for one in running},
            "items_waiting": backlog.dirty,
            "webhooks_waiting": backlog.webhooks,
            "to_decide": sum(found.values()) or "",
            "running": {one.kind: [one.done, one.total] for one in running},
        }
        return json.dumps(numbers, sort_keys=True)


@router.get("/live")
async def live(request: Request) -> Response:
    """Counts of what needs a person, and the progress of running syncs."""
    numbers: Live = request.app.state.live
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(numbers.stream(), media_type="text/event-stream", headers=headers)


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
    which = ALERT_STATES[state]
    found, _ = service.read(recent_alerts, **which, kind=kind or None, limit=limit, before=before)
    more = older(found, PAGE) if state == "all" else None
    targets = [target.kind for target in read_targets(service.settings.notify_urls)]
    shown: dict[str, Any] = {"found": found, "more": more, "targets": targets, "states": [*ALERT_STATES]}
    return render(request, "alerts.html", page_of=page_of, state=state, kind=kind, **shown)


@router.post("/alerts/mark")
def mark(
    request: Request,
    alert: Annotated[int, Form(ge=1, le=2**63 - 1)],
    what: Literal["close", "take", "give back", "snooze", "wake"] = Form(),
    hours: Annotated[int, Form(ge=1, le=720)] = 24,
) -> Response:
    """Closes an alert, takes it, or hides it for hours; what still holds after a close raises a new one."""
    by, until = person_of(request).name, utc_now(3600 * hours)
    marks: dict[str, tuple[str, object, str, str | None]] = {
        "close": ("cleared_at", utc_now(), "The alert is closed.", None),
        "take": ("taken_by", by, f"{by} sees to it.", "give back"),
        "give back": ("taken_by", None, "The alert is taken by no one.", None),
        "snooze": ("snoozed_until", until, f"The alert is hidden for {hours} hours.", "wake"),
        "wake": ("snoozed_until", None, "The alert is shown again.", None),
    }
    column, value, text, undo = marks[what]
    if not service_of(request).write(mark_alert, alert, **{column: value}):
        raise WrongInput("This alert was closed before.")
    return done(request, text, undo="/alerts/mark" if undo else None, alert=alert, what=undo)


@router.post("/alerts/test")
def test_message(request: Request) -> Response:
    """Sends a message to every target now."""
    targets = read_targets(service_of(request).settings.notify_urls)
    if not targets:
        raise WrongInput("There is nowhere to send to: set MIDAS_NOTIFY_URLS to apprise addresses.")
    if problems := send_test(targets, person_of(request).name):
        raise WrongInput(" ".join(problems))
    return done(request, f"The test message was accepted by {len(targets)} of {len(targets)} targets.")
