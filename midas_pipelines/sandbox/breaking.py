"""How each kind of fault looks from outside, down to connections that are really reset."""

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

TRANSPORT = "midas.transport"  # where the server's protocol leaves the connection in the ASGI scope
TURNS = 3  # of the event loop between a reset and the server's noticing it
GARBAGE = b"<html><body><h1>Bad gateway</h1></body></html>"
Apply = Callable[[], tuple[int, bytes, list[tuple[bytes, bytes]]]]


class Connection(Protocol):
    """What is needed of a server's transport to cut it."""

    def abort(self) -> None: ...
    def get_extra_info(self, name: str) -> Any: ...


async def meet(kind: str, faults: Faults, scope: Scope, send: Send, apply: Apply) -> int:
    """Answers a call the way `kind` of fault does; returns the status sent, 0 for none."""
    if kind == "429":
        return await _send(send, 429, _error("rate_limited", "Too many calls."), retry_after(faults.coin()))
    if kind in ("500", "503"):
        if kind == "500" and faults.coin():
            apply()  # nobody can tell from outside
        return await _send(send, int(kind), _error("unavailable", "Something broke."), [])
    if kind == "slow":
        await asyncio.sleep(faults.slow_seconds)
        return await _send(send, *apply())
    if kind == "garbage":
        status, _, _ = apply()
        return await _send(send, 200 if status == 204 else status, GARBAGE, [(b"content-type", b"text/html")])
    if kind == "truncated":
        return await _send_half(scope, send, *apply())
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


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    names = {name for name, _ in headers}
    given = headers if b"content-type" in names else [*headers, (b"content-type", b"application/json")]
    if status != 204:
        given = [*given, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})
    return status


async def _send_half(
    scope: Scope, send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> int:
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
