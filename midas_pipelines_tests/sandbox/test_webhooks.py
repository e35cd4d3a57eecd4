"""Webhooks: signed, at least once, retried, and on demand twice or out of order."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from standardwebhooks import Webhook

from midas_pipelines.sandbox.background import BackgroundSandbox

SECRET = "whsec_" + "bWlkYXMtc2FuZGJveC1zZWNyZXQtMDEyMzQ1"
PRODUCT = {"title": "Screen", "sku": "S-1", "price": "9.99", "inventory": {"quantity": 4}}


class Gateway(ThreadingHTTPServer):
    """Takes webhooks; refuses the first `refusals` of them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.refusals = 0
        self.taken: list[tuple[str, dict[str, object]]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def wait(self, count: int) -> list[tuple[str, dict[str, object]]]:
        until = time.monotonic() + 5
        while len(self.taken) < count and time.monotonic() < until:
            time.sleep(0.01)
        return self.taken


class Receiver(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            refuse = self.server.refusals > 0
            self.server.refusals -= 1
            if not refuse:
                Webhook(SECRET).verify(body, {name.lower(): value for name, value in self.headers.items()})
                self.server.taken.append((self.headers["webhook-id"], json.loads(body)))
        self.send_response(503 if refuse else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    server = Gateway()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _hooked(sandbox: BackgroundSandbox, control: httpx.Client, gateway: Gateway) -> None:
    control.put("/settings", json={"webhooks": {"url": gateway.url, "secret": SECRET}})


def test_each_change_is_told_signed_with_the_whole_row(
    api: httpx.Client, control: httpx.Client, gateway: Gateway
) -> None:
    made = api.post("/products", json=PRODUCT).json()
    order = control.post("/orders", json={"items": [{"sku": "S-1", "quantity": 1}]}).json()
    control.post(f"/orders/{order['id']}", json={"action": "cancel"})
    control.delete(f"/products/{made['id']}")
    told = [body for _, body in gateway.wait(6)]
    assert sorted(str(body["type"]) for body in told) == [
        "inventory.updated",
        "inventory.updated",
        "order.cancelled",
        "order.created",
        "product.deleted",
        "product.updated",
    ]
    assert next(body["data"] for body in told if body["type"] == "order.created") == order
    assert next(body["data"] for body in told if body["type"] == "product.updated") == made


def test_a_refused_webhook_is_sent_again_with_the_same_id(api: httpx.Client, gateway: Gateway) -> None:
    gateway.refusals = 2
    api.post("/products", json=PRODUCT)
    assert len(gateway.wait(1)) == 1
    time.sleep(0.1)
    assert len(gateway.taken) == 1


def test_duplicates_carry_the_same_id(api: httpx.Client, control: httpx.Client, gateway: Gateway) -> None:
    control.put("/settings", json={"webhooks": {"duplicates": 1}})
    api.post("/products", json=PRODUCT)
    taken = gateway.wait(2)
    assert len(taken) == 2
    assert len({key for key, _ in taken}) == 1


def test_reordering_lets_later_ones_overtake(
    api: httpx.Client, control: httpx.Client, gateway: Gateway
) -> None:
    control.put("/settings", json={"webhooks": {"reorder": 0.5}})
    for number in range(20):
        api.post("/products", json=PRODUCT | {"sku": f"S-{number:02d}"})
    came = [str(body["data"]["sku"]) for _, body in gateway.wait(20)]  # type: ignore[index]
    assert came != sorted(came)
    assert sorted(came) == [f"S-{number:02d}" for number in range(20)]
