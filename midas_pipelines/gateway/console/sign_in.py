"""Signing in with a key, a one-time link or OpenID Connect (authorization code with PKCE, state and nonce), and signing out."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import httpx
from fastapi import APIRouter, Form, Request, Response
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from midas_pipelines.errors import CallRefused, ExpectedError, WrongInput
from midas_pipelines.gateway.api.auth import admit_key, audit_entry
from midas_pipelines.gateway.console import web
from midas_pipelines.gateway.service import service_of
from midas_pipelines.setting_checks import is_this_machine
from midas_pipelines.settings import Settings
from midas_pipelines.store.gateway import keys as sessions
from midas_pipelines.store.gateway.audit import note_audit
from midas_pipelines.store.gateway.keys import Caller, Role
from midas_pipelines.storefront.types import utc_now

FORM_COOKIE = "midas_sign_in"  # ties the sign-in form to the browser that it was made for
NO_KEY = "This is no valid key: an admin makes one with `midas keys create`."

ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
"""Of ID tokens; only asymmetric ones, so that the client secret makes no token."""
SECONDS = 5.0
LEEWAY = 60
ASKED_SECONDS = 600  # how long the provider's answer is waited for

outside = APIRouter(include_in_schema=False)
router = APIRouter(include_in_schema=False, route_class=web.ConsoleRoute)


@outside.get("/sign-in")
def sign_in_page(request: Request, next: str = "/", link: str | None = None) -> Response:
    """The form, or the end of a one-time link."""
    if link is None:
        return _form(request, next)
    row = service_of(request).write(sessions.take_token, sessions.LINK, link)
    if row is None:
        return _form(request, next, "This link is used up or too old: sign in with a key.", 401)
    return _let_in(request, Caller(row.key_id or "", row.name or "", Role(row.role)), next)


@outside.post("/sign-in")
async def sign_in(
    request: Request,
    key: Annotated[str, Form(max_length=200)],
    csrf: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Signs in with a key."""
    try:
        web.require_form_token(request, csrf, request.cookies.get(FORM_COOKIE, ""))
        caller = await admit_key(request, key.strip(), "/sign-in")
    except CallRefused as why:
        text = NO_KEY if why.http_status == 401 else str(why)
        return _form(request, next, text, why.http_status)
    return await asyncio.to_thread(_let_in, request, caller, next)


@outside.get("/sign-in/oidc")
def sign_in_elsewhere(request: Request, next: str = "/") -> Response:
    """Sends the browser to the OpenID Connect provider."""
    service = service_of(request)
    if not _has_provider(service.settings):
        return _form(request, next, "Signing in by OpenID Connect is not set up here.", 404)
    try:
        page = _discover(service.settings)["authorization_endpoint"]
    except ExpectedError as why:
        return _form(request, next, str(why), why.http_status)
    before = web.find_signed_in(service, request.cookies.get(web.COOKIE, ""))
    until = before.valid_until.isoformat() if before is not None and before.recheck else None
    nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    kept = {"nonce": nonce, "verifier": verifier, "next": web.local_path(next), "until": until}
    state = service.write(sessions.issue_token, sessions.REQUEST, None, seconds=ASKED_SECONDS, request=kept)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    asked = {
        "response_type": "code",
        "client_id": service.settings.oidc_client_id,
        "redirect_uri": _callback(request),
        "scope": "openid profile email",
        "nonce": nonce,
        "code_challenge": challenge.decode(),
        "code_challenge_method": "S256",
        "state": state,
    }
    response = web.go_to(f"{page}?{urlencode(asked)}")
    _set_cookie(request, response, FORM_COOKIE, state, seconds=ASKED_SECONDS)
    return response


@outside.get("/sign-in/oidc/callback")
def back_from_elsewhere(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """The provider's answer: only to the browser that asked, once."""
    service, row = service_of(request), None
    if state and hmac.compare_digest(state.encode(), request.cookies.get(FORM_COOKIE, "").encode()):
        row = service.write(sessions.take_token, sessions.REQUEST, state)
    if row is None:
        text = "This sign-in was not begun in this browser, or is too old: begin again."
        return _form(request, "/", text, 403)
    kept, to = row.request, str(row.request["next"])
    if error or not code:
        return _form(request, to, "The sign-in provider refused: sign in again, or with a key.", 403)
    try:
        caller = _finish(service.settings, code, kept, _callback(request))
    except ExpectedError as why:
        return _form(request, to, str(why), why.http_status)
    until = datetime.fromisoformat(kept["until"]) if kept["until"] else None
    return _let_in(request, caller, to, service.settings.oidc_recheck_minutes, until)


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """Ends the session."""
    service_of(request).write(sessions.end_session, request.cookies.get(web.COOKIE, ""))
    response = web.go_to("/sign-in")
    response.delete_cookie(web.COOKIE)
    return response


def _let_in(
    request: Request,
    caller: Caller,
    to: str,
    recheck_minutes: int | None = None,
    until: datetime | None = None,
) -> Response:
    """A new session for the caller, whatever the browser had before (without a key id it is judged by its role); it ends
    no later than `until`, the end of the one that it goes on from. The provider is asked again after `recheck_minutes`."""
    service = service_of(request)
    seconds = int(service.settings.console_hours * 3600)
    recheck_at = None if recheck_minutes is None else utc_now(60 * recheck_minutes)
    more = {"recheck_at": recheck_at, "valid_until": until}
    given = {name: value for name, value in more.items() if value is not None}
    with service.database.writing() as connection:
        sessions.end_session(connection, request.cookies.get(web.COOKIE, ""))
        token = sessions.issue_token(connection, sessions.SIGNED_IN, caller, seconds=seconds, **given)
    service.write(note_audit, audit_entry(request, "/sign-in", caller), "answered", 303)
    response = web.go_to(web.local_path(to))
    _set_cookie(request, response, web.COOKIE, token, seconds=seconds)
    response.delete_cookie(FORM_COOKIE)
    return response


def _set_cookie(request: Request, response: Response, name: str, token: str, *, seconds: int) -> None:
    """A cookie that no script reads, and that no other site's form sends."""
    secure = request.url.scheme == "https" or service_of(request).settings.console_secure
    response.set_cookie(name, token, max_age=seconds, httponly=True, secure=secure, samesite="lax")


def _form(request: Request, to: str, text: str | None = None, status: int = 200) -> Response:
    token, settings = secrets.token_urlsafe(24), service_of(request).settings
    provider = urlsplit(str(settings.oidc_issuer)).hostname if _has_provider(settings) else None
    shown = {"form_csrf": web.csrf_of(token), "next": web.local_path(to), "text": text, "oidc": provider}
    response = web.render(request, "sign_in.html", status, **shown)
    _set_cookie(request, response, FORM_COOKIE, token, seconds=3600)
    return response


def _callback(request: Request) -> str:
    """Where the provider sends the browser back to."""
    base = service_of(request).settings.console_url or str(request.base_url)
    return f"{base.rstrip('/')}/sign-in/oidc/callback"


def _has_provider(settings: Settings) -> bool:
    return bool(settings.oidc_issuer and settings.oidc_client_id)


def _finish(settings: Settings, code: str, kept: dict[str, Any], redirect: str) -> Caller:
    """The person behind a code. Raises CallRefused where the provider does not answer, its token is not valid, or
    the person has no role here."""
    found = _discover(settings)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect,
        "client_id": str(settings.oidc_client_id),
        "code_verifier": kept["verifier"],
    }
    if settings.oidc_client_secret is not None:
        form["client_secret"] = settings.oidc_client_secret.get_secret_value()
    answer = _ask("POST", found["token_endpoint"], data=form)
    keys = _ask("GET", found["jwks_uri"])
    try:
        token = jwt.decode(str(answer["id_token"]), KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
        wanted: dict[str, Any] = {name: {"essential": True} for name in ("iss", "aud", "exp", "sub")}
        wanted["iss"]["value"], wanted["aud"]["value"] = (
            str(settings.oidc_issuer),
            str(settings.oidc_client_id),
        )
        jwt.JWTClaimsRegistry(leeway=LEEWAY, **wanted).validate(token.claims)
        if not hmac.compare_digest(str(token.claims.get("nonce")), kept["nonce"]):
            raise ValueError("nonce")
    except (JoseError, ValueError, KeyError, TypeError) as why:
        text = f"The provider's answer is not valid ({type(why).__name__}): sign in again."
        raise CallRefused(401, text) from None
    return _caller_of(settings, dict(token.claims))


def _caller_of(settings: Settings, claims: dict[str, Any]) -> Caller:
    """The person whom the claims name, with the highest role that they give. Pure."""
    if claims.get("active") is False or claims.get("deactivated") is True:
        raise CallRefused(403, "Your account is deactivated: ask an admin of the sign-in provider.")
    given = claims.get(settings.oidc_role_claim)
    words = {str(one) for one in (given if isinstance(given, list) else str(given or "").split(","))}
    roles = {
        Role.ADMIN: settings.oidc_admin_values,
        Role.OPERATOR: settings.oidc_operator_values,
        Role.VIEWER: settings.oidc_viewer_values,
    }
    for role, values in roles.items():
        if words & {one.strip() for one in values.split(",") if one.strip()}:
            name = str(claims.get("name") or claims.get("email") or claims["sub"])
            return Caller("", "".join(one for one in name if one.isprintable())[:100], role)
    text = f"You are known, and have no role here: ask an admin to add one to “{settings.oidc_role_claim}”."
    raise CallRefused(403, text)


def _discover(settings: Settings) -> dict[str, Any]:
    issuer = str(settings.oidc_issuer)
    found = _ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise CallRefused(503, "The sign-in provider names another issuer than MIDAS_OIDC_ISSUER.")
    return found


def _ask(method: str, url: str, **options: Any) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.hostname and is_this_machine(parts.hostname)):
        raise WrongInput("The sign-in provider has an address without https.")
    try:
        answer = httpx.request(method, url, timeout=SECONDS, trust_env=False, **options)
        found = answer.raise_for_status().json()
        if not isinstance(found, dict):
            raise ValueError("no object")
    except (httpx.HTTPError, ValueError) as why:
        text = f"The sign-in provider did not answer as it should: {type(why).__name__}."
        raise CallRefused(503, text) from None
    return found
