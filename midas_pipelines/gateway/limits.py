"""What every call passes first: a request id, a limit on its rate, on the size of its body and on the time it takes
to send it; and what is counted about it. Plain ASGI, for it stands before everything else."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from midas_pipelines.gateway.problems import problem

SENSIBLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
BODY_SECONDS = 10.0
MOST_CALLERS = 10_000

Count = Callable[[str, str, int, float], None]


class Rate:
    """A token bucket for each caller: so many calls a second, and a few seconds' worth at once."""

    def __init__(self, per_second: float, *, burst_seconds: float = 2.0) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * burst_seconds)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, now: float) -> float:
        """Takes one call; 0 when it may go on, else the seconds until the next may."""
        left, at = self._buckets.pop(caller, (self._most, now))
        left = min(self._most, left + (now - at) * self._per_second)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_second
        self._buckets[caller] = (left - 1 if wait == 0.0 else left, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        return wait


class Limits:
    """The outermost layer. `free` are paths without a rate limit, which have their own proof of who calls."""

    def __init__(
        self, app: ASGIApp, *, rate: Rate, largest_body: int, free: frozenset[str], count: Count
    ) -> None:
        self._app = app
        self._rate = rate
        self._largest_body = largest_body
        self._free = free
        self._count = count

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
        wait = (
            0.0 if scope["path"] in self._free else self._rate.take(_caller(scope, headers), time.monotonic())
        )
        if wait:
            again = {"Retry-After": str(max(1, round(wait)))}
            refusal = problem(429, "Too many calls: slow down, then go on.", request_id, headers=again)
            await refusal(scope, receive, send)
            return
        try:
            body = await self._body(headers, receive)
        except _Refusal as why:
            await problem(why.status, str(why), request_id, headers={"Connection": "close"})(
                scope, receive, send
            )
            return
        if body is None:  # the caller has hung up
            return
        await self._app(scope, _replayed(body, receive), send)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._largest_body:
            raise _Refusal(413, f"The body may have {self._largest_body} bytes.")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read(receive)
        except TimeoutError:
            raise _Refusal(408, f"The body did not arrive within {BODY_SECONDS:g} seconds.") from None

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
                raise _Refusal(413, f"The body may have {self._largest_body} bytes.")
            if not message.get("more_body"):
                return b"".join(parts)


class _Refusal(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


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


def _caller(scope: Scope, headers: dict[bytes, bytes]) -> str:
    key = headers.get(b"authorization")
    if key is not None:
        return hashlib.sha256(key).hexdigest()
    client: Any = scope.get("client")
    return client[0] if client else "local"


def _route(scope: Scope) -> str:
    """The route's template, so that ids do not make a metric of their own each."""
    route = scope.get("route")
    return getattr(route, "path", "unknown")
