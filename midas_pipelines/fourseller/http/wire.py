"""The one place that builds HTTP requests and sends them: headers, addresses, one attempt, over connections of aiohttp.

With fifty requests in flight httpx's own pool spends 9 ms of processor a request, aiohttp's 0.5, and httpx's request and
response around them 0.3: the client meets httpx where another transport is given, and by its errors. The adapter is ours
because the difference between "never sent" and "the answer was lost" decides whether a create may be sent again.

Loaded by the first client: aiohttp takes a quarter of the time that dagster takes to load, and only a sender needs it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import sys
import types
import zlib
from collections.abc import Coroutine, Generator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlencode
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
import yarl
from pydantic import SecretStr

from midas_pipelines.fourseller.errors import Unavailable
from midas_pipelines.fourseller.http.answers import Answer, Call, date_of, lost
from midas_pipelines.fourseller.lenient import ascii_value

SHORT_SECRET = 8  # letters; masking a shorter one would also mask ordinary words
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
IDLE_SECONDS = 4.0  # shorter than servers keep a connection (5 s is usual), so that none is found just closed
CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 16_000_000
"""Bytes of a body, as it comes and decompressed: a hundred products with long descriptions need a tenth of it."""


class Wire:
    """Keep-alive connections to one base URL, each request carrying the credentials in its headers alone."""

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        seller_id: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base = _checked(base_url)
        self._root = f"{self._base.scheme}://{self._base.netloc.decode()}"
        key = ascii_value(api_key.get_secret_value(), "the API key")
        seller = ascii_value(seller_id, "the seller id")
        self._secrets = [secret.encode() for secret in (key, seller) if len(secret) >= SHORT_SECRET]
        self._headers = (
            ("Host", self._base.netloc.decode()),
            ("Authorization", f"Bearer {key}"),
            ("X-Seller-ID", seller),
            ("Accept", "application/json"),
            ("Accept-Encoding", "gzip"),
            ("User-Agent", "midas-pipelines"),
        )
        self._transport = transport
        self._opening: asyncio.Future[None] | None = None

    @cached_property
    def _connections(self) -> Connections:
        """Direct to this machine, else through the environment's proxy, if any; TLS is verified."""
        base, tls = self._base, None
        if base.scheme == "https":
            tls = httpx.create_ssl_context()  # by certifi's roots
            tls.minimum_version = ssl.TLSVersion.TLSv1_2
        # Looked up once: aiohttp would do so for each call, in a thread, and read ~/.netrc for a password.
        direct = _is_loopback(base.host) or proxy_bypass(base.host)
        return Connections(tls, None if direct else getproxies().get(base.scheme))

    def open(self, number: int) -> asyncio.Future[None] | None:
        """Loads what the first call would have to wait for, and begins to open so many connections; done when they are."""
        if self._transport is None:
            self._opening = asyncio.ensure_future(self._connections.connect(self._root, number))
        return self._opening

    async def close(self) -> None:
        """Closes every connection."""
        if self._opening is not None:
            self._opening.cancel()
        if used := self._transport or vars(self).get("_connections"):
            await used.aclose()

    async def send(self, call: Call, seconds: float) -> Answer:
        """Sends one request and reads its answer. `seconds` bounds the whole attempt.
        Raises Unavailable when nothing was sent, Ambiguous (or Unavailable for a read) when the answer was lost."""
        try:
            async with asyncio.timeout(seconds):
                status, headers, body = await self._exchange(call)
        except NEVER_SENT as error:
            raise Unavailable(
                f"4Seller could not be reached for {call.subject} ({type(error).__name__}); try again later.",
                item=call.item,
            ) from None
        except TimeoutError:
            raise lost(call, f"4Seller gave no answer within {seconds:.1f} s") from None
        except httpx.DecodingError as error:
            raise lost(call, f"4Seller's answer cannot be read, {error},") from None
        except httpx.TransportError as error:
            raise lost(call, f"4Seller's answer was lost ({type(error).__name__})") from None
        if status >= 400:  # an error may echo what it was sent, and errors are written down
            for secret in self._secrets:
                body = body.replace(secret, b"***")
        return Answer(status, body, headers.get("Retry-After"), date_of(headers.get("Date", "")))

    async def _exchange(self, call: Call) -> tuple[int, Mapping[str, str], bytes]:
        target = self._base.raw_path.decode() + call.path
        if call.query:
            target += "?" + urlencode(call.query)
        headers = [*self._headers, *call.headers]
        if call.body is not None:
            headers.append(("Content-Type", "application/json"))
        if self._transport is None:
            return await self._connections.exchange(call.method, self._root + target, headers, call.body)
        url = self._base.copy_with(raw_path=target.encode())
        request = httpx.Request(call.method, url, headers=headers, content=call.body)
        response = await self._transport.handle_async_request(request)
        try:
            return response.status_code, response.headers, await response.aread()
        finally:
            await response.aclose()  # releases the connection


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


def _checked(base_url: str) -> httpx.URL:
    """The base URL, without a slash at its end. Raises ValueError for one the key must not be sent to."""
    url = httpx.URL(base_url.rstrip("/"))
    wrong = ""
    if url.scheme not in ("https", "http") or not url.host:
        wrong = "must be an https:// address, such as https://api.4seller.com/v1."
    elif url.userinfo or url.query or url.fragment:
        wrong = "must hold no user, query or fragment; keys have settings of their own."
    elif url.scheme == "http" and not _is_loopback(url.host):
        wrong = (
            f"would send the API key in clear to {url.host}: use https://; http:// is for a sandbox on this machine "
            "(localhost, 127.0.0.1, ::1)."
        )
    if wrong:
        raise ValueError(f"FOURSELLER_API_URL {wrong}")
    return url


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
