"""What every call passes first: limits on its head, its rate, its size and its time, and a request id; and the way in of
webhooks, which are verified and stored here. Plain ASGI and uvicorn's protocol, for it comes before everything else."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from midas_pipelines.errors import CallRefused, ExpectedError
from midas_pipelines.gateway.api.callers import Callers, Rate, Refusals, address_of_caller, key_of
from midas_pipelines.gateway.api.problems import NO_DATABASE, answer_error, problem
from midas_pipelines.gateway.inbox import BadSignature
from midas_pipelines.gateway.service import Service
from midas_pipelines.store.gateway.audit import AuditEntry

HEADER_SECONDS = 10.0  # how long a caller may take to send the head of a request
LARGEST_HEAD = 32_000  # bytes
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

SENSIBLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LARGEST_BODY = 1_000_000  # bytes; a larger body is answered 413
BODY_SECONDS = 10.0
SHED_SECONDS = 5.0  # while a webhook waits longer to be stored, calls are answered 503
MOST_UNDER_WAY = 500  # calls in progress, about a second's worth of webhooks; more are answered 503

WEBHOOKS = "/api/marketplace/webhooks"
PROBES = frozenset({"/healthz", "/readyz"})
STREAMS = frozenset({"/live"})
"""Paths whose answers last as long as a page is open: they do not count as calls under way."""
FREE = frozenset({WEBHOOKS, "/healthz"})  # paths without a limit on the rate of calls

LOGS_PER_SECOND = 0.1
CLOSE = {"Connection": "close"}  # what the caller still sends is not read

log = logging.getLogger(__name__)


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection that does not finish the head of a request in time, or sends one that is too large, or
    fields after the body: uvicorn itself has no such limit."""

    _timer: asyncio.TimerHandle | None = None  # while a head is not complete
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self._timer is not None else 0
        if self._head_bytes > LARGEST_HEAD:
            self._close(TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._timer is None:  # after the body, where uvicorn would collect them without end
            raise ValueError("fields after the body are not taken")  # ends the parsing
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._cancel_timer()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > LARGEST_HEAD:
            self._close(TOO_LARGE)
            raise ValueError("the head is too large")  # ends the parsing
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(HEADER_SECONDS, self._close)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, answer: bytes = b"") -> None:
        if self.transport is not None and not self.transport.is_closing():
            if answer and (self.cycle is None or self.cycle.response_complete):
                self.transport.write(answer)
            self.transport.close()


class Limits:
    """The outermost layer: passes a call on, or answers it."""

    def __init__(self, app: ASGIApp, *, service: Service, callers: Callers, refusals: Refusals) -> None:
        self._app, self._service = app, service
        self._callers, self._refusals = callers, refusals
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
        is_webhook = path == WEBHOOKS and scope["method"] == "POST"
        try:
            if path not in FREE:
                wait = self._callers.take(address_of_caller(scope), key_of(headers.get("authorization")))
                if wait:
                    raise self._refusal("rate", 429, "Too many calls: slow down, then go on.", _again(wait))
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
                actor, address = "a webhook that is not signed", address_of_caller(scope)[:64]
                entry = AuditEntry(actor, f"POST {WEBHOOKS}", remote=address, request_id=request_id)
                await self._refusals.note(entry, 401)
            await problem(why.http_status, str(why), request_id, why.headers)(scope, receive, send)
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

    def _verify(self, scope: Scope, headers: Headers, body: bytes | None) -> str:
        """The id of a webhook that 4Seller signed, checked by its headers, then with its body, without the database."""
        verifier = self._service.verifier
        try:
            return verifier.check_head(headers)[0] if body is None else verifier.check(body, headers)
        except BadSignature as why:
            self._log(why.reason, f"A webhook was refused. {why}")
            wait = self._callers.unsigned(address_of_caller(scope)) if why.reason != "timestamp" else 0.0
            status, text, more = 401, str(why), {"WWW-Authenticate": "Webhook"}
            if wait:
                status, text, more = 429, "Too many webhooks that 4Seller did not sign.", _again(wait)
            raise self._refusal(why.reason, status, text, more | CLOSE) from None

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
            self._log("shed", f"Calls are answered 503: {self._under_way} are under way.")
            text = "More calls wait than can be answered in time; try again shortly."
            raise self._refusal("shed", 503, text, _again(3))

    def _refusal(self, reason: str, status: int, text: str, headers: dict[str, str]) -> CallRefused:
        self._service.metrics.refused.labels(reason).inc()
        return CallRefused(status, text, headers)

    def _log(self, kind: str, text: str) -> None:
        """Logs the text, at most one of each kind per ten seconds: the metric counts them all."""
        if not self._logs.take(kind, time.monotonic()):
            log.warning(text)


async def _read_body(headers: Headers, receive: Receive) -> bytes | None:
    """The body; None when the caller hangs up. Raises CallRefused for one that is too large or too slow."""
    declared, body, more = headers.get("content-length", "0"), bytearray(), True
    is_large = declared.isdigit() and int(declared) > LARGEST_BODY
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more and not is_large:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message.get("body", b"")
                is_large, more = len(body) > LARGEST_BODY, message.get("more_body", False)
    except TimeoutError:
        text = f"The body did not arrive within {BODY_SECONDS:g} seconds."
        raise CallRefused(408, text, CLOSE) from None
    if is_large:
        raise CallRefused(413, f"The body may have {LARGEST_BODY} bytes.", CLOSE)
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Message:
        return next(messages, None) or await receive()

    return again


def _again(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds)))}
