"""What every call passes first: a request id, a limit on its rate, its size and its time; and the way in of webhooks,
which are verified and stored here. Plain ASGI, for it comes before everything else."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from midas_pipelines.errors import CallRefused, ExpectedError
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.api.callers import Callers, Rate, Refusals, address_of_caller, key_of
from midas_pipelines.gateway.api.problems import NO_DATABASE, answer_error, problem
from midas_pipelines.gateway.inbox import BadSignature
from midas_pipelines.gateway.service import Service
from midas_pipelines.store.gateway.audit import AuditEntry

SENSIBLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LARGEST_BODY = 1_000_000
"""Bytes; a larger body is answered 413."""
BODY_SECONDS = 10.0
SHED_SECONDS = 5.0
"""While a webhook waits longer to be stored, calls are answered 503."""
MOST_UNDER_WAY = 500
"""Calls in progress, about a second's worth of webhooks; more are answered 503."""

WEBHOOKS = "/api/marketplace/webhooks"
PROBES = frozenset({"/healthz", "/readyz"})
STREAMS = frozenset({"/live"})
"""Paths whose answers last as long as a page is open: they do not count as calls under way."""
FREE = frozenset({WEBHOOKS, "/healthz"})
"""Paths without a limit on the rate of calls."""

LOGS_PER_SECOND = 0.1

log = logging.getLogger(__name__)


router = APIRouter(prefix=PREFIX, route_class=GuardedRoute, tags=["webhooks"])


class Accepted(BaseModel):
    """The webhook is on disk."""

    id: str
    new: bool = Field(
        description="Whether this id was seen for the first time; a known one has no second effect."
    )


class Sent(BaseModel):
    """An event as 4Seller sends it."""

    type: str = Field(min_length=1, description="`order.created`, `inventory.updated`, ...")
    timestamp: str | None = None
    data: dict[str, object] = Field(description="The whole order or product.")


@router.post(
    "/webhooks",
    summary="Take an event of 4Seller's",
    status_code=202,
    response_model=Accepted,
    responses={200: {"model": Accepted, "description": "Known already; nothing more will happen."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Sent"}}},
        }
    },
)
async def take_webhook(
    webhook_id: Annotated[str | None, Header(description="Unique for each event.")] = None,
    webhook_timestamp: Annotated[str | None, Header(description="Seconds since 1970.")] = None,
    webhook_signature: Annotated[
        str | None, Header(description="`v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`.")
    ] = None,
) -> None:
    """Standard Webhooks: signed over the raw body, at most five minutes old.

    Answered 202 once it is stored, 200 when its id was stored before. Whether it could be applied is seen in
    `midas webhooks list`, not here.
    """
    # `Limits` answers what can be verified.
    text = "No webhook can be verified here: FOURSELLER_WEBHOOK_SECRET is not set."
    raise CallRefused(401, text, {"WWW-Authenticate": "Webhook"})


class Limits:
    """The outermost layer: passes a call on, or answers it."""

    def __init__(self, app: ASGIApp, *, service: Service, callers: Callers, refusals: Refusals) -> None:
        self._app = app
        self._service = service
        self._callers = callers
        self._refusals = refusals
        self._logs = Rate(LOGS_PER_SECOND)
        self._under_way = 0
        self._webhooks: dict[int, float] = {}  # since when each one waits, the oldest first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, with its request id and what is counted about it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if SENSIBLE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._pass(scope, headers, receive, answer)
        finally:
            # The route's template, so that ids do not make a metric of their own each.
            method, path = scope["method"], scope["path"]
            route = path if path in FREE else getattr(scope.get("route"), "path", "unknown")
            metrics = self._service.metrics
            metrics.calls.labels(method, route, str(status)).inc()
            metrics.call_seconds.labels(method, route).observe(time.perf_counter() - started)

    async def _pass(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        path, request_id = scope["path"], scope["state"]["request_id"]
        is_webhook = path == WEBHOOKS and scope["method"] == "POST" and self._service.verifier.ready
        try:
            if path not in FREE:
                self._limit(scope, headers)
            if is_webhook:
                self._verify(scope, headers, None)
            body = await _read_body(headers, receive)
            if body is None:  # the caller has hung up
                return
            webhook_id = self._verify(scope, headers, body) if is_webhook else ""
            if path not in PROBES:
                self._shed()
        except CallRefused as why:
            if is_webhook and why.http_status == 401:
                actor, remote = "a webhook that is not signed", address_of_caller(scope)[:64]
                entry = AuditEntry(actor, f"POST {WEBHOOKS}", remote=remote, request_id=request_id)
                await self._refusals.note(entry, 401)
            await problem(why.http_status, str(why), request_id, headers=why.headers)(scope, receive, send)
            return
        counts = path not in STREAMS
        self._under_way += counts
        try:
            if is_webhook:
                await (await self._store(scope, webhook_id, body))(scope, receive, send)
            else:
                await self._app(scope, _replayed(body, receive), send)
        finally:
            self._under_way -= counts

    def _limit(self, scope: Scope, headers: Headers) -> None:
        wait = self._callers.take(address_of_caller(scope), key_of(headers.get("authorization", "")))
        if wait:
            self._count_refused("rate")
            raise CallRefused(429, "Too many calls: slow down, then go on.", _again(wait))

    def _verify(self, scope: Scope, headers: Headers, body: bytes | None) -> str:
        """The id of a webhook that 4Seller signed, checked by its headers, then with its body, without the database."""
        verifier = self._service.verifier
        try:
            return verifier.check_head(headers)[0] if body is None else verifier.check(body, headers)
        except BadSignature as why:
            self._count_refused(why.reason)
            self._log(why.reason, f"A webhook was refused. {why}")
            close = {"Connection": "close"}  # what it still sends is not read
            wait = self._callers.unsigned(address_of_caller(scope)) if why.reason != "timestamp" else 0.0
            if wait:
                text = "Too many webhooks that 4Seller did not sign."
                raise CallRefused(429, text, _again(wait) | close) from None
            raise CallRefused(401, str(why), {"WWW-Authenticate": "Webhook"} | close) from None

    async def _store(self, scope: Scope, webhook_id: str, body: bytes) -> Response:
        """The answer to a signed webhook, once it is stored: a worker applies it a moment later."""
        self._webhooks[id(scope)] = time.monotonic()
        try:
            new = await self._service.inbox.take(webhook_id, body)
        except (ExpectedError, *NO_DATABASE) as error:
            return await answer_error(Request(scope), error)
        finally:
            del self._webhooks[id(scope)]
        self._service.metrics.received.labels(str(new).lower()).inc()
        return JSONResponse({"id": webhook_id, "new": new}, 202 if new else 200)

    def _shed(self) -> None:
        """Refuses calls that could not be answered in time, so that the caller can retry."""
        oldest = next(iter(self._webhooks.values()), None)
        late = oldest is not None and time.monotonic() - oldest > SHED_SECONDS
        if late or self._under_way >= MOST_UNDER_WAY:
            self._count_refused("shed")
            self._log("shed", f"Calls are answered 503: {self._under_way} are under way.")
            text = "More calls wait than can be answered in time; try again shortly."
            raise CallRefused(503, text, _again(3))

    def _count_refused(self, reason: str) -> None:
        self._service.metrics.refused.labels(reason).inc()

    def _log(self, kind: str, text: str) -> None:
        """Logs the text, at most one of each kind per ten seconds: the metric counts them all."""
        if not self._logs.take(kind, time.monotonic()):
            log.warning(text)


async def _read_body(headers: Headers, receive: Receive) -> bytes | None:
    """The body; None when the caller hangs up. Raises CallRefused for one that is too large or too slow."""
    close = {"Connection": "close"}
    too_large = CallRefused(413, f"The body may have {LARGEST_BODY} bytes.", close)
    declared = headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > LARGEST_BODY:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        text = f"The body did not arrive within {BODY_SECONDS:g} seconds."
        raise CallRefused(408, text, close) from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _again(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds)))}
