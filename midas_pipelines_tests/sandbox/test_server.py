"""The sandbox as others meet it: its controls, its page, its process, its memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from click.testing import CliRunner

from midas_pipelines.cli import cli
from midas_pipelines.sandbox import config as sandbox_config
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import FAULT_KINDS, Faults, RateLimit, SandboxConfig
from midas_pipelines_tests.sandbox.conftest import CREDENTIALS

PRODUCT = {"title": "Screen", "sku": "S-1", "price": "9.99", "inventory": {"quantity": 4}}


def test_the_controls_do_what_they_say(
    sandbox: BackgroundSandbox, api: httpx.Client, control: httpx.Client
) -> None:
    made = api.post("/products", json=PRODUCT).json()
    control.put(f"/products/{made['id']}", json={"title": "Changed there", "inventory": {"quantity": 1}})
    assert api.get(f"/products/{made['id']}").json()["title"] == "Changed there"
    orphan = control.post("/products", json={"sku": "S-1"}).json()
    assert api.get("/products", params={"sku": "S-1"}).json()["total"] == 2
    control.delete(f"/products/{orphan['id']}")
    order = control.post("/orders", json={"items": [{"sku": "S-1"}], "status": "unpaid"}).json()
    assert order["items"][0]["price"] == "9.99"
    assert api.get(f"/products/{made['id']}/inventory").json()["quantity"] == 0
    assert control.post(f"/orders/{order['id']}", json={"action": "pay"}).json()["status"] == "pending"
    assert control.post(f"/orders/{order['id']}", json={"action": "pay"}).status_code == 409
    assert control.post(f"/orders/{order['id']}", json={"action": "cancel"}).json()["status"] == "cancelled"
    assert api.get(f"/products/{made['id']}/inventory").json()["quantity"] == 1
    assert control.get("/counts").json()["GET"] == {"200": 4}
    assert [one["method"] for one in control.get("/calls").json()][:2] == ["POST", "GET"]
    control.put("/settings", json={"rate_limit": 1})
    assert {api.get("/orders").status_code for _ in range(5)} == {200, 429}
    control.put("/settings", json={"rate_limit": 0, "latency_ms": 30})
    started = time.monotonic()
    api.get("/orders")
    assert time.monotonic() - started >= 0.03
    control.post("/reset", json={})
    assert api.get("/orders").json()["total"] == api.get("/products").json()["total"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/settings", {"faults": {"gremlins": 0.1}}),
        ("PUT", "/settings", {"faults": {"500": 2}}),
        ("PUT", "/settings", {"faults": {"500": 0.7, "503": 0.7}}),
        ("PUT", "/settings", {"next_faults": ["gremlins"]}),
        ("PUT", "/settings", {"next_faults": {}}),
        ("PUT", "/settings", {"latency_ms": "slow"}),
        ("PUT", "/settings", {"shoppers_rate": None}),
        ("PUT", "/settings", {"webhooks": {"duplicates": 7}}),
        ("PUT", "/settings", {"latency": 7}),
        ("POST", "/orders/none", {"action": "cancel"}),
        ("POST", "/orders/none", {"action": "burn"}),
        ("DELETE", "/products/none", None),
    ],
)
def test_a_control_that_makes_no_sense_is_refused_in_a_sentence(
    control: httpx.Client, method: str, path: str, body: dict[str, object] | None
) -> None:
    response = control.request(method, path, json=body)
    assert response.status_code in (400, 404)
    assert " " in response.json()["error"]["message"]


def test_scripted_faults_come_in_order_and_then_end(api: httpx.Client, control: httpx.Client) -> None:
    control.put("/settings", json={"next_faults": ["503", None, "429"]})
    assert [api.get("/orders").status_code for _ in range(4)] == [503, 200, 429, 200]


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_every_kind_of_fault_can_be_drawn(kind: str) -> None:
    assert Faults(SandboxConfig(faults={kind: 1.0})).draw() == kind
    shares = Faults(SandboxConfig(faults={kind: 0.3}, seed=4))
    drawn = sum(shares.draw() == kind for _ in range(2000)) / 2000
    assert 0.26 < drawn < 0.34


def test_a_reset_is_no_line_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    kinds = ["reset-before", "reset-after-apply", "truncated"]
    with (
        BackgroundSandbox(SandboxConfig()) as sandbox,
        httpx.Client(headers=CREDENTIALS) as client,
    ):
        client.put(f"{sandbox.control_url}/settings", json={"next_faults": kinds})
        for _ in kinds:
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                client.get(f"{sandbox.url}/orders")
        assert client.get(f"{sandbox.url}/orders").status_code == 200
        settings = {"next_faults": ["timeout"], "timeout_seconds": 0.3}
        client.put(f"{sandbox.control_url}/settings", json=settings)
        with pytest.raises(httpx.ReadTimeout):  # the client is gone when its connection is to be reset
            client.get(f"{sandbox.url}/orders", timeout=0.1)
        time.sleep(0.4)
        assert client.get(f"{sandbox.url}/orders").status_code == 200
    assert capfd.readouterr().err == ""


def test_the_rate_limit_lets_its_rate_pass_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(sandbox_config, "time", SimpleNamespace(monotonic=lambda: now[0]))
    limit = RateLimit(100)
    passed = 0
    for _ in range(10_000):
        now[0] += 0.001
        passed += limit.take() == 0
    assert 1000 <= passed <= 1012


def test_the_page_escapes_what_it_shows(
    sandbox: BackgroundSandbox, api: httpx.Client, control: httpx.Client
) -> None:
    evil = "<script>alert(1)</script>"
    api.post("/products", json=PRODUCT | {"title": evil, "sku": evil})
    control.post(
        "/orders",
        json={"items": [{"title": evil, "quantity": 1}], "customer": {"name": evil}, "status": evil},
    )
    control.post("/orders", json={"items": None, "customer": None, "total": None})
    api.get("/products", params={"sku": evil})
    page = httpx.get(sandbox.root)
    assert page.status_code == 200
    assert "<script" not in page.text
    assert page.text.count("&lt;script&gt;") >= 5
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("<!doctype", "").split("</style>")[1]


def test_the_buttons_of_the_page_do_what_they_say(
    sandbox: BackgroundSandbox, api: httpx.Client, control: httpx.Client
) -> None:
    api.post("/products", json=PRODUCT | {"sku": "S-1", "inventory": {"quantity": 9}})
    for label in ("A shopper orders", "Cancel the last order", "Cancel the last order", "Edit a price here"):
        assert f'value="{label}"' in httpx.get(sandbox.root).text
        assert httpx.post(sandbox.root, data={"press": label}).status_code == 303
    assert [one["status"] for one in control.get("/orders").json()] == ["cancelled"]
    assert [one["price"] for one in control.get("/products").json()] == ["99.99"]
    httpx.post(sandbox.root, data={"press": "Half of the calls fail"})
    assert control.get("/settings").json()["faults"] == {"503": 0.5}


def test_the_people_are_plainly_invented(control: httpx.Client) -> None:
    for _ in range(20):
        customer = control.post("/orders", json={}).json()["customer"]
        assert customer["email"].endswith("@example.com")
        assert "555-0100" in customer["phone"]


def test_shoppers_buy_pay_and_cancel(api: httpx.Client, control: httpx.Client) -> None:
    for number in range(5):
        api.post("/products", json=PRODUCT | {"sku": f"S-{number}", "inventory": {"quantity": 100}})
    control.put("/settings", json={"shoppers_rate": 400})
    until = time.monotonic() + 20
    seen: set[str] = set()
    while not seen >= {"pending", "cancelled"} and time.monotonic() < until:
        time.sleep(0.02)
        seen = {one["status"] for one in control.get("/orders").json()}
    control.put("/settings", json={"shoppers_rate": 0})
    orders = control.get("/orders").json()
    taken = sum(line["quantity"] for one in orders if one["status"] != "cancelled" for line in one["items"])
    stock = sum(one["inventory"]["quantity"] for one in control.get("/products").json())
    assert {one["status"] for one in orders} >= {"pending", "cancelled"}
    assert stock == 500 - taken


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


def test_a_process_of_its_own_ends_with_the_block_and_keeps_its_state(tmp_path: Path) -> None:
    config = SandboxConfig(state_file=str(tmp_path / "state.db"))
    with BackgroundSandbox(config) as sandbox:
        pid = sandbox.pid
        assert pid is not None
        made = httpx.post(f"{sandbox.url}/products", json=PRODUCT, headers=CREDENTIALS).json()
        os.kill(pid, signal.SIGKILL)
        assert gone_within(pid, 5)
    with BackgroundSandbox(config) as sandbox:
        pid = sandbox.pid
        assert httpx.get(f"{sandbox.url}/products/{made['id']}", headers=CREDENTIALS).json() == made
    assert pid is not None
    assert not alive(pid)


def test_a_process_of_its_own_dies_with_a_killed_parent() -> None:
    script = (
        "import time; from midas_pipelines.sandbox.background import BackgroundSandbox, SandboxConfig\n"
        "with BackgroundSandbox(SandboxConfig()) as s: print(s.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    assert gone_within(pid, 5)


def test_the_settings_can_be_read_back_without_the_secret(control: httpx.Client) -> None:
    hooks = {"url": "http://127.0.0.1:9/", "secret": "whsec_c2VjcmV0c2VjcmV0"}
    control.put("/settings", json={"webhooks": hooks})
    settings = control.get("/settings")
    assert settings.json()["webhooks"]["secret_set"] is True
    assert "c2VjcmV0" not in settings.text
    assert json.loads(settings.text)["faults"] == {}


def test_a_state_that_is_none_of_the_sandboxs_is_named(tmp_path: Path) -> None:
    (tmp_path / "orders.json").write_text('["order", "O000001", {}]')
    done = CliRunner().invoke(cli, ["sandbox", "--port", "0", "--state", f"{tmp_path}/orders.json"])
    assert done.exit_code == 1
    assert "orders.json cannot be used: file is not a database." in done.output
