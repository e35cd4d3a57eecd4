"""What every call passes first: a request id, a limit on its rate, on the size of its body and on the time it takes
to send it; a webhook's signature; and what is counted about it. Plain ASGI, for it comes before everything else."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.callers import Callers, Refusals, Remarks
from midas_pipelines.gateway.api.problems import problem
from midas_pipelines.gateway.inbox import BadSignature, Verifier
from midas_pipelines.store.gateway.audit import AuditEntry

SENSIBLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
BODY_SECONDS = 10.0
MOST_UNDER_WAY = 500
"""Calls in progress, about a second's worth of webhooks; more are answered 503."""

WEBHOOKS = "/api/marketplace/webhooks"
PROBES = frozenset({"/healthz", "/readyz"})
STREAMS = frozenset({"/live"})
"""Paths whose answers last as long as a page is open: they do not count as calls under way."""
FREE = frozenset({WEBHOOKS, "/healthz"})
"""Paths without a limit on the rate of calls."""

Count = Callable[[str, str, int, float], None]


class Limits:
    """The outermost layer.

    Args:
        callers: how often who may call.
        verifier: what a webhook's signature is checked with, before anything else is done for it.
        largest_body: in bytes.
        longest_wait: seconds; while a webhook waits longer to be stored, new calls are answered 503.
        count: called for each answered call: method, route, status, seconds.
        count_refused: called with the reason of each call refused here.
        refusals: writes forged webhooks into the audit log.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        callers: Callers,
        verifier: Verifier,
        largest_body: int,
        longest_wait: float,
        count: Count,
        count_refused: Callable[[str], None],
        refusals: Refusals,
    ) -> None:
        self._app = app
        self._callers = callers
        self._verifier = verifier
        self._largest_body = largest_body
        self._longest_wait = longest_wait
        self._count = count
        self._count_refused = count_refused
        self._refusals = refusals
        self._remarks = Remarks()
        self._under_way = 0
        self._webhooks: dict[int, float] = {}  # since when each one waits, the oldest first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a call on, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._pass(scope, headers, request_id, receive, answer)
        finally:
            self._count(scope["method"], _route(scope), status, time.perf_counter() - started)

    async def _pass(
        self, scope: Scope, headers: dict[bytes, bytes], request_id: str, receive: Receive, send: Send
    ) -> None:
        is_webhook = scope["path"] == WEBHOOKS and scope["method"] == "POST" and self._verifier.ready
        try:
            if scope["path"] not in FREE:
                self._limit(scope, headers)
            if is_webhook:
                self._verify(scope, None)
            body = await self._body(headers, receive)
            if body is None:  # the caller has hung up
                return
            if is_webhook:
                self._verify(scope, body)
            if scope["path"] not in PROBES:
                self._shed()
        except CallRefused as why:
            if is_webhook and why.http_status == 401:
                actor, remote = "a webhook that is not signed", address_of_caller(scope)[:64]
                entry = AuditEntry(actor, f"POST {WEBHOOKS}", remote=remote, request_id=request_id)
                await self._refusals.note(entry, 401)
            await problem(why.http_status, str(why), request_id, headers=why.headers)(scope, receive, send)
            return
        counts = scope["path"] not in STREAMS
        self._under_way += counts
        if is_webhook:
            self._webhooks[id(scope)] = time.monotonic()
        try:
            await self._app(scope, _replayed(body, receive), send)
        finally:
            self._under_way -= counts
            self._webhooks.pop(id(scope), None)

    def _limit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        wait = self._callers.take(
            address_of_caller(scope), key_of(headers.get(b"authorization", b"").decode("latin-1"))
        )
        if wait:
            self._count_refused("rate")
            raise CallRefused(429, "Too many calls: slow down, then go on.", _again(wait))

    def _verify(self, scope: Scope, body: bytes | None) -> None:
        """Refuses a webhook that 4Seller did not sign: by its headers, then with its body. Does not use the database."""
        headers = Headers(scope=scope)
        try:
            if body is None:
                self._verifier.check_head(headers)
            else:
                scope["state"]["webhook_id"] = self._verifier.check(body, headers)
        except BadSignature as why:
            self._count_refused(why.reason)
            self._remarks.note(why.reason, f"A webhook was refused. {why}")
            close = {"Connection": "close"}  # what it still sends is not read
            wait = self._callers.unsigned(address_of_caller(scope)) if why.reason != "timestamp" else 0.0
            if wait:
                text = "Too many webhooks that 4Seller did not sign."
                raise CallRefused(429, text, _again(wait) | close) from None
            raise CallRefused(401, str(why), {"WWW-Authenticate": "Webhook"} | close) from None

    def _shed(self) -> None:
        """Refuses calls that could not be answered in time, so that the caller can retry."""
        oldest = next(iter(self._webhooks.values()), None)
        late = oldest is not None and time.monotonic() - oldest > self._longest_wait
        if late or self._under_way >= MOST_UNDER_WAY:
            self._count_refused("shed")
            self._remarks.note("shed", f"Calls are answered 503: {self._under_way} are under way.")
            raise CallRefused(
                503, "More calls wait than can be answered in time; try again shortly.", _again(3)
            )

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._largest_body:
            raise self._too_large()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read(receive)
        except TimeoutError:
            raise CallRefused(
                408, f"The body did not arrive within {BODY_SECONDS:g} seconds.", {"Connection": "close"}
            ) from None

    def _too_large(self) -> CallRefused:
        return CallRefused(413, f"The body may have {self._largest_body} bytes.", {"Connection": "close"})

    async def _read(self, receive: Receive) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._largest_body:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _request_id(given: bytes) -> str:
    text = given.decode("latin-1")
    return text if SENSIBLE_ID.fullmatch(text) else uuid.uuid4().hex


def address_of_caller(scope: Scope) -> str:
    """The address that the call came from; behind a proxy that MIDAS_GATEWAY_PROXIES names, the one that it names."""
    client: Any = scope.get("client")
    return str(client[0]) if client else "local"


def key_of(authorization: str) -> str:
    """The key in an Authorization header; empty without one."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _again(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds)))}


def _route(scope: Scope) -> str:
    """The route's template, so that ids do not make a metric of their own each."""
    route = scope.get("route")
    return getattr(route, "path", "unknown")
