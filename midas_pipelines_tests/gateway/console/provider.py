"""A small OpenID Connect provider on loopback: it signs whoever a test names in, and checks PKCE."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey


@cache  # to make one takes as long as a test
def _published() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "one"})


class Provider:
    """The provider's state; `claims` is who signs in next, `key` what signs their token."""

    def __init__(self) -> None:
        self.key = self.published = _published()
        self.claims: dict[str, Any] = {"sub": "7", "name": "Kim Sample", "groups": ["shop-staff"]}
        self.issuer = ""
        self._codes: dict[str, dict[str, str]] = {}

    def authorize(self, url: str) -> str:
        """What a browser is sent back with."""
        asked = {name: found[0] for name, found in parse_qs(urlsplit(url).query).items()}
        code = secrets.token_urlsafe(8)
        self._codes[code] = asked
        return f"/sign-in/oidc/callback?code={code}&state={asked['state']}"

    def token(self, form: dict[str, str]) -> dict[str, Any]:
        """The answer to a code; an error for a wrong verifier, or a code that was used."""
        asked = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if asked is None or base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": asked["client_id"],
            "exp": now + 60,
            "iat": now,
            "nonce": asked["nonce"],
        }
        return {"id_token": jwt.encode({"alg": "RS256", "kid": "one"}, claims | self.claims, self.key)}

    def answer(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        """One call's answer."""
        if path == "/token":
            return self.token(form)
        if path == "/jwks":
            return {"keys": [self.published.as_dict(private=False)]}
        ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/jwks"}
        return {"issuer": self.issuer} | {name: f"{self.issuer}{end}" for name, end in ends.items()}


@contextmanager
def running_provider() -> Iterator[Provider]:
    """The provider, listening."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            form = {name: found[0] for name, found in parse_qs(text).items()}
            body = json.dumps(provider.answer(urlsplit(self.path).path, form)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - as the server names it

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield provider
    server.shutdown()
    thread.join()
    server.server_close()
