"""Signing in with a key or a one-time link, and signing out."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from midas_pipelines.errors import CallRefused, ExpectedError
from midas_pipelines.gateway.api.auth import admit_key, audit_entry
from midas_pipelines.gateway.console import oidc
from midas_pipelines.gateway.console.guard import ConsoleRoute, find_signed_in, require_form_token
from midas_pipelines.gateway.console.web import COOKIE, csrf_of, go_to, local_path, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.gateway.audit import note_answered
from midas_pipelines.store.gateway.console_sessions import (
    end_session,
    keep_request,
    start_session,
    take_request,
    use_link,
)
from midas_pipelines.store.gateway.keys import Caller

FORM_COOKIE = "midas_sign_in"
"""Ties the sign-in form to the browser that it was made for."""

NO_KEY = "This is no valid key: an admin makes one with `midas keys create`."

router = APIRouter(include_in_schema=False)
inside = APIRouter(include_in_schema=False, route_class=ConsoleRoute)


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/", link: str | None = None) -> Response:
    """The form, or the end of a one-time link."""
    if link is None:
        return _form(request, next)
    with service_of(request).database.writing() as connection:
        caller = use_link(connection, link)
    if caller is None:
        return _form(request, next, "This link is used up or too old: sign in with a key.", 401)
    return let_in(request, caller, next)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    key: Annotated[str, Form(max_length=200)],
    csrf: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Signs in with a key."""
    try:
        require_form_token(request, csrf, request.cookies.get(FORM_COOKIE, ""))
        caller = await admit_key(request, key.strip(), "/sign-in")
    except CallRefused as why:
        text = NO_KEY if why.http_status == 401 else str(why)
        return _form(request, next, text, why.http_status)
    return await asyncio.to_thread(let_in, request, caller, next)


@router.get("/sign-in/oidc")
def sign_in_elsewhere(request: Request, next: str = "/") -> Response:
    """Sends the browser to the OpenID Connect provider."""
    service = service_of(request)
    if not oidc.is_configured(service.settings):
        return _form(request, next, "Signing in by OpenID Connect is not set up here.", 404)
    base = (service.settings.console_url or str(request.base_url)).rstrip("/")
    try:
        url, kept = oidc.begin(service.settings, f"{base}/sign-in/oidc/callback")
    except ExpectedError as why:
        return _form(request, next, str(why), why.http_status)
    before = find_signed_in(service, request.cookies.get(COOKIE, ""))
    until = before.valid_until.isoformat() if before is not None and before.recheck else None
    with service.database.writing() as connection:
        state = keep_request(connection, kept | {"next": local_path(next), "until": until})
    response = go_to(f"{url}&state={state}")
    set_cookie(request, response, FORM_COOKIE, state, seconds=600)
    return response


@router.get("/sign-in/oidc/callback")
def back_from_elsewhere(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """The provider's answer: only to the browser that asked, once."""
    service, kept = service_of(request), None
    if state and hmac.compare_digest(state.encode(), request.cookies.get(FORM_COOKIE, "").encode()):
        with service.database.writing() as connection:
            kept = take_request(connection, state)
    if kept is None:
        return _form(
            request, "/", "This sign-in was not begun in this browser, or is too old: begin again.", 403
        )
    to = str(kept["next"])
    if error or not code:
        return _form(request, to, "The sign-in provider refused: sign in again, or with a key.", 403)
    try:
        caller = oidc.finish(service.settings, code, kept)
    except ExpectedError as why:
        return _form(request, to, str(why), why.http_status)
    until = datetime.fromisoformat(kept["until"]) if kept["until"] else None
    return let_in(request, caller, to, service.settings.oidc_recheck_minutes, until)


@inside.post("/sign-out")
def sign_out(request: Request) -> Response:
    """Ends the session."""
    with service_of(request).database.writing() as connection:
        end_session(connection, request.cookies.get(COOKIE, ""))
    response = go_to("/sign-in")
    response.delete_cookie(COOKIE)
    return response


def let_in(
    request: Request,
    caller: Caller,
    to: str,
    recheck_minutes: int | None = None,
    until: datetime | None = None,
) -> Response:
    """A new session for the caller, whatever the browser had before; it ends no later than `until`."""
    service = service_of(request)
    hours = service.settings.console_hours
    with service.database.writing() as connection:
        end_session(connection, request.cookies.get(COOKIE, ""))
        token = start_session(connection, caller, hours=hours, recheck_minutes=recheck_minutes, until=until)
    with service.database.writing() as connection:
        note_answered(connection, audit_entry(request, "/sign-in", caller), 303)
    response = go_to(local_path(to))
    set_cookie(request, response, COOKIE, token, seconds=int(hours * 3600))
    response.delete_cookie(FORM_COOKIE)
    return response


def set_cookie(request: Request, response: Response, name: str, token: str, *, seconds: int) -> None:
    """A cookie that no script reads, and that no other site's form sends."""
    secure = request.url.scheme == "https" or service_of(request).settings.console_secure
    response.set_cookie(name, token, max_age=seconds, httponly=True, secure=secure, samesite="lax")


def _form(request: Request, to: str, text: str | None = None, status: int = 200) -> Response:
    token, settings = secrets.token_urlsafe(24), service_of(request).settings
    provider = urlsplit(str(settings.oidc_issuer)).hostname if oidc.is_configured(settings) else None
    response = render(
        request,
        "sign_in.html",
        status,
        form_csrf=csrf_of(token),
        next=local_path(to),
        text=text,
        oidc=provider,
    )
    set_cookie(request, response, FORM_COOKIE, token, seconds=3600)
    return response
