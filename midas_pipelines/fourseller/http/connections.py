"""Connections of aiohttp: each request is sent once, as it is written, and its whole answer is read and decompressed.

Loaded by the first call: aiohttp takes a quarter of the time that dagster takes to load, and only a sender needs it.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import types
import zlib
from collections.abc import Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import Any

import aiohttp
import httpx
import yarl

IDLE_SECONDS = 4.0  # shorter than servers keep a connection (5 s is usual), so that none is found just closed
CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 16_000_000
"""Bytes of a body, as it comes and decompressed: a hundred products with long descriptions need a tenth of it."""


class Connections:
    """Keep-alive connections, as many as there are requests at once, which the caller bounds.

    `tls` is how a server's certificate is verified, None where the address is not https; `proxy` is that to go through.
    """

    def __init__(self, tls: ssl.SSLContext | None, proxy: str | None = None) -> None:
        self.tls = tls
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def exchange(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Sends a request to the address as it is written and reads the whole answer, decompressed. A redirect is an answer
        like any other.

        Raises:
            httpx.ConnectError: nothing was sent.
            httpx.ReadError: the answer was lost; the request may have been acted upon.
            httpx.DecodingError: the answer cannot be read; the request may have been acted upon.
        """
        address = yarl.URL(url, encoded=True)
        try:
            async with self.open().request(
                method, address, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                return answer.status, answer.headers, await _body(answer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise httpx.ConnectError(type(error).__name__) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise httpx.ReadError(type(error.__cause__ or error).__name__) from None

    async def connect(self, url: str, number: int) -> None:
        """Opens so many connections, which the next requests take; those that fail are left to them."""
        session, proxy = self.open(), yarl.URL(self._proxy) if self._proxy else None
        address, loop = yarl.URL(url), asyncio.get_running_loop()
        request = _Request("GET", address, loop=loop, session=session, proxy=proxy)
        assert session.connector is not None
        connect = partial(session.connector.connect, request, [], session.timeout)

        async def open_one() -> None:
            connection = await connect()
            await asyncio.sleep(0)  # the others have begun then: they would take one that is free
            connection.release()

        await asyncio.gather(*(open_one() for _ in range(number)), return_exceptions=True)

    async def aclose(self) -> None:
        """Closes every connection."""
        if self._session is not None:
            await self._session.close()

    def open(self) -> aiohttp.ClientSession:
        """The session, opened once."""
        if self._session is None:  # here, because a session belongs to the running loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self.tls or True, keepalive_timeout=IDLE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                auto_decompress=False,
                proxy=self._proxy,
                middlewares=(_sent_once,),
                request_class=_Request,
            )
        return self._session


class _Request(aiohttp.ClientRequest):
    """Writes its body at once. Before Python 3.12 aiohttp leaves that to a task, which is due after all that was due before
    it: the place of an answered call stays empty while all other answers of that moment are read."""

    if sys.version_info < (3, 12):

        def write_bytes(self, *given: Any) -> Coroutine[Any, Any, None]:
            work = super().write_bytes(*given)
            try:
                return _rest(work, work.send(None))
            except StopIteration:
                return asyncio.sleep(0)


@types.coroutine
def _rest(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """The rest of the work, whose first step was taken."""
    yield waits_for
    yield from work.__await__()


async def _sent_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Hides a lost answer from aiohttp, which would send a GET, PUT or DELETE again: uncounted and not rate limited."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as lost:
        raise aiohttp.ClientConnectionError from lost


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body, decompressed. Raises httpx.DecodingError."""
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise httpx.DecodingError("it is compressed in a way that was not asked for")
    unpack = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    body, received = bytearray(), 0
    async for part in answer.content.iter_any():
        received += len(part)
        try:
            body += unpack.decompress(part, LARGEST_ANSWER - len(body) + 1) if unpack else part
        except zlib.error:
            raise httpx.DecodingError("it is not valid gzip") from None
        if max(received, len(body)) > LARGEST_ANSWER:
            raise httpx.DecodingError(f"it is larger than {LARGEST_ANSWER // 1_000_000} MB")
    if unpack and received and not unpack.eof:
        raise httpx.DecodingError("its gzip ends early")
    return bytes(body)
