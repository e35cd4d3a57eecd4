"""The API attacked by machine, by the document and beyond it: no server error, no undocumented answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from midas_pipelines.gateway.api import limits
from midas_pipelines.gateway.api.auth import PREFIX
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import keys
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines_tests.conftest import create_upgraded_shop
from midas_pipelines_tests.copies import SqliteCopies, connect
from midas_pipelines_tests.gateway.running import ROLES, Gateway, exchange, running_gateway
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.conftest import background_sandbox  # noqa: F401 - a fixture
from midas_pipelines_tests.sync.world import World

QUIET = list(HealthCheck)
HOW: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": QUIET,
    "max_examples": 2,
}


@pytest.fixture(scope="module")
def attacked(sqlite_copies: SqliteCopies, background_sandbox: Any) -> Iterator[Gateway]:  # noqa: F811
    """One gateway for all attacks, with an item and an order in it; after them all it still has to work."""
    unlocked = patch.object(keys, "MOST_FAILURES", 1_000_000)  # the attack expects 401 of each wrong key
    with unlocked, connect(sqlite_copies.fresh(create_upgraded_shop)) as database:
        world = World(database, background_sandbox)
        add_product(database, sku="A-1")
        world.place(("A-1", 1), id="A-1")
        with running_gateway(world) as gateway:
            yield gateway


def load(gateway: Gateway, key: str | None) -> Any:
    import schemathesis  # loads for half a second

    auth = {"openapi": {"HTTPBearer": {"bearer": key}}} if key else {}
    config = schemathesis.config.SchemathesisConfig.from_dict({"seed": 1, "auth": auth})
    document = gateway.call("GET", "/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.config.update(base_url=gateway.url)
    return schema


@pytest.fixture(scope="module")
def with_key(attacked: Gateway) -> Any:
    return load(attacked, attacked.key(Role.ADMIN))


@pytest.fixture(scope="module")
def without_key(attacked: Gateway) -> Any:
    return load(attacked, None)


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(("method", "path"), ROLES)
def test_with_a_key_every_answer_is_a_documented_one(
    with_key: Any, method: str, path: str, mode: str
) -> None:
    attack(with_key[path][method], mode)


@pytest.mark.parametrize(("method", "path"), ROLES)
def test_without_a_key_every_answer_is_a_documented_one(without_key: Any, method: str, path: str) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import status_code_conformance

    attack(without_key[path][method], "positive", checks=[not_a_server_error, status_code_conformance])


def attack(operation: Any, mode: str, **how: Any) -> None:
    from schemathesis import GenerationMode

    try:
        strategy = operation.as_strategy(generation_mode=GenerationMode(mode))

        @given(case=strategy)
        @settings(**HOW)
        def call(case: Any) -> None:
            case.call_and_validate(**how)

        call()
    except (Unsatisfiable, SkipTest):
        pytest.skip("nothing about it can be wrong")


SQL = (
    "' OR 1=1 --",
    "1; DROP TABLE orders",
    "%27%20OR%201=1",
    "\\'; SELECT pg_sleep(9) --",
    "A-1%00",
    "../../x",
)


def test_sql_in_every_place_finds_nothing_and_breaks_nothing(attacked: Gateway) -> None:
    key = attacked.key(Role.ADMIN)
    for text in SQL:
        assert attacked.call("GET", f"orders/{text}", key).status_code in (404, 422), text
        found = attacked.call("GET", "orders", key, params={"sales_channel": text})
        assert found.status_code == 422 or found.json()["data"] == [], text
        assert attacked.call("GET", "orders", key, params={"before": text}).status_code == 422
        assert attacked.call("POST", "sync/products", key, json={"skus": [text]}).status_code in (404, 422)
    assert attacked.call("GET", "/readyz").status_code == 200


FAR = (
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999-14:00",
    "9999-12-31T23:59:59Z",
)


@pytest.mark.parametrize("moment", FAR)
def test_the_ends_of_time_are_moments_like_any_other(door: Gateway, moment: str) -> None:
    door.world.place(("A-1", 1))
    key = door.key(Role.OPERATOR)
    door.call("POST", "orders", key)
    first = moment.startswith("0001")
    for name, found in (("placed_from", first), ("placed_to", not first)):
        answer = door.call("GET", "orders", key, params={name: moment})
        assert (answer.status_code, bool(answer.json()["data"])) == (200, found)


@pytest.mark.parametrize("moment", ["0", "-1", "1e9", "1770000000", "1770000000.5", "2026-11-23", "soon"])
def test_a_number_is_no_moment(attacked: Gateway, moment: str) -> None:
    answer = attacked.call("GET", "orders", attacked.key(Role.VIEWER), params={"placed_from": moment})
    assert answer.status_code == 422


def test_without_its_database_every_call_is_answered_503(
    door: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = door.key(Role.ADMIN)

    def away(*_: object) -> None:
        raise sa.exc.OperationalError("SELECT 1", {}, OSError("gone"))

    for kind in ("reading", "writing"):
        monkeypatch.setattr(Database, kind, away)
    for method, path in ROLES:
        if path not in ("/healthz", f"{PREFIX}/webhooks"):
            answer = door.call(method, path.replace("{order_id}", "A-1"), key)
            assert (answer.status_code, answer.headers["content-type"]) == (
                503,
                "application/problem+json",
            ), path
    assert door.tell("order.created", {"id": "A-1"}).status_code == 503


def test_a_header_cannot_be_smuggled_into_an_answer(attacked: Gateway) -> None:
    answer = attacked.call("GET", "/healthz", headers={"X-Request-ID": "a%0d%0aSet-Cookie: x=1"})
    assert "set-cookie" not in answer.headers
    raw = exchange(attacked, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\rSet-Cookie: x\r\n\r\n")
    assert b"set-cookie" not in raw.lower()


def test_a_client_that_sends_its_head_too_slowly_is_dropped(
    attacked: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.2)
    started = time.monotonic()
    assert exchange(attacked, b"GET /healthz HTTP/1.1\r\nHost: ") == b""
    assert time.monotonic() - started < 5


def test_a_client_that_sends_its_body_too_slowly_is_told_so(
    attacked: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    head = b"POST /api/marketplace/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"
    assert exchange(attacked, head).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_declares_no_length_is_measured_as_it_comes(attacked: Gateway) -> None:
    head = b"POST /api/marketplace/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    assert exchange(attacked, head + chunk * 17).startswith(b"HTTP/1.1 413 ")


def test_many_slow_clients_hold_nobody_up(attacked: Gateway) -> None:
    host, port = attacked.url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port)), timeout=10) for _ in range(200)]
    for one in slow:
        one.sendall(b"GET /healthz HTTP/1.1\r\n")
    assert attacked.call("GET", "/healthz").status_code == 200
    for one in slow:
        one.close()
