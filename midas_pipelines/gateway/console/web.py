"""What every page of the console shares: templates, headers, notices, and links that stay in the console."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from midas_pipelines.console_pages import in_console
from midas_pipelines.store.gateway.keys import Person, Role

HERE = Path(str(files(__package__)))

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

COOKIE = "midas_session"
PAGE = 50
"""Rows of a list that one page shows."""

Before = Annotated[int | None, Query(ge=1, le=2**63 - 1)]
"""Of a page of a list: the id that it goes on behind."""


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


def older(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """The id behind which a list goes on; None where it ends with these rows."""
    return rows[-1]["id"] if len(rows) == PAGE else None


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


def local_path(text: str | None, otherwise: str = "/") -> str:
    """The text where it is a path of this site; no redirect leads elsewhere."""
    if not text or not text.startswith("/") or text.startswith(("//", "/\\")) or not text.isprintable():
        return otherwise
    return text


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


UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


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
