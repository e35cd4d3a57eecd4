"""Who may open which page, and what every click passes: session, role, form token, audit log."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import URL

from midas_pipelines.console_pages import in_console
from midas_pipelines.errors import CallRefused, ExpectedError, WrongInput
from midas_pipelines.gateway.api.auth import Handler, audit_entry, audited, require_role
from midas_pipelines.gateway.api.problems import NO_DATABASE, no_database, status_of
from midas_pipelines.gateway.console import web
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.store.gateway.audit import kept
from midas_pipelines.store.gateway.keys import Person, Role, find_person, update_session
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.reconcile.conflicts import UNDO_TIME

ADMIN_CLICKS = frozenset({"/orders/{order_id:path}/erase", "/webhooks/payload"})
"""Pages and clicks of admins alone, beside those whose path begins with one of `ADMINS_ONLY`."""

UNDO_ONLY = frozenset({"/orders/{order_id:path}/undo", "/rules/undo"})
"""Clicks that only take another one back, for ten minutes."""

EVERYONE = frozenset({"/sign-out"})
"""Clicks that a viewer may make."""


def needed_role(method: str, path: str) -> Role:
    """The role that a page or a click needs: viewers look, operators change, admins do the rest."""
    if path in ADMIN_CLICKS or f"/{path.split('/')[1]}" in web.ADMINS_ONLY:
        return Role.ADMIN
    return Role.VIEWER if method == "GET" or path in EVERYONE else Role.OPERATOR


class ConsoleRoute(APIRoute):
    """A page or a click of someone who is signed in. What goes wrong is a page too, or a notice on the page before."""

    def get_route_handler(self) -> Handler:
        """The page behind its guard."""
        handler = super().get_route_handler()
        path = self.path

        async def guarded(request: Request) -> Response:
            request.state.notice = None
            try:
                response = await _enter(request, path, handler)
            except (ExpectedError, RequestValidationError, *NO_DATABASE) as error:
                response = _failed(request, error)
            if request.state.notice is not None:
                await _keep_notice(request)
            return response

        return guarded


async def _enter(request: Request, path: str, handler: Handler) -> Response:
    service = service_of(request)
    token = request.cookies.get(web.COOKIE, "")
    person = await asyncio.to_thread(find_signed_in, service, token)
    if person is None or person.recheck:
        asked = request.url if request.method == "GET" else URL(request.headers.get("referer", "/"))
        back = web.local_path(asked.path + (f"?{asked.query}" if asked.query else ""))
        door = "/sign-in" if person is None else "/sign-in/oidc"
        return web.go_to(door if back == "/" else f"{door}?next={quote(back, safe='/')}")
    request.state.person = person
    await require_role(request, path, person, needed_role(request.method, path))
    if request.method == "GET":
        response = await handler(request)
        if person.notice is not None and getattr(request.state, "takes_notice", False):
            await _keep_notice(request)
        return response
    form = await request.form()
    require_form_token(request, str(form.get("csrf", "")), token)
    request.state.form, request.state.back = form, web.local_path(str(form.get("back", "/")))
    if path in UNDO_ONLY or "limit" in form:
        _require_in_time(str(form.get("limit", "")), token)
    given = {name: value for name, value in form.items() if name not in ("csrf", "back", "key", "limit")}
    entry = audit_entry(request, path, person, {"form": kept(given)} if given else None)
    return await audited(service, entry, handler, request)


def require_form_token(request: Request, given: str, token: str) -> None:
    """Raises CallRefused for a form that no page of ours has made for the holder of this cookie."""
    elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if elsewhere or not token or not hmac.compare_digest(given.encode(), web.csrf_of(token).encode()):
        text = "This form is out of date, or was not made by the console: open the page again."
        raise CallRefused(403, text)


def _require_in_time(limit: str, token: str) -> None:
    """Raises WrongInput for the form of an undo that was made more than ten minutes ago, or not by `done`."""
    until, _, mark = limit.partition(":")
    made_here = hmac.compare_digest(mark.encode(), web.csrf_of(until + token).encode())
    if not made_here or float(until) < time.time():
        raise WrongInput("This was done more than ten minutes ago: change it on its own page instead.")


def clicked(request: Request, what: str) -> SyncContext:
    """The engine for one click, named by who clicked what, as logs and timelines show it."""
    return service_of(request).sync_context(f"{web.person_of(request).name[:40]}: console {what}")


def done(
    request: Request, text: str, to: str | None = None, *, undo: str | None = None, **fields: Any
) -> Response:
    """The end of a click: the page that it came from, or `to`, with a notice of what was done, as a sentence.

    `undo` is the path of the click that takes it back; `fields` are what its form has, a list for one of several values.
    """
    until = f"{time.time() + UNDO_TIME.total_seconds():.0f}"
    fields["limit"] = f"{until}:{web.csrf_of(until + request.cookies[web.COOKIE])}"
    several = {name: value if isinstance(value, list) else [value] for name, value in fields.items()}
    pairs = [(name, one) for name, values in several.items() for one in values]
    request.state.notice = {"level": "done", "text": text, "undo": undo, "fields": pairs}
    return web.go_to(to or request.state.back)


async def _keep_notice(request: Request) -> None:
    """Keeps the notice of this click for the person's next page, or clears the one that this page has shown."""
    notice = sa.null() if request.state.notice is None else request.state.notice
    mine = web.person_of(request).session_id
    await asyncio.to_thread(service_of(request).write, update_session, mine, notice=notice)


def find_signed_in(service: Service, token: str) -> Person | None:
    """Who is signed in by that token; puts off the idle time-out."""
    if not token:
        return None
    person = service.read(find_person, token, idle_minutes=service.settings.console_idle_minutes)
    if person is not None and person.seen_is_due:
        service.write(update_session, person.session_id, seen_at=utc_now())
    return person


def _failed(request: Request, error: Exception) -> Response:
    status, text = status_of(error), str(error)
    if isinstance(error, RequestValidationError):
        fields = ", ".join(str(one["loc"][-1]) for one in error.errors())
        text = f"This cannot be read: {fields}. Correct it and try again."
    elif isinstance(error, NO_DATABASE):
        text = no_database(error)
    text, back = in_console(text, "/"), getattr(request.state, "back", None)
    if back is not None and not isinstance(error, NO_DATABASE) and status != 403:
        request.state.notice = {"level": "wrong", "text": text, "undo": None}
        return web.go_to(back)
    return web.render(request, "problem.html", status, status_code=status, text=text)
