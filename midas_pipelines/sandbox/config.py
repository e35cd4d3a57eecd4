"""How a sandbox behaves: its options, the fault that a call meets, the rate limit, and each kind of fault made real, down
to reset connections. Most can be changed at run time through `/__sandbox`."""

import asyncio
import math
import random
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
from starlette.types import Scope, Send

from midas_pipelines.sandbox.habits import checked_habits
from midas_pipelines.sandbox.requests import Answer, Headers
from midas_pipelines.sandbox.state import checked_number

# The kinds that `fault_rate` is divided among. Left out are 429 (a rate limit is its own knob, and one 429 rightly makes a
# client pause everything) and timeout and slow (they measure patience, not recovery).
MIX = ("500", "503", "reset-before", "reset-after-apply", "garbage", "truncated")
FAULT_KINDS = (*MIX, "429", "timeout", "slow")


@dataclass
class SandboxConfig:
    """How a sandbox behaves. Times are in the unit their name says; shares are between 0 and 1."""

    api_key: str = "sandbox-key"
    seller_id: str = "sandbox-seller"
    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    rate_limit: float | None = None  # requests a second; None for no limit
    faults: dict[str, float] = field(default_factory=dict)  # share of calls by kind
    fault_rate: float = 0.0  # shortcut: this share of calls, spread over MIX
    habits: dict[str, float] = field(default_factory=dict)  # what `habits` names, with their numbers
    honour_idempotency_key: bool = True
    state_file: str | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = None
    shoppers_rate: float = 0.0  # actions a second; 0 for none
    seed: int | None = None

    def __post_init__(self) -> None:
        spread = {kind: self.fault_rate / len(MIX) for kind in MIX if self.fault_rate}
        self.faults = checked_faults(spread | self.faults)
        self.habits = checked_habits(self.habits)


def checked_faults(faults: dict[str, float]) -> dict[str, float]:
    """The faults as given. Raises ValueError, in a sentence, for an unknown kind or shares beyond 1."""
    for kind, share in faults.items():
        if kind not in FAULT_KINDS:
            raise ValueError(f"there is no fault {kind!r}; known are {', '.join(FAULT_KINDS)}")
        checked_number(f"the share of {kind}", share, 1)
    if sum(faults.values()) > 1 + 1e-9:
        raise ValueError("the shares of all faults together must not pass 1")
    return dict(faults)


TRANSPORT = "midas.transport"  # where the server's protocol leaves the connection in the ASGI scope
TURNS = 3  # loop iterations until the server notices a reset
JSON = (b"content-type", b"application/json")
LIMITED = b'{"error":{"code":"rate_limited","message":"Too many calls."}}'
BROKEN = b'{"error":{"code":"unavailable","message":"Something broke."}}'
GARBAGE = b"<html><body><h1>Bad gateway</h1></body></html>"
Apply = Callable[[], Answer]


class Faults:
    """Draws the fault of each call; the same seed and calls give the same faults."""

    def __init__(self, config: SandboxConfig) -> None:
        self._random = random.Random(config.seed)
        self._next: deque[str | None] = deque()
        self.shares = dict(config.faults)
        self.latency_ms, self.jitter_ms = config.latency_ms, config.jitter_ms
        self.slow_seconds, self.timeout_seconds = 2.0, 120.0  # the latter is left hanging

    def set(self, shares: dict[str, float]) -> None:
        """Replaces all shares and drops scripted faults. Raises ValueError for an unknown kind."""
        self._next.clear()
        self.shares = checked_faults(shares)

    def script(self, kinds: list[str | None]) -> None:
        """The next calls meet exactly these, None for no fault; the shares apply again after them.
        Raises ValueError for an unknown kind."""
        if not isinstance(kinds, list) or not all(kind is None or isinstance(kind, str) for kind in kinds):
            raise ValueError("the next faults are a list of kinds of fault and nulls")
        checked_faults({kind: 0.0 for kind in kinds if kind is not None})
        self._next = deque(kinds)

    def draw(self) -> str | None:
        """The kind of fault this call meets, or None."""
        if self._next:
            return self._next.popleft()
        drawn = self._random.random() if self.shares else 0.0
        for kind, share in self.shares.items():
            if drawn < share:
                return kind
            drawn -= share
        return None

    def coin(self) -> bool:
        """Heads or tails: whether a call that fails was applied first."""
        return self._random.random() < 0.5

    def delay(self) -> float:
        """Seconds this call takes."""
        jitter = self._random.uniform(-1, 1) * self.jitter_ms if self.jitter_ms else 0.0
        return max(0.0, self.latency_ms + jitter) / 1000


class RateLimit:
    """A rate limit (GCRA: one number, the time the next request is due); a tenth of a second's worth may come at once."""

    def __init__(self, rate: float | None) -> None:
        self._due = 0.0
        self.set(rate)

    def set(self, rate: float | None) -> None:
        """Changes the limit; None or 0 lifts it. Raises ValueError."""
        self.rate = checked_number("rate_limit", rate or 0) or None
        self.burst = max(2, math.ceil((rate or 0) / 10))

    def take(self) -> float:
        """0 when the request is within the limit, else the seconds until one will be."""
        if self.rate is None:
            return 0.0
        now = time.monotonic()
        due = max(self._due, now)
        wait = due - now - self.burst / self.rate
        if wait > 0:
            return wait
        self._due = due + 1.0 / self.rate
        return 0.0


async def meet(kind: str, faults: Faults, scope: Scope, send: Send, apply: Apply) -> int:
    """Answers a call the way `kind` of fault does; returns the status sent, 0 for none."""
    match kind:
        case "429":  # a pause of one second, in either form HTTP knows (a date has whole seconds: up to two)
            until = datetime.now(UTC) + timedelta(seconds=random.uniform(1.0, 1.9))
            pause = format_datetime(until, usegmt=True).encode() if faults.coin() else b"1"
            return await reply(send, (429, LIMITED, [JSON, (b"retry-after", pause)]))
        case "500" | "503":
            if kind == "500" and faults.coin():
                apply()  # invisible from outside
            return await reply(send, (int(kind), BROKEN, [JSON]))
        case "slow":
            await asyncio.sleep(faults.slow_seconds)
            return await reply(send, apply())
        case "garbage":
            status, _, _ = apply()
            headers = [(b"content-type", b"text/html")]
            return await reply(send, (200 if status == 204 else status, GARBAGE, headers))
        case "truncated":
            await _send_half(send, apply())
        case "timeout":
            if faults.coin():
                apply()
            await asyncio.sleep(faults.timeout_seconds)
        case "reset-after-apply":
            apply()
    await cut(scope)
    return 0


async def cut(scope: Scope) -> None:
    """Resets the connection. Without one (an application called in process) raises what a client would see."""
    connection: asyncio.Transport | None = scope.get("extensions", {}).get(TRANSPORT)
    if connection is None:
        raise httpx.ReadError("the sandbox reset the connection")
    raw = connection.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError, ValueError):  # lingering for no time makes the kernel send RST in place of FIN
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.abort()
    for _ in range(TURNS):  # until the server has seen it; else it logs that no answer was given
        await asyncio.sleep(0)


async def reply(send: Send, given: Answer) -> int:
    """Sends an answer; gives its status."""
    status, body, headers = given
    length = len(body) if isinstance(body, bytes) and status != 204 else None
    await _send_head(send, status, headers, length)
    for part in [body] if isinstance(body, bytes) else body:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return status


async def _send_head(send: Send, status: int, headers: Headers, length: int | None) -> None:
    size = [] if length is None else [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *size]})


async def _send_half(send: Send, given: Answer) -> None:
    status, whole, headers = given
    body = whole if isinstance(whole, bytes) else b"".join(whole)
    await _send_head(send, 200 if status == 204 else status, headers, len(body) or 2)
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    await asyncio.sleep(0.01)  # let the half leave before the reset overtakes it
