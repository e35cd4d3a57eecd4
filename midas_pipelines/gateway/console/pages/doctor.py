"""The doctor's report as a page, for admins."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from midas_pipelines.gateway.console.guard import ConsoleRoute
from midas_pipelines.gateway.console.web import render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.lib.doctor.report import doctor_report

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)


@router.get("/doctor")
def doctor_page(request: Request) -> Response:
    """Everything that a start needs, checked now, line by line."""
    order = {"wrong": 0, "warning": 1, "ok": 2}
    lines = sorted(doctor_report(service_of(request).settings), key=lambda line: order[line.state])
    return render(request, "doctor.html", lines=lines)
