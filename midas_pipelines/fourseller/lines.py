"""The httpx transport the client uses: a stack of keep-alive connections that cost the same however many there are.

httpx's own pool looks at each of its connections for each request it queues, starts or ends: measured with fifty,
9 ms of processor a request. Here the last used connection is taken first, like a plate from a stack.
"""

import ssl
import time

import httpx

from midas_pipelines.fourseller.connection import Connection, connect

IDLE_SECONDS = (
    4.0  # shorter than servers keep an idle connection (5 s is usual), so that none is found just closed
)
CONNECT_SECONDS = 5.0


class Lines(httpx.AsyncBaseTransport):
    """Connections to one origin; as many as there are requests at once, which the caller bounds."""

    def __init__(self, origin: httpx.URL, tls: ssl.SSLContext | None) -> None:
        self._host = origin.host
        self._port = origin.port or (443 if origin.scheme == "https" else 80)
        self._tls = tls
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends the request and reads the whole answer. Raises what httpx raises: ConnectError and ConnectTimeout
        when nothing was sent, ReadError and RemoteProtocolError when the answer was lost."""
        message = _message(request)
        line = self._take() or await connect(self._host, self._port, self._tls, CONNECT_SECONDS)
        self._busy.add(line)
        try:
            status, headers, body = await line.exchange(message)
        finally:
            self._busy.discard(line)
            if line.is_open:
                self._idle.append(line)
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body), request=request)

    async def aclose(self) -> None:
        """Closes every connection."""
        for line in (*self._idle, *self._busy):
            line.close()
        self._idle.clear()

    def _take(self) -> Connection | None:
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle:
            line = self._idle.pop()
            if line.is_open and line.used_at >= oldest:
                return line
            line.close()
        return None


def _message(request: httpx.Request) -> bytes:
    """The request as it goes over the wire."""
    head = [request.method.encode("ascii") + b" " + request.url.raw_path + b" HTTP/1.1"]
    head += [name + b": " + value for name, value in request.headers.raw]
    return b"\r\n".join(head) + b"\r\n\r\n" + request.content
