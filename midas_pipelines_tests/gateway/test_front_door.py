"""What stops at the gateway's door: too many calls, refused keys, forged webhooks, heads and queues that are too large."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import secrets
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import SecretStr
from starlette.types import Message
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from midas_pipelines.gateway import server
from midas_pipelines.gateway.api import limits
from midas_pipelines.gateway.api.callers import Callers, Rate, key_of, network
from midas_pipelines.gateway.inbox import BadSignature, Verifier
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import HOOK, SECRET, Gateway, exchange, signed

EVENT = {"type": "order.created", "data": {"id": "A-1"}}


def refusals(gateway: Gateway, reason: str) -> float:
    return (
        gateway.service.metrics.registry.get_sample_value("midas_http_refused_total", {"reason": reason}) or 0
    )


# rates


def test_a_new_key_each_time_and_another_case_are_one_caller() -> None:
    callers = Callers(per_second=1.0)
    waits = [callers.take("192.0.2.1", key_of(f"bEaReR {secrets.token_hex()}")) for _ in range(20)]
    assert sum(wait > 0 for wait in waits) >= 17
    assert callers.take("192.0.2.2", "") == 0.0


def test_a_valid_key_has_a_rate_of_its_own_however_its_scheme_is_written() -> None:
    callers = Callers(per_second=1.0)
    callers.admitted("midas_a_b", "a")
    for _ in range(20):
        callers.refused("192.0.2.1", "guessed")
    assert callers.take("192.0.2.1", "guessed") > 0
    assert [
        callers.take("192.0.2.1", key_of(f"{word} midas_a_b")) == 0.0
        for word in ("Bearer", "bearer", "BEARER")
    ] == [
        True,
        True,
        False,
    ]


def test_a_refused_key_costs_its_address_more_than_a_call() -> None:
    rate, now = Rate(per_second=50.0), 0.0
    for _ in range(10):
        rate.charge("a", 10.0, now)
    assert rate.take("a", now) > 0
    for _ in range(1000):
        rate.charge("a", 10.0, now)
    assert rate.take("a", now + 5.0) == 0.0  # a debt is paid in seconds


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:2", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("local", "local"),
        ("x" * 999, "x" * 64),
    ],
)
def test_addresses_of_one_owner_are_one(address: str, counted_as: str) -> None:
    assert network(address) == counted_as


def test_guessed_keys_are_slowed_and_counted_and_do_not_stop_a_key_in_use(start: Start) -> None:
    door = start(with_worker=False, gateway_rate=20)
    key = door.key(Role.VIEWER)
    assert door.call("GET", "status", key).status_code == 200
    codes = [door.call("GET", "status", f"midas_x_{n}").status_code for n in range(30)]
    assert set(codes) == {401, 429}
    assert codes.count(401) < 15
    assert refusals(door, "key") == codes.count(401)
    assert door.call("GET", "status", key).status_code == 200


@pytest.mark.parametrize(("proxies", "believed"), [("", False), ("127.0.0.0/8", True), ("192.0.2.7", False)])
def test_a_forwarded_address_is_believed_of_a_named_proxy_alone(
    start: Start, proxies: str, believed: bool
) -> None:
    door = start(with_worker=False, gateway_rate=1, gateway_proxies=proxies)
    numbers = itertools.count()
    codes = [
        door.call("GET", "/readyz", headers={"X-Forwarded-For": f"203.0.113.{next(numbers)}"}).status_code
        for _ in range(12)
    ]
    assert (429 not in codes) is believed


@pytest.mark.parametrize("peer", ["10.0.7.1", "::ffff:10.0.7.1", "2001:db8::1"])
@pytest.mark.parametrize("stranger", ["10.1.0.1", "::ffff:10.1.0.1", "2001:db8:1::1"])
def test_a_proxy_is_known_on_a_socket_of_both_families(peer: str, stranger: str) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    asgi: Any = ProxyHeadersMiddleware(app, server.believed("10.0.0.0/16,2001:db8::/48"))
    for address in (peer, stranger):
        headers = [(b"x-forwarded-for", b"203.0.113.9, 198.51.100.1, 10.0.0.3")]
        asyncio.run(asgi({"type": "http", "headers": headers, "client": (address, 1)}, None, None))
    assert seen == ["198.51.100.1", stranger]


# webhooks


def test_a_webhook_that_4seller_did_not_sign_has_a_rate_of_its_own(start: Start) -> None:
    door = start(with_worker=False, gateway_rate=5)
    unsigned = [door.client.post(HOOK, content=b"{}").status_code for _ in range(30)]
    body, forged = signed(EVENT, secret="whsec_" + "b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldC0wMQ")
    codes = [door.client.post(HOOK, content=body, headers=forged).status_code for _ in range(10)]
    assert {401, 429} == set(unsigned + codes)
    assert [door.tell("order.created", {"id": f"A-{n}"}).status_code for n in range(30)] == [202] * 30
    assert refusals(door, "headers") == 30
    assert refusals(door, "signature") == 10


def test_an_unsigned_webhook_is_refused_before_its_body_is_read(door: Gateway) -> None:
    head = b"POST /api/marketplace/webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
    assert exchange(door, head).startswith(b"HTTP/1.1 401 ")


def test_a_signed_webhook_refused_for_its_time_is_logged_and_counted(
    door: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    answer = door.tell("order.created", {"id": "A-1"}, age=timedelta(minutes=10))
    assert answer.status_code == 401
    assert "seconds behind the clock here" in answer.json()["detail"]
    assert "seconds behind the clock here" in caplog.text
    assert refusals(door, "timestamp") == 1


@pytest.mark.parametrize("timestamp", ["", "soon", "-5", "1e9", "9" * 13, "\u0661", "0x10"])
def test_a_timestamp_that_is_none_is_refused_by_the_head_alone(timestamp: str) -> None:
    with pytest.raises(BadSignature) as raised:
        Verifier(SecretStr(SECRET)).check_head(signed(EVENT)[1] | {"webhook-timestamp": timestamp})
    assert raised.value.reason == "headers"


# sizes


def test_a_compressed_body_is_not_unpacked(door: Gateway) -> None:
    bomb = gzip.compress(b"[" * 50_000_000)
    answer = door.call(
        "POST", "sync/products", door.key(Role.OPERATOR), content=bomb, headers={"Content-Encoding": "gzip"}
    )
    assert answer.status_code in (400, 422)


def test_fields_after_the_body_are_not_collected(door: Gateway) -> None:
    head, trailers = signed(EVENT)[1], b"a: b\r\n" * 1000
    named = "".join(f"{name}: {value}\r\n" for name, value in head.items()).encode()
    start = b"POST /api/marketplace/webhooks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    assert exchange(door, start + named + b"\r\n0\r\n" + trailers).startswith(b"HTTP/1.1 400 ")


LARGE = {
    "one header": b"a: " + b"x" * 40_000 + b"\r\n",
    "many headers": b"a: b\r\n" * 12_000,
    "never ending": b"a: " + b"x" * 400_000,
}


@pytest.mark.parametrize("part", LARGE.values(), ids=LARGE)
def test_a_head_that_is_too_large_is_refused(door: Gateway, part: bytes) -> None:
    end = b"" if part is LARGE["never ending"] else b"\r\n"
    assert exchange(door, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + part + end)[:13] in (
        b"HTTP/1.1 431 ",
        b"",
    )
    assert exchange(door, b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").startswith(
        b"HTTP/1.1 431 "
    )
    assert door.call("GET", "/healthz", headers={"a": "x" * 20_000}).status_code == 200


# queues


def test_what_would_only_wait_is_answered_503_in_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_UNDER_WAY", 0)
    door = start(with_worker=False)
    answer = door.tell("order.created", {"id": "A-1"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.headers["content-type"] == "application/problem+json"
    assert door.call("GET", "/healthz").status_code == 200
    assert refusals(door, "shed") == 1


def test_while_a_webhook_waits_too_long_to_be_stored_the_next_calls_are_answered_503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SHED_SECONDS", 0.0)
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def scenario() -> None:
        stored = asyncio.Event()

        async def take(*_: object) -> bool:
            return await asyncio.wait_for(stored.wait(), 30)

        service = Mock(verifier=Verifier(SecretStr(SECRET)), inbox=Mock(take=take))
        door = limits.Limits(Mock(), service=service, callers=Callers(1000), refusals=Mock())

        async def one() -> None:
            body, headers = signed(EVENT)
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            scope = {"type": "http", "method": "POST", "path": HOOK, "headers": raw, "client": None}

            async def receive() -> Message:
                return {"type": "http.request", "body": body}

            await door(scope, receive, send)

        first = asyncio.create_task(one())
        await asyncio.sleep(0.01)
        await one()
        stored.set()
        await first
        await one()

    asyncio.run(scenario())
    assert statuses == [503, 202, 202]


def test_without_a_secret_every_webhook_is_401_and_says_so(start: Start) -> None:
    door = start(with_worker=False, fourseller_webhook_secret=None)
    for body in (b"", b"[]", b'{"type": "x"}', b'{"type": "x", "timestamp": 5, "data": {}}'):
        answer = door.client.post(HOOK, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 401, body
        assert "FOURSELLER_WEBHOOK_SECRET is not set" in answer.json()["detail"], body
    assert "422" not in door.client.get("/openapi.json").json()["paths"][HOOK]["post"]["responses"]
