"""The httpx transport of the client, over aiohttp's connections.

With fifty requests in flight httpx's own pool spends 9 ms of processor a request, aiohttp's 0.5. The adapter is ours
because the difference between "never sent" and "the answer was lost" decides whether a create may be sent again.
"""

from __future__ import annotations

import ssl
import zlib
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    import aiohttp

IDLE_SECONDS = (
    4.0  # shorter than servers keep an idle connection (5 s is usual), so that none is found just closed
)
CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 16_000_000
"""Bytes of a body, as it comes and decompressed: a hundred products with long descriptions need a tenth of it."""


class UnreadableAnswer(httpx.DecodingError):
    """A body that is larger than any answer of the contract, or not compressed as asked for; the text says which."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Keep-alive connections, as many as there are requests at once, which the caller bounds.

    Args:
        tls: how a server's certificate is verified; None where the address is not https.
        proxied: uses the proxy that the environment names.
    """

    def __init__(self, tls: ssl.SSLContext | None, *, proxied: bool) -> None:
        self.tls = tls
        self._proxied = proxied
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends the request and reads the whole answer, decompressed. A redirect is an answer like any other.

        Raises:
            httpx.ConnectError: nothing was sent.
            httpx.ReadError: the answer was lost; the request may have been acted upon.
            UnreadableAnswer: the answer cannot be read; the request may have been acted upon.
        """
        import aiohttp  # takes a quarter of the time that dagster takes to load, and only a sender needs it
        import yarl

        try:
            async with self.open().request(
                request.method,
                yarl.URL(str(request.url), encoded=True),  # sent as it is written
                headers=request.headers.multi_items(),
                data=request.content or None,
                allow_redirects=False,
            ) as answer:
                body = await _body(answer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise httpx.ConnectError(type(error).__name__) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise httpx.ReadError(type(error).__name__) from None
        headers = [pair for pair in answer.raw_headers if pair[0].lower() != b"content-encoding"]
        return httpx.Response(answer.status, headers=headers, stream=httpx.ByteStream(body))

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
            )
            # aiohttp would retry a lost GET, PUT or DELETE silently: uncounted, not rate limited, not logged.
            self._session._retry_connection = False
        return self._session


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
