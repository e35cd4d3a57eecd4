"""The one place that builds HTTP requests and sends them: headers, addresses, one attempt.

With fifty requests in flight httpx's own pool spends 9 ms of processor a request, aiohttp's 0.5, and httpx's request and
response around them 0.3: the client meets httpx where another transport is given, and by its errors. The adapter is ours
because the difference between "never sent" and "the answer was lost" decides whether a create may be sent again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode
from urllib.request import getproxies, proxy_bypass

import httpx
from pydantic import SecretStr

from midas_pipelines.fourseller.errors import BadItem, Unavailable
from midas_pipelines.fourseller.http.answers import Answer, Call, date_of, lost
from midas_pipelines.fourseller.lenient import NO_ADDRESS

if TYPE_CHECKING:
    from midas_pipelines.fourseller.http.connections import Connections

SHORT_SECRET = 8  # letters; masking a shorter one would also mask ordinary words
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


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
        from midas_pipelines.fourseller.http.connections import Connections

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


def segment(value: str) -> str:
    """An id as one segment of a path. Raises BadItem for one that a server might take for another address."""
    if not value or NO_ADDRESS.search(value) or {".", ".."} & set(re.split(r"[/\\;]", unquote(value))):
        raise BadItem("An id that is empty, a path or not printable cannot be asked for; nothing was sent.")
    return quote(value, safe="")


def ascii_value(value: str, what: str) -> str:
    """A header's value. Raises ValueError, without quoting it, when it cannot be one."""
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"{what} is empty or holds characters that no HTTP header may carry; set it again.")
    return value


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
