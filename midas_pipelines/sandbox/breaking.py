"""Produces each kind of fault, down to connections that are really reset."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Protocol

import httpx
from starlette.types import Scope, Send

from midas_pipelines.sandbox.faults import Faults
from midas_pipelines.sandbox.habits.habit import Answer

TRANSPORT = "midas.transport"  # where the server's protocol leaves the connection in the ASGI scope
TURNS = 3  # loop iterations until the server notices a reset
JSON = (b"content-type", b"application/json")
GARBAGE = b"<html><body><h1>Bad gateway</h1></body></html>"
Apply = Callable[[], Answer]


class Connection(Protocol):
    """The part of a server's transport that is needed to cut it."""

    def abort(self) -> None: ...
    def get_extra_info(self, name: str) -> Any: ...


async def meet(kind: str, faults: Faults, scope: Scope, send: Send, apply: Apply) -> int:
    """Answers a call the way `kind` of fault does; returns the status sent, 0 for none."""
    if kind == "429":
        headers = [JSON, *retry_after(faults.coin())]
        return await reply(send, (429, _error("rate_limited", "Too many calls."), headers))
    if kind in ("500", "503"):
        if kind == "500" and faults.coin():
            apply()  # invisible from outside
        return await reply(send, (int(kind), _error("unavailable", "Something broke."), [JSON]))
    if kind == "slow":
        await asyncio.sleep(faults.slow_seconds)
        return await reply(send, apply())
    if kind == "garbage":
        status, _, _ = apply()
        return await reply(
            send, (200 if status == 204 else status, GARBAGE, [(b"content-type", b"text/html")])
        )
    if kind == "truncated":
        return await _send_half(scope, send, apply())
    if kind == "timeout":
        if faults.coin():
            apply()
        await asyncio.sleep(faults.timeout_seconds)
    elif kind == "reset-after-apply":
        apply()
    await cut(scope)
    return 0


def retry_after(as_date: bool) -> list[tuple[bytes, bytes]]:
    """A pause of one second, in either form HTTP knows (a date has whole seconds, so that one may say up to two)."""
    if not as_date:
        return [(b"retry-after", b"1")]
    until = datetime.now(UTC) + timedelta(seconds=random.uniform(1.0, 1.9))
    return [(b"retry-after", format_datetime(until, usegmt=True).encode())]


async def cut(scope: Scope) -> None:
    """Resets the connection. Without one (an application called in process) raises what a client would see."""
    connection: Connection | None = scope.get("extensions", {}).get(TRANSPORT)
    if connection is None:
        raise httpx.ReadError("the sandbox reset the connection")
    raw = connection.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):  # lingering for no time makes the kernel send RST in place of FIN
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.abort()
    for _ in range(TURNS):  # until the server has seen it; else it logs that no answer was given
        await asyncio.sleep(0)


async def reply(send: Send, given: Answer) -> int:
    """Sends an answer; gives its status."""
    status, body, headers = given
    parts = [body] if isinstance(body, bytes) else body
    if isinstance(body, bytes) and status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return status


async def _send_half(scope: Scope, send: Send, given: Answer) -> int:
    status, whole, headers = given
    body = whole if isinstance(whole, bytes) else b"".join(whole)
    announced = [*headers, (b"content-length", str(len(body) or 2).encode())]
    await send(
        {"type": "http.response.start", "status": 200 if status == 204 else status, "headers": announced}
    )
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    await asyncio.sleep(0.01)  # let the half leave before the reset overtakes it
    await cut(scope)
    return 0


def _error(code: str, message: str) -> bytes:
    return f'{{"error":{{"code":"{code}","message":"{message}"}}}}'.encode()
