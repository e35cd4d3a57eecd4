"""The client's connections, which are aiohttp's; and a call, a failed attempt, and sums of calls in words.

With fifty requests in flight httpx's own pool spends 9 ms of processor a request, aiohttp's 0.5, and httpx's request and
response around them 0.3: the client meets httpx where another transport is given, and by its errors. The adapter is ours
because the difference between "never sent" and "the answer was lost" decides whether a create may be sent again.
"""

from __future__ import annotations

import json
import ssl
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

if TYPE_CHECKING:
    import aiohttp

IDLE_SECONDS = 4.0  # shorter than servers keep a connection (5 s is usual), so that none is found just closed
CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 16_000_000
"""Bytes of a body, as it comes and decompressed: a hundred products with long descriptions need a tenth of it."""


class UnreadableAnswer(httpx.DecodingError):
    """A body that is larger than any answer of the contract, or not compressed as asked for; the text says which."""


class Received(NamedTuple):
    """An answer as it came; its headers are found in any spelling."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class AiohttpTransport:
    """Keep-alive connections, as many as there are requests at once, which the caller bounds.

    Args:
        tls: how a server's certificate is verified; None where the address is not https.
        proxied: uses the proxy that the environment names.
    """

    def __init__(self, tls: ssl.SSLContext | None, *, proxied: bool) -> None:
        self.tls = tls
        self._proxied = proxied
        self._session: aiohttp.ClientSession | None = None

    async def exchange(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes | None
    ) -> Received:
        """Sends a request to the address as it is written and reads the whole answer, decompressed. A redirect is an answer
        like any other.

        Raises:
            httpx.ConnectError: nothing was sent.
            httpx.ReadError: the answer was lost; the request may have been acted upon.
            UnreadableAnswer: the answer cannot be read; the request may have been acted upon.
        """
        import aiohttp  # takes a quarter of the time that dagster takes to load, and only a sender needs it
        import yarl

        address = yarl.URL(url, encoded=True)
        try:
            async with self.open().request(
                method, address, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                return Received(answer.status, answer.headers, await _body(answer))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise httpx.ConnectError(type(error).__name__) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise httpx.ReadError(type(error.__cause__ or error).__name__) from None

    async def aclose(self) -> None:
        """Closes every connection."""
        if self._session is not None:
            await self._session.close()

    def open(self) -> aiohttp.ClientSession:
        """The session, opened once; loading aiohttp takes a second, which delays no call here."""
        import aiohttp

        if self._session is None:  # here, because a session belongs to the running loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self.tls or True, keepalive_timeout=IDLE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                auto_decompress=False,
                trust_env=self._proxied,
                middlewares=(_sent_once,),
            )
        return self._session


async def _sent_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Hides a lost answer from aiohttp, which would send a GET, PUT or DELETE again: uncounted and not rate limited."""
    import aiohttp

    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as lost:
        raise aiohttp.ClientConnectionError from lost


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body, decompressed. Raises UnreadableAnswer."""
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise UnreadableAnswer("it is compressed in a way that was not asked for")
    unpack = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    body, received = bytearray(), 0
    async for part in answer.content.iter_any():
        received += len(part)
        try:
            body += unpack.decompress(part, LARGEST_ANSWER - len(body) + 1) if unpack else part
        except zlib.error:
            raise UnreadableAnswer("it is not valid gzip") from None
        if max(received, len(body)) > LARGEST_ANSWER:
            raise UnreadableAnswer(f"it is larger than {LARGEST_ANSWER // 1_000_000} MB")
    if unpack and received and not unpack.eof:
        raise UnreadableAnswer("its gzip ends early")
    return bytes(body)


@dataclass(frozen=True, slots=True)
class Call:
    """What to send: `template` names the endpoint in records, `path` is the real path.

    `item` is the SKU or the id the call is about. `resend` is False for a call that must never be sent again
    once it may have been applied.
    """

    method: str
    template: str
    path: str
    item: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    resend: bool = True

    @property
    def endpoint(self) -> str:
        """The method and the templated path, e.g. `PATCH /products/{id}/inventory`."""
        return f"{self.method} {self.template}"

    @property
    def writes(self) -> bool:
        """Whether the call may change something."""
        return self.method != "GET"

    @property
    def subject(self) -> str:
        """The call in words: action and item."""
        return f"{self.endpoint} for {self.item}" if self.item else self.endpoint


@dataclass(frozen=True, slots=True)
class FailedCall:
    """One attempt that failed. `message` holds no key and no personal data; `status` is None without an answer;
    `pause_seconds` is the pause that a 429 asked for."""

    endpoint: str
    status: int | None
    code: str | None
    attempt: int
    message: str
    item: str | None
    at: datetime
    pause_seconds: float = 0.0


def as_json(value: dict[str, Any]) -> bytes:
    """The body of a call."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def as_time(moment: datetime) -> str:
    """An aware moment as the contract writes it. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a moment sent to 4Seller needs an offset; give an aware datetime")
    return moment.isoformat()


@dataclass
class CallSums:
    """Sums over calls as they were sent, each attempt counted; a call lasts from its sending to its answer.

    Args:
        requests: finished calls, so that no share of them is above one.
        failed: those of them that failed, also where a retry succeeded.
        limited: failed calls that met 4Seller's rate limit (429).
        writes: calls that change something.
        seconds: how long all calls lasted together.
        write_seconds: how long the writes lasted together.
        busy_seconds: for how long at least one call was under way.
    """

    requests: int = 0
    failed: int = 0
    limited: int = 0
    writes: int = 0
    seconds: float = 0.0
    write_seconds: float = 0.0
    busy_seconds: float = 0.0

    def since(self, earlier: CallSums) -> CallSums:
        """The difference to `earlier`, a reading of the same meter."""
        return CallSums(*(now - before for now, before in zip(astuple(self), astuple(earlier), strict=True)))

    def as_counts(self) -> dict[str, int | float]:
        """The sums by name, for storing; seconds to the tenth of a millisecond."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class CallMeter:
    """Adds up the calls of one event loop; `sent` counts those that have begun."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._under_way = self.sent = 0
        self._busy_since = 0.0
        self._sums = CallSums()

    def begin(self) -> float:
        """Counts a call that is sent now; returns the start time for `end`."""
        now = self._clock()
        if not self._under_way:
            self._busy_since = now
        self._under_way += 1
        self.sent += 1
        return now

    def end(self, began: float, *, write: bool) -> None:
        """Counts the time of a finished call, answered or not."""
        now, sums = self._clock(), self._sums
        self._under_way -= 1
        if not self._under_way:
            sums.busy_seconds += now - self._busy_since
        sums.requests += 1
        sums.seconds += now - began
        if write:
            sums.writes += 1
            sums.write_seconds += now - began

    def failed(self, status: int | None) -> None:
        """Counts the call that just finished as failed with that status; None where there was no answer."""
        self._sums.failed += 1
        self._sums.limited += status == 429

    def read(self) -> CallSums:
        """The sums up to this moment."""
        under_way = self._clock() - self._busy_since if self._under_way else 0.0
        return replace(self._sums, busy_seconds=self._sums.busy_seconds + under_way)
