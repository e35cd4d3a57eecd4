"""The connection, answer by answer as a server may write it, and over TLS."""

import asyncio
import base64
import datetime
import ipaddress
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from midas_pipelines.fourseller.errors import Unavailable
from midas_pipelines.fourseller.http.wire import Connections
from midas_pipelines_tests.fourseller.channel import channel

pytestmark = pytest.mark.usefixtures("quick")
BODY = b'{"id":"P1","sku":"S"}'
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n" + BODY
Answers = Callable[[int], list[bytes]]


def served(
    answers: Answers, *, times: int = 2, tls: ssl.SSLContext | None = None
) -> tuple[list[str | None], int]:
    """SKUs read by `times` calls, and how many connections they took, of a server that writes `answers(n)` to the
    n-th request in pieces; an empty piece ends the connection."""
    requests = connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests, connections
        connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                requests += 1
                for piece in answers(requests):
                    if not piece:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.005)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def run() -> list[str | None]:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/v1"
        async with channel(url) as client:
            read = [(await client.product("P1")).sku for _ in range(times)]
        server.close()
        return read

    return asyncio.run(run()), connections


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


WAYS = {
    "whole": ([OK], 1),
    "pieces": ([OK[:10], OK[10:50], OK[50:]], 1),
    "chunked": ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(BODY[:5], BODY[5:])], 1),
    "continue": ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], 1),
    "hints": ([b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK], 1),
    "close": ([b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 21\r\n\r\n" + BODY], 2),
    "1.0": ([b"HTTP/1.0 200 OK\r\ncontent-length: 21\r\n\r\n" + BODY], 2),
    "until-eof": ([b"HTTP/1.1 200 OK\r\n\r\n", BODY, b""], 2),
    "closed-after": ([OK, b""], 2),
    "two": ([OK + OK], 2),
}


@pytest.mark.parametrize(("pieces", "connections"), WAYS.values(), ids=WAYS)
def test_an_answer_may_be_written_in_many_ways(pieces: list[bytes], connections: int) -> None:
    read, used = served(lambda _: pieces)
    assert read == ["S", "S"]
    assert used == connections


@pytest.mark.parametrize(
    "pieces",
    [
        [b"not http at all\r\n\r\n"],
        [b""],
        [OK[:-5], b""],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{", b""],
        [b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd"],
    ],
    ids=["nonsense", "nothing", "cut", "cut-chunk", "bad-gzip"],
)
def test_an_answer_that_is_none_is_tried_again(pieces: list[bytes]) -> None:
    read, _ = served(lambda number: pieces if number == 1 else [OK], times=1)
    assert read == ["S"]


def test_no_call_is_sent_again_but_by_the_client_which_counts_it() -> None:
    asked = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (OK, b""):  # the second is lost on a connection that is kept
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        transport = Connections(None)
        await transport.exchange("GET", url, [], None)
        with pytest.raises(httpx.ReadError, match="ServerDisconnectedError"):
            await transport.exchange("GET", url, [], None)
        await transport.aclose()
        server.close()

    asyncio.run(run())
    assert len(asked) == 2


@pytest.mark.parametrize("size", [10, 5_000_000], ids=["small", "more than a connection takes at once"])
def test_a_body_is_written_at_once_as_far_as_it_goes_and_then_to_its_end(size: int) -> None:
    async def run() -> int:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            transport = Connections(None)
            await transport.connect(url, 1)
            call = asyncio.create_task(transport.exchange("POST", url, [], size * b"x"))
            await asyncio.sleep(0)  # the task has run until it waits
            server, _ = listening.accept()
            received = server.recv(65_536, socket.MSG_DONTWAIT).partition(b"\r\n\r\n")[2]
            assert received[:10] == 10 * b"x"
            server.setblocking(False)
            while len(received) < size:
                received += await asyncio.get_running_loop().sock_recv(server, size)
            server.sendall(OK)
            await call
            await transport.aclose()
            server.close()
        return len(received)

    assert asyncio.run(run()) == size


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_connections_that_are_opened_ahead_serve_the_calls_that_follow(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))

    async def run() -> int:
        opened = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            with suppress(asyncio.IncompleteReadError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(OK)

        tls = context if scheme == "https" else None
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with channel(url, in_flight=3) as client:
            await client.product("P1")
            ahead = client.open(50)
            assert ahead is not None
            await ahead
            assert opened == 3
            await asyncio.gather(*(client.product("P1") for _ in range(3)))
        server.close()
        return opened

    assert asyncio.run(run()) == 3


def test_calls_go_through_the_proxy_of_the_environment_whatever_netrc_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        proxy = f"http://me:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "")
        (tmp_path / "netrc").write_text("default login other password word")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        async with channel("https://hub.example/v1") as client:
            with pytest.raises(Unavailable):
                await client.product("P1")
        server.close()

    asyncio.run(run())
    assert asked[0].startswith(b"CONNECT hub.example:443 ")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:secret") in asked[0]


def certificate(folder: Path, host: str = "127.0.0.1") -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for an address, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return path, context


def test_tls_works_with_a_trusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert served(lambda _: [OK], tls=context) == (["S", "S"], 1)


def test_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    _, context = certificate(tmp_path)
    with pytest.raises(Unavailable, match="could not be reached"):
        served(lambda _: [OK], tls=context)


def test_a_certificate_for_another_host_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, context = certificate(tmp_path, host="10.1.2.3")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(Unavailable, match="could not be reached"):
        served(lambda _: [OK], tls=context)
