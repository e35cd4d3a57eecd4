"""Alerts: what staff was or will be notified of, by kind; closed by hand, and tried with a test message."""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.console_pages import page_of
from midas_pipelines.errors import WrongInput
from midas_pipelines.gateway.console.guard import ConsoleRoute, done
from midas_pipelines.gateway.console.web import Before, person_of, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.notify.alerts import close_alert, recent_alerts
from midas_pipelines.notify.delivery import send_test
from midas_pipelines.notify.targets import read_targets

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

MOST_OPEN = 500
PAGE = 50


@router.get("/alerts")
def alerts(
    request: Request,
    state: str = "open",
    kind: Annotated[str, Query(max_length=30)] = "",
    before: Before = None,
) -> Response:
    """The open alerts by kind, or all of them by time."""
    service = service_of(request)
    only_open = state != "all"
    limit = MOST_OPEN if only_open else PAGE
    with service.database.reading() as connection:
        found, total = recent_alerts(
            connection, only_open=only_open, kind=kind or None, limit=limit, before=before
        )
    by_kind = sorted(found, key=lambda one: one["kind"]) if only_open else found
    groups = [(name, list(rows)) for name, rows in groupby(by_kind, key=lambda one: one["kind"])]
    return render(
        request,
        "alerts.html",
        page_of=page_of,
        groups=groups if only_open else [("All, newest first", found)] if found else [],
        total=total,
        state="open" if only_open else "all",
        kind=kind,
        more=found[-1]["id"] if len(found) == PAGE and not only_open else None,
        targets=[target.kind for target in read_targets(service.settings.notify_urls)],
    )


@router.post("/alerts/close")
async def close(request: Request, alert: Annotated[int, Form(ge=1, le=2**63 - 1)]) -> Response:
    """Closes one alert; what still holds raises a new one at the next look."""
    database = service_of(request).database

    def work() -> bool:
        with database.writing() as connection:
            return close_alert(connection, alert)

    closed = await asyncio.to_thread(work)
    return await done(request, "The alert is closed." if closed else "This alert was closed before.")


@router.post("/alerts/test")
async def test_message(request: Request) -> Response:
    """Sends a message to every target now."""
    targets = read_targets(service_of(request).settings.notify_urls)
    if not targets:
        raise WrongInput("There is nowhere to send to: set MIDAS_NOTIFY_URLS to apprise addresses.")
    problems = await asyncio.to_thread(send_test, targets, person_of(request).name)
    if problems:
        raise WrongInput(" ".join(problems))
    return await done(request, f"The test message was accepted by {len(targets)} of {len(targets)} targets.")
