"""The console as a part of the gateway's application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from midas_pipelines.gateway.api.auth import PREFIX
from midas_pipelines.gateway.console.live import Live
from midas_pipelines.gateway.console.pages import (
    administration,
    alerts,
    decide,
    doctor,
    items,
    live_numbers,
    machine_room,
    orders,
    plan,
    reference,
    rules,
    sign_in,
    stock,
    today,
    webhooks,
)
from midas_pipelines.gateway.console.web import render
from midas_pipelines.gateway.service import Service

Answer = Callable[[Request, Exception], Awaitable[Response]]


def add_console(app: FastAPI, service: Service) -> None:
    """Adds every page to the application."""
    app.state.live = Live(service)
    for page in (reference, sign_in, today, decide, items, orders, plan, rules, doctor, live_numbers):
        app.include_router(page.router)
    for page in (stock, alerts, webhooks, machine_room, administration):
        app.include_router(page.router)
    app.include_router(sign_in.inside)
    for_programs = cast("Answer", app.exception_handlers[HTTPException])

    async def missing(request: Request, error: Exception) -> Response:
        wants_a_page = "text/html" in request.headers.get("accept", "")
        if not wants_a_page or request.url.path.startswith(PREFIX):
            return await for_programs(request, error)
        status = error.status_code if isinstance(error, HTTPException) else 500
        text = "There is no page at this address."
        return render(request, "problem.html", status, status_code=status, text=text)

    app.add_exception_handler(HTTPException, missing)
