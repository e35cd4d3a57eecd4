"""Answers that would lead the client elsewhere or fill its memory: redirects, odd ids, bombs. Over real connections."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import Ambiguous, BadCredentials, BadItem, FourSellerError, Unavailable
from midas_pipelines.fourseller.http.wire import LARGEST_ANSWER
from midas_pipelines_tests.fourseller.channel import channel, draft

pytestmark = pytest.mark.usefixtures("quick")
Act = Callable[[FourSeller], Awaitable[Any]]


def met(act: Act, *pieces: bytes, endless: bytes = b"") -> tuple[FourSellerError | None, list[bytes]]:
    """What `act` raised against a server that writes these pieces to every request, and the requests it got.
    {port} in a piece is its own port; `endless` is written after them up to 40 times, or until the client hangs up.
    """
    got: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = str(writer.get_extra_info("sockname")[1]).encode()
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                got.append(head)
                for piece in pieces:
                    writer.write(piece.replace(b"{port}", port))
                for _ in range(40 if endless else 0):
                    writer.write(endless)
                    await writer.drain()
                    await asyncio.sleep(0)  # `drain` does not yield while the socket accepts everything
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def run() -> FourSellerError | None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with channel(url, deadline_seconds=3) as client:
            try:
                await act(client)
            except FourSellerError as failed:
                return failed
            finally:
                server.close()
        return None

    return asyncio.run(run()), got


CALLS: dict[str, Act] = {
    "read": lambda c: c.product("P1"),
    "create": lambda c: c.create_product(draft(), idempotency_key="k"),
    "quantity": lambda c: c.quantity("P1"),
    "delete": lambda c: c.delete_product("P1"),
    "list": lambda c: c.listing(),
}


@pytest.mark.parametrize("act", CALLS.values(), ids=CALLS)
def test_a_redirect_is_an_error_and_never_followed(act: Act) -> None:
    for status, extra in (
        (300, b""),
        (301, b"set-cookie: a=b; path=/\r\n"),
        (307, b"refresh: 0; url=/elsewhere\r\n"),
    ):
        head = b"HTTP/1.1 %d Moved\r\nlocation: http://127.0.0.1:{port}/elsewhere\r\n" % status
        failed, got = met(act, head + extra + b"content-length: 0\r\n\r\n")
        assert isinstance(failed, BadCredentials)
        assert "FOURSELLER_API_URL" in str(failed)
        assert len(got) == 1


@pytest.mark.parametrize(
    "odd", ["", ".", "..", "%2e", "%2E%2e", "../orders", "a/../b", "a\\..\\b", "..;/x", "a\x00b", "\ud800"]
)
def test_an_id_that_is_a_path_is_refused_before_anything_is_sent(odd: str) -> None:
    async def act(client: FourSeller) -> None:
        for call in (client.product, client.order, client.quantity):
            with pytest.raises(BadItem):
                await call(odd)
        await client.delete_product(odd)

    failed, got = met(act, b"HTTP/1.1 204 No\r\n\r\n")
    assert isinstance(failed, BadItem)
    assert not got


@pytest.mark.parametrize(
    ("odd", "sent"),
    [
        ("gid://shop/1", b"gid%3A%2F%2Fshop%2F1"),
        ("a?b#c", b"a%3Fb%23c"),
        ("50%", b"50%25"),
        ("a%2Fb", b"a%252Fb"),
        ("\u00fc b", b"%C3%BC%20b"),
        ("...", b"..."),
    ],
)
def test_any_other_id_is_asked_for_as_it_is(odd: str, sent: bytes) -> None:
    _, got = met(lambda client: client.order(odd), b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")
    assert got[0].startswith(b"GET /v1/orders/" + sent + b" HTTP/1.1\r\n")


GZIP = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"


@pytest.mark.parametrize("act", [CALLS["read"], CALLS["create"]], ids=["read", "create"])
def test_a_gzip_bomb_is_a_clear_error_and_costs_no_memory(act: Act) -> None:
    bomb = gzip.compress(b"[" * (5 * LARGEST_ANSWER), 1)
    tracemalloc.start()
    failed, _ = met(act, GZIP % len(bomb) + bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(failed, Unavailable | Ambiguous)
    assert "larger than 16 MB" in str(failed)
    assert peak < 4 * LARGEST_ANSWER


def test_a_body_without_end_is_left_once_it_is_too_large() -> None:
    failed, _ = met(CALLS["read"], b"HTTP/1.1 200 OK\r\n\r\n", endless=b" " * 1_000_000)
    assert "larger than 16 MB" in str(failed)


@pytest.mark.parametrize("encoding", [b"br", b"deflate", b"gzip, gzip", b"zstd"])
def test_what_was_not_asked_for_is_not_unpacked(encoding: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: " + encoding + b"\r\ncontent-length: 2\r\n\r\n{}"
    assert "not asked for" in str(met(CALLS["read"], head)[0])


def test_gzip_that_is_honest_is_read() -> None:
    body = gzip.compress(b'{"id":"P1","sku":"S"}')
    assert met(CALLS["read"], GZIP % len(body) + body)[0] is None
