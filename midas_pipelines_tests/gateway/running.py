"""A gateway in a thread of the test's process, and what a caller and 4Seller do to it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import uvloop
from standardwebhooks import Webhook

from midas_pipelines.gateway.server import server_of
from midas_pipelines.gateway.service import Service
from midas_pipelines.sockets import address_of, listen
from midas_pipelines.store.gateway.keys import Role, create_key
from midas_pipelines_tests.shop import value
from midas_pipelines_tests.sync.world import World

SECRET = "whsec_" + "bWlkYXMtZ2F0ZXdheS1zZWNyZXQtMDEyMzQ1"
HOOK = "/api/marketplace/webhooks"
API = "/api/marketplace"
ROLES: dict[tuple[str, str], Role | None] = {
    **dict.fromkeys([("GET", "/healthz"), ("GET", "/readyz"), ("POST", HOOK)]),
    **dict.fromkeys([("GET", "/metrics"), ("GET", f"{API}/orders/{{order_id}}")], Role.VIEWER),
    ("GET", f"{API}/sync/{{kind}}"): Role.VIEWER,
    **{
        ("GET", f"{API}/{path}"): Role.VIEWER
        for path in (
            *("status", "orders", "exceptions", "items", "explain"),
            *("conflicts", "plan", "rules", "stock", "alerts"),
        )
    },
    ("POST", f"{API}/sync/{{kind}}"): Role.OPERATOR,
    **dict.fromkeys([("POST", f"{API}/orders"), ("PATCH", f"{API}/orders/{{order_id}}")], Role.OPERATOR),
    ("POST", f"{API}/conflicts/{{conflict_id}}"): Role.OPERATOR,
    ("GET", f"{API}/audit"): Role.ADMIN,
    **{(method, f"{API}/privacy/requests"): Role.ADMIN for method in ("GET", "POST")},
}
"""Every endpoint with the role that it needs; None for one without a key."""
WAIT_SECONDS = 120.0
"""Longer than any wait on a busy machine; only a test that fails waits so long."""


@dataclass
class Gateway:
    """A running gateway."""

    world: World
    service: Service
    url: str
    client: httpx.Client

    def key(self, role: Role) -> str:
        """A new key."""
        with self.world.database.writing() as connection:
            return create_key(connection, name=f"the {role.value}", role=role)[1]

    def call(self, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        """A call; paths that begin with no slash are below /api/marketplace."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= options.pop("headers", {})
        path = path if path.startswith("/") else f"/api/marketplace/{path}"
        return self.client.request(method, path, headers=headers, **options)

    def tell(self, kind: str, data: dict[str, Any], **how: Any) -> httpx.Response:
        """Sends an event as 4Seller would."""
        body, headers = signed({"type": kind, "timestamp": "2026-11-23T12:00:00Z", "data": data}, **how)
        return self.client.post(HOOK, content=body, headers=headers)

    def wait(self, seen: Callable[[], Any], what: str = "what was waited for") -> Any:
        """Looks until it is there. Raises AssertionError when it does not come."""
        return wait_until(seen, what)

    def settled(self) -> None:
        """Waits until no webhook and no item waits."""
        waiting = (
            "SELECT (SELECT count(*) FROM marketplace_webhooks WHERE processed_at IS NULL) + "
            "(SELECT count(*) FROM fourseller_product_mappings WHERE dirty_since IS NOT NULL)"
        )
        self.wait(lambda: value(self.world.database, waiting) == 0, "rest")


def wait_until(seen: Callable[[], Any], what: str) -> Any:
    """Calls `seen` until it gives something true, and gives that. Raises AssertionError when it does not in time."""
    until, pause = time.monotonic() + WAIT_SECONDS, 0.005
    while time.monotonic() < until:
        if found := seen():
            return found
        time.sleep(pause)
        pause = min(pause * 1.3, 0.1)  # most looks ask the database, which others need too
    raise AssertionError(f"{what} did not come within {WAIT_SECONDS} s")


def signed(
    event: object,
    *,
    webhook_id: str | None = None,
    age: timedelta = timedelta(),
    secret: str = SECRET,
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an event."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    key, at = webhook_id or f"msg_{uuid.uuid4().hex}", datetime.now(UTC) - age
    return body, {
        "content-type": "application/json",
        "webhook-id": key,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(key, at, body.decode("utf-8", "surrogateescape"))
        if _is_text(body)
        else "v1,AAAA",
    }


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def running_gateway(world: World, *, with_worker: bool = True, **changes: Any) -> Iterator[Gateway]:
    """A gateway on a free port; `changes` are settings."""
    given = {
        "fourseller_webhook_secret": SECRET,
        "gateway_rate": 10_000,
    }
    world.changes |= given | changes
    service = Service(world.settings, world.database, with_worker=with_worker)
    listening = listen("127.0.0.1", 0)
    server = server_of(service)

    async def until_it_should_exit() -> None:
        await server.on_tick(0)
        while not server.should_exit:  # noqa: ASYNC110 - as uvicorn's own loop, which looks ten times a second
            await asyncio.sleep(0.01)

    server.main_loop = until_it_should_exit  # type: ignore[method-assign]

    def work() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listening]))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    address = address_of(listening)
    with httpx.Client(base_url=address, timeout=WAIT_SECONDS, trust_env=False, verify=False) as client:
        gateway = Gateway(world, service, address, client)
        gateway.wait(lambda: server.started or not thread.is_alive(), "the gateway's start")
        assert server.started
        try:
            yield gateway
        finally:
            server.should_exit = True
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()


def sale(sku: str, **fields: Any) -> dict[str, Any]:
    """An order for two of a SKU, as an event carries it."""
    order = {
        "id": "A-1",
        "status": "pending",
        "created_at": "2026-11-23T10:00:00Z",
        "updated_at": "2026-11-23T10:00:00Z",
        "currency": "USD",
        "total": "20.00",
        "sales_channel": "amazon",
        "customer": {"email": "buyer@example.com", "name": "Sample Buyer"},
        "shipping_address": {"line1": "1 Sample Street", "city": "Faketown"},
        "items": [{"sku": sku, "quantity": 2, "price": "10.00"}],
    }
    return order | fields


def exchange(gateway: Gateway, sent: bytes) -> bytes:
    """What comes back on a connection of its own until it is closed or idle for a while."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=3) as connection:
        received = b""
        try:
            connection.sendall(sent)
            while part := connection.recv(65536):
                received += part
        except (TimeoutError, ConnectionError):
            pass
        return received
