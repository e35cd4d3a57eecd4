"""Who may open which page, and what every click passes: session, role, form token, audit log."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Sequence
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import URL
from starlette.responses import Response

from midas_pipelines.console_pages import in_console
from midas_pipelines.errors import CallRefused, ExpectedError, WrongInput
from midas_pipelines.gateway.api.auth import Handler, audit_entry, audited
from midas_pipelines.gateway.api.problems import NO_DATABASE, no_database, status_of
from midas_pipelines.gateway.console.web import (
    ADMINS_ONLY,
    COOKIE,
    csrf_of,
    go_to,
    local_path,
    person_of,
    render,
)
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.store.gateway.audit import kept
from midas_pipelines.store.gateway.console_sessions import Person, find_person, mark_seen, set_notice
from midas_pipelines.store.gateway.keys import Caller, Role
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
    if path in ADMIN_CLICKS or f"/{path.split('/')[1]}" in ADMINS_ONLY:
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
                await asyncio.to_thread(_note, request)
            return response

        return guarded


async def _enter(request: Request, path: str, handler: Handler) -> Response:
    service = service_of(request)
    token = request.cookies.get(COOKIE, "")
    person = await asyncio.to_thread(find_signed_in, service, token)
    if person is None or person.recheck:
        asked = request.url if request.method == "GET" else URL(request.headers.get("referer", "/"))
        back = local_path(asked.path + (f"?{asked.query}" if asked.query else ""))
        door = "/sign-in" if person is None else "/sign-in/oidc"
        return go_to(door if back == "/" else f"{door}?next={quote(back, safe='/')}")
    request.state.person = person
    caller = Caller(person.key_id or "console", person.name, person.role)
    needed = needed_role(request.method, path)
    if not person.role.covers(needed):
        await request.app.state.refusals.note(audit_entry(request, path, caller), 403)
        raise CallRefused(
            403, f"This needs the role {needed.value}; you are signed in as {person.role.value}."
        )
    if request.method == "GET":
        response = await handler(request)
        if person.notice is not None and getattr(request.state, "takes_notice", False):
            await asyncio.to_thread(_note, request)
        return response
    form = await request.form()
    require_form_token(request, str(form.get("csrf", "")), token)
    request.state.back = local_path(str(form.get("back", "/")))
    if path in UNDO_ONLY or "limit" in form:
        require_in_time(str(form.get("limit", "")), token)
    given = {name: value for name, value in form.items() if name not in ("csrf", "back", "key", "limit")}
    entry = audit_entry(request, path, caller, {"form": kept(given)} if given else None)
    return await audited(service.database, entry, handler, request)


def require_form_token(request: Request, given: str, token: str) -> None:
    """Raises CallRefused for a form that no page of ours has made for the holder of this cookie."""
    elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if elsewhere or not token or not hmac.compare_digest(given.encode(), csrf_of(token).encode()):
        raise CallRefused(
            403, "This form is out of date, or was not made by the console: open the page again."
        )


def require_in_time(limit: str, token: str) -> None:
    """Raises WrongInput for the form of an undo that was made more than ten minutes ago, or not by `done`."""
    until, _, mark = limit.partition(":")
    if not hmac.compare_digest(mark.encode(), csrf_of(until + token).encode()) or float(until) < time.time():
        raise WrongInput("This was done more than ten minutes ago: change it on its own page instead.")


def clicked(request: Request, what: str) -> SyncContext:
    """The engine for one click, named by who clicked what, as logs and timelines show it."""
    return service_of(request).sync_context(f"{person_of(request).name[:40]}: console {what}")


def done(
    request: Request,
    text: str,
    to: str | None = None,
    *,
    undo: str | None = None,
    fields: Sequence[tuple[str, object]] = (),
) -> Response:
    """The end of a click: the page that it came from, or `to`, with a notice.

    Args:
        request: the click.
        text: what was done, as a sentence.
        to: the page to open.
        undo: the path of the click that takes it back.
        fields: what the form of that click has.
    """
    until = f"{time.time() + UNDO_TIME.total_seconds():.0f}"
    limit = f"{until}:{csrf_of(until + request.cookies[COOKIE])}"
    request.state.notice = {
        "level": "done",
        "text": text,
        "undo": undo,
        "fields": [*fields, ("limit", limit)],
    }
    return go_to(to or request.state.back)


def _note(request: Request) -> None:
    """Keeps the notice of this click for the person's next page, or clears the one that this page has shown."""
    with service_of(request).database.writing() as connection:
        set_notice(connection, person_of(request).session_id, request.state.notice)


def find_signed_in(service: Service, token: str) -> Person | None:
    """Who is signed in by that token; puts off the idle time-out."""
    if not token:
        return None
    idle = service.settings.console_idle_minutes
    with service.database.reading() as connection:
        found = find_person(connection, token, idle_minutes=idle)
    if found is not None and found[1]:
        with service.database.writing() as connection:
            mark_seen(connection, found[0].session_id)
    return found[0] if found is not None else None


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
        return go_to(back)
    return render(request, "problem.html", status, status_code=status, text=text)
