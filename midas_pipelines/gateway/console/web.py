"""What every page and every click of the console passes (session, role, form token, audit log) and shares: templates, headers,
notices, and links that stay in the console."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import hmac
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import URL

from midas_pipelines.console_pages import in_console
from midas_pipelines.errors import CallRefused, ExpectedError, WrongInput
from midas_pipelines.gateway.api.auth import Handler, audit_entry, audited, require_role
from midas_pipelines.gateway.api.problems import NO_DATABASE, no_database, status_of
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.store.gateway.audit import kept
from midas_pipelines.store.gateway.keys import Person, Role, find_person, update_session
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.reconcile.conflicts import UNDO_TIME

HERE = Path(__file__).parent

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Nothing from elsewhere runs in a page, and no other page may frame it."""

ADMINS_ONLY = frozenset({"/keys", "/activity", "/settings", "/doctor"})

ADMIN_CLICKS = frozenset({"/orders/{order_id:path}/erase", "/webhooks/payload"})
"""Pages and clicks of admins alone, beside those whose path begins with one of `ADMINS_ONLY`."""

UNDO_ONLY = frozenset({"/orders/{order_id:path}/undo", "/rules/undo"})
"""Clicks that only take another one back, for ten minutes."""

EVERYONE = frozenset({"/sign-out"})  # clicks that a viewer may make

COOKIE = "midas_session"
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
PAGE = 50  # rows of a list that one page shows


def person_of(request: Request) -> Person:
    """Who is signed in; every page but the sign-in has one."""
    person: Person = request.state.person
    return person


def csrf_of(token: str) -> str:
    """What a form must send back: only a page made for the holder of the cookie can know it."""
    return hashlib.sha256(f"form of {token}".encode()).hexdigest()


def render(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """The template as a page for the person who is signed in."""
    person: Person | None = getattr(request.state, "person", None)
    takes_notice = person is not None and "hx-request" not in request.headers
    request.state.takes_notice = takes_notice
    is_admin = person is not None and person.role.covers(Role.ADMIN)
    shown = {
        "person": person,
        "csrf": csrf_of(request.cookies.get(COOKIE, "")),
        "notice": person.notice if person is not None and takes_notice else None,
        "admins_only": ADMINS_ONLY,
        "here": request.url.path,
        "query": request.url.query,
        "version": VERSION,
        "may_change": person is not None and person.role.covers(Role.OPERATOR),
        "is_admin": is_admin,
    }
    return HTMLResponse(TEMPLATES.get_template(template).render(shown | context), status, HEADERS)


def fragment(name: str, level: str, sentences: Iterable[str]) -> Response:
    """A part of a page that htmx puts in place of the element of that id."""
    lines = Markup("").join(Markup("<p>{}</p>").format(line) for line in sentences)
    return HTMLResponse(Markup('<div id="{}" class="{}">{}</div>').format(name, level, lines), 200, HEADERS)


def csv_file(name: str, rows: Sequence[Mapping[str, Any]]) -> Response:
    """The rows as a CSV file. A text that a spreadsheet would take for a formula has an apostrophe before it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows({field: _no_formula(value) for field, value in row.items()} for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), headers=HEADERS | headers, media_type="text/csv; charset=utf-8")


def _no_formula(value: object) -> object:
    dangerous = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if dangerous else value


def go_to(path: str) -> Response:
    """The browser opens that page next."""
    return RedirectResponse(path, 303, HEADERS)


def local_path(text: str) -> str:
    """The text where it is a path of this site, else the first page; no redirect leads elsewhere."""
    is_local = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if is_local else "/"


def moment(value: datetime | None) -> Markup:
    """A moment in UTC; `console.js` shows it in the reader's own zone, and UTC on hover."""
    if value is None:
        return Markup('<span class="quiet">never</span>')
    return _time(value.astimezone(UTC), "", f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC")


def ago(value: datetime | None) -> Markup:
    """How long ago it was in the largest unit that says enough, with the moment on hover."""
    if value is None:
        return Markup("")
    seconds = max(0, int((datetime.now(UTC) - value).total_seconds()))
    size, name = next((one for one in UNITS if seconds >= one[0]), UNITS[-1])
    return _time(value.astimezone(UTC), "ago", f"{seconds // size} {name}")


def _time(utc: datetime, kind: str, text: str) -> Markup:
    tag = Markup('<time class="{}" datetime="{}" title="{} UTC">{}</time>')
    return tag.format(kind, utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M:%S}", text)


STATIC = {path.name: path for path in sorted((HERE / "static").iterdir())}
VERSION = hashlib.sha256(b"".join(path.read_bytes() for path in STATIC.values())).hexdigest()[:12]
"""Changes with any of the static files, so that a browser keeps them until then."""
TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    "moment": moment,
    "ago": ago,
    "money": lambda amount, currency="USD": "" if amount is None else f"{amount} {currency or ''}".rstrip(),
    "words": lambda name: name.replace("_", " "),
    "here": lambda text: in_console(text or "", "/"),
    "path": lambda text: quote(str(text), safe=""),
}


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
                await _keep_notice(request)
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
    await require_role(request, path, person, needed_role(request.method, path))
    if request.method == "GET":
        response = await handler(request)
        if person.notice is not None and getattr(request.state, "takes_notice", False):
            await _keep_notice(request)
        return response
    form = await request.form()
    require_form_token(request, str(form.get("csrf", "")), token)
    request.state.form, request.state.back = form, local_path(str(form.get("back", "/")))
    if path in UNDO_ONLY or "limit" in form:
        _require_in_time(str(form.get("limit", "")), token)
    given = {name: value for name, value in form.items() if name not in ("csrf", "back", "key", "limit")}
    entry = audit_entry(request, path, person, {"form": kept(given)} if given else None)
    return await audited(service, entry, handler, request)


def require_form_token(request: Request, given: str, token: str) -> None:
    """Raises CallRefused for a form that no page of ours has made for the holder of this cookie."""
    elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if elsewhere or not token or not hmac.compare_digest(given.encode(), csrf_of(token).encode()):
        text = "This form is out of date, or was not made by the console: open the page again."
        raise CallRefused(403, text)


def _require_in_time(limit: str, token: str) -> None:
    """Raises WrongInput for the form of an undo that was made more than ten minutes ago, or not by `done`."""
    until, _, mark = limit.partition(":")
    made_here = hmac.compare_digest(mark.encode(), csrf_of(until + token).encode())
    if not made_here or float(until) < time.time():
        raise WrongInput("This was done more than ten minutes ago: change it on its own page instead.")


def clicked(request: Request, what: str) -> SyncContext:
    """The engine for one click, named by who clicked what, as logs and timelines show it."""
    return service_of(request).sync_context(f"{person_of(request).name[:40]}: console {what}")


def done(
    request: Request, text: str, to: str | None = None, *, undo: str | None = None, **fields: Any
) -> Response:
    """The end of a click: the page that it came from, or `to`, with a notice of what was done, as a sentence.

    `undo` is the path of the click that takes it back; `fields` are what its form has, a list for one of several values.
    """
    until = f"{time.time() + UNDO_TIME.total_seconds():.0f}"
    fields["limit"] = f"{until}:{csrf_of(until + request.cookies[COOKIE])}"
    several = {name: value if isinstance(value, list) else [value] for name, value in fields.items()}
    pairs = [(name, one) for name, values in several.items() for one in values]
    request.state.notice = {"level": "done", "text": text, "undo": undo, "fields": pairs}
    return go_to(to or request.state.back)


async def _keep_notice(request: Request) -> None:
    """Keeps the notice of this click for the person's next page, or clears the one that this page has shown."""
    notice = sa.null() if request.state.notice is None else request.state.notice
    mine = person_of(request).session_id
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
        return go_to(back)
    return render(request, "problem.html", status, status_code=status, text=text)
