"""Signing in by OpenID Connect: the authorization code flow with PKCE, state and nonce; the ID token is verified here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from midas_pipelines.errors import CallRefused, WrongInput
from midas_pipelines.settings import Settings
from midas_pipelines.store.gateway.keys import Caller, Role

ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
"""Only asymmetric ones: nobody who knows the client secret can make a token."""

SECONDS = 5.0
LEEWAY = 60
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_configured(settings: Settings) -> bool:
    """Whether people may sign in so."""
    return bool(settings.oidc_issuer and settings.oidc_client_id)


def begin(settings: Settings, redirect: str) -> tuple[str, dict[str, Any]]:
    """The provider's page to send the browser to, and what the answer is checked against."""
    found = _discover(settings)
    kept = {name: secrets.token_urlsafe(32) for name in ("nonce", "verifier")} | {"redirect": redirect}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(kept["verifier"].encode()).digest()).rstrip(b"=")
    asked = {
        "response_type": "code",
        "client_id": settings.oidc_client_id,
        "redirect_uri": redirect,
        "scope": "openid profile email",
        "nonce": kept["nonce"],
        "code_challenge": challenge.decode(),
        "code_challenge_method": "S256",
    }
    return f"{found['authorization_endpoint']}?{urlencode(asked)}", kept


def finish(settings: Settings, code: str, kept: dict[str, Any]) -> Caller:
    """The person behind a code.

    Raises:
        CallRefused: the provider does not answer, its token is not valid, or the person has no role here.
    """
    found = _discover(settings)
    secret = settings.oidc_client_secret
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": kept["redirect"],
        "client_id": str(settings.oidc_client_id),
        "code_verifier": kept["verifier"],
    }
    if secret is not None:
        form["client_secret"] = secret.get_secret_value()
    answer = _ask("POST", found["token_endpoint"], data=form)
    keys = _ask("GET", found["jwks_uri"])
    return caller_of(settings, _claims(settings, answer, keys, kept["nonce"]))


def caller_of(settings: Settings, claims: dict[str, Any]) -> Caller:
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
    raise CallRefused(
        403, f"You are known, and have no role here: ask an admin to add one to “{settings.oidc_role_claim}”."
    )


def _claims(settings: Settings, answer: dict[str, Any], keys: dict[str, Any], nonce: str) -> dict[str, Any]:
    """The claims of a verified ID token."""
    try:
        token = jwt.decode(str(answer["id_token"]), KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
        rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": str(settings.oidc_issuer)},
            aud={"essential": True, "value": str(settings.oidc_client_id)},
            exp={"essential": True},
            sub={"essential": True},
        )
        rules.validate(token.claims)
        if not hmac.compare_digest(str(token.claims.get("nonce")), nonce):
            raise ValueError("nonce")
    except (JoseError, ValueError, KeyError, TypeError) as why:
        raise CallRefused(
            401, f"The provider's answer is not valid ({type(why).__name__}): sign in again."
        ) from None
    return dict(token.claims)


def _discover(settings: Settings) -> dict[str, Any]:
    issuer = str(settings.oidc_issuer)
    found = _ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise CallRefused(503, "The sign-in provider names another issuer than MIDAS_OIDC_ISSUER.")
    return found


def _ask(method: str, url: str, **options: Any) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise WrongInput("The sign-in provider has an address without https.")
    try:
        answer = httpx.request(method, url, timeout=SECONDS, trust_env=False, **options)
        found = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as why:
        raise CallRefused(
            503, f"The sign-in provider did not answer as it should: {type(why).__name__}."
        ) from None
    if not isinstance(found, dict):
        raise CallRefused(503, "The sign-in provider did not answer as it should.")
    return found
