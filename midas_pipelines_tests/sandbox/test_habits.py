"""Each habit as a caller meets it, over a real connection."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from midas_pipelines.cli.local.sandbox import sandbox as command
from midas_pipelines.sandbox.app import Sandbox
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.sandbox.habits import HABITS
from midas_pipelines_tests.sandbox_thread import SandboxThread

AT = "2026-11-27T10:00:00Z"
PRODUCT = {
    "title": "screen for a phone",
    "description": "<p>Good</p>",
    "sku": "AB-1",
    "price": "1010.00",
    "images": [{"url": "https://shop.example/one.jpg"}],
    "inventory": {"quantity": 4},
}


@pytest.fixture
def app(sandbox: SandboxThread) -> Sandbox:
    return sandbox.app


@pytest.fixture
def made(api: httpx.Client, app: Sandbox) -> Any:
    """A product, an order of it, and no habit yet."""
    product = api.post("/products", json=PRODUCT).json()
    app.shoppers._random.seed(1)
    order = app.state.place({**app.shoppers.order([{"sku": "AB-1", "quantity": 1}]), "id": "700002"})
    return product, order


def listed(api: httpx.Client, **query: Any) -> Any:
    return api.get("/products", params=query).json()


@pytest.mark.parametrize("name", HABITS)
def test_every_habit_is_described_and_leaves_the_sandbox_alive(
    app: Sandbox, api: httpx.Client, made: Any, name: str
) -> None:
    app.habits.set(f"{name}=1" if name != "redirects" else name)
    for path in ("/products", "/orders", f"/products/{made[0]['id']}", "/orders/700002"):
        assert api.get(path).status_code in (200, 307, 400, 429)
    assert HABITS[name].sentence.endswith(".")
    app.habits.set()
    assert listed(api)["data"] == [app.state.products[made[0]["id"]]]
    assert api.get("/orders").json()["data"] == [app.state.orders["700002"]]


def test_they_are_set_by_name_at_the_start_at_run_time_and_from_the_command_line(
    control: httpx.Client, api: httpx.Client
) -> None:
    assert SandboxConfig(habits={"small-pages": 5}).habits == {"small-pages": 5}
    with pytest.raises(ValueError, match="no habit 'smal'"):
        SandboxConfig(habits={"smal": 5})
    habits = {"small-pages": 1, "ghosts": 1}
    assert control.put("/settings", json={"habits": habits}).json()["habits"] == habits
    assert listed(api)["limit"] == 1
    assert control.put("/settings", json={"habits": {"smal": 1}}).status_code == 400
    assert control.get("/settings").json()["habits"] == habits
    shown = CliRunner().invoke(command, ["--habits"]).output
    assert all(name in shown and habit.sentence in shown for name, habit in HABITS.items())
    refused = CliRunner().invoke(command, ["--habit", "small-pages=few"])
    assert refused.exit_code == 2
    assert "small-pages=5" in refused.output


def test_lists_are_empty_short_capped_or_of_other_sizes(app: Sandbox, api: httpx.Client) -> None:
    for number in range(5):
        api.post("/products", json={**PRODUCT, "sku": f"S-{number}"})
    app.habits.set("empty-lists=1")
    assert [listed(api)["total"] for _ in range(2)] == [0, 5]
    app.habits.set("empty-lookups=0")
    assert [listed(api, sku="S-1")["total"], listed(api)["total"]] == [0, 5]
    app.habits.set("short-lists=2", "capped-totals=4")
    assert (len(listed(api)["data"]), listed(api)["total"]) == (3, 4)
    app.habits.set("few-rows=2")
    assert (len(listed(api)["data"]), listed(api)["limit"]) == (2, 100)
    app.habits.set("deep-offsets-refused=3")
    assert [api.get("/products", params={"offset": at}).status_code for at in (3, 4)] == [200, 400]
    app.habits.set("short-history=2")
    assert api.get("/orders", params={"updated_from": "2020-01-01T00:00:00Z"}).status_code == 400
    app.habits.set("first-page-only", "huge-totals")
    assert listed(api, offset=3)["data"][0]["sku"] == "S-0"
    assert listed(api)["total"] == 10**30


def test_lists_lag_behind_and_show_what_is_gone(app: Sandbox, api: httpx.Client, made: Any) -> None:
    app.habits.set("late-lists=1", "ghosts")
    api.post("/products", json={**PRODUCT, "sku": "NEW"})
    assert [listed(api, sku="NEW")["total"] for _ in range(3)] == [0, 1, 1]
    api.delete(f"/products/{made[0]['id']}")
    assert [listed(api)["total"] for _ in range(3)] == [2, 2, 2]
    assert api.get(f"/products/{made[0]['id']}").status_code == 404


def test_writes_answer_200_without_effect_or_keep_something_else(
    app: Sandbox, api: httpx.Client, made: Any
) -> None:
    path = f"/products/{made[0]['id']}"
    app.habits.set("deletes-ignored", "order-updates-ignored", "stock-ignored", "product-updates-ignored")
    assert api.delete(path).status_code == 200
    assert api.patch(f"{path}/inventory", json={"quantity": 9, "timestamp": AT}).json()["quantity"] == 3
    assert api.put(path, json={**PRODUCT, "title": "Other"}).json()["title"] == PRODUCT["title"]
    moved = api.patch("/orders/700002", json={"status": "processing", "updated_at": AT})
    assert (moved.status_code, moved.json()["status"]) == (200, "pending")
    app.habits.set("skus-respelled", "images-rewritten", "html-stripped", "title-case")
    kept = api.put(path, json=PRODUCT).json()
    assert (kept["sku"], kept["title"], kept["description"]) == ("ab-1", "Screen For A Phone", "Good")
    assert kept["images"][0]["url"] == "https://images.example.com/0/one.jpg"


def test_a_late_write_lands_over_a_newer_one(app: Sandbox, api: httpx.Client, made: Any) -> None:
    path = f"/products/{made[0]['id']}/inventory"
    app.habits.set("late-writes=0.5")
    with pytest.raises(httpx.HTTPError):
        api.patch(path, json={"quantity": 90, "timestamp": AT})
    assert api.patch(path, json={"quantity": 90, "timestamp": AT}).status_code == 200
    app.habits.on.clear()
    app.state.set_quantity(made[0]["id"], 7)
    until = time.monotonic() + 20
    while api.get(path).json()["quantity"] != 90 and time.monotonic() < until:
        time.sleep(0.05)
    assert api.get(path).json()["quantity"] == 90
    app.habits.set("older-quantities-refused")
    for second, quantity in ((5, 1), (3, 2), (6, 3)):
        api.patch(path, json={"quantity": quantity, "timestamp": f"2026-11-27T10:00:0{second}Z"})
        assert api.get(path).json()["quantity"] == {2: 1}.get(quantity, quantity)


ODD_ROWS: dict[str, Any] = {
    "numbers-as-texts": lambda order: (order["items"][0]["quantity"], order["total"]) == ("1", "1,014.99"),
    "texts-as-numbers": lambda order: isinstance(order["shipping_address"]["postal_code"], int),
    "number-ids": lambda order: order["id"] == 700002,
    "objects-as-lists": lambda order: order["customer"] == order["shipping_address"] == [],
    "odd-dates": lambda order: order["created_at"] == "Fri, 27 Nov 2026 10:00:00 +0000",
    "masked-values": lambda order: order["customer"]["name"] == order["tracking"]["number"] == "N/A",
    "sparse-orders": lambda order: set(order) == {"id", "status", "items", "customer"},
    "unknown-statuses": lambda order: order["status"] == "awaiting_stock_check",
    "tax-included": lambda order: order["taxes_included"] and order["tax_total"] == "168.33",
    "line-discounts": lambda order: (order["items"][0]["discount"], order["total"]) == ("1.00", "1013.99"),
    "gift-cards": lambda order: (order["gift_card"], order["total"]) == ("2.50", "1012.49"),
    "fees": lambda order: (order["fees"][0]["amount"], order["total"]) == ("1.75", "1016.74"),
}


@pytest.mark.parametrize("name", ODD_ROWS)
def test_orders_look_odd_in_lists_and_alone(app: Sandbox, api: httpx.Client, made: Any, name: str) -> None:
    app.habits.set(name)
    assert ODD_ROWS[name](api.get("/orders").json()["data"][0])
    assert ODD_ROWS[name](api.get("/orders/700002").json())


def test_spoiled_texts_are_bytes_that_no_json_has(app: Sandbox, api: httpx.Client, made: Any) -> None:
    app.habits.set("half-characters=3")
    with pytest.raises(UnicodeDecodeError):
        api.get("/orders").content.decode()
    app.habits.set("control-characters=3")
    assert b"\x01" in api.get("/orders").content
    app.habits.set("not-a-number=3")
    assert b'"total":NaN' in api.get("/orders").content
    app.habits.set("odd-quantities")
    assert listed(api)["data"][0]["inventory"]["quantity"] in (-3, None, "7", "", 2.5, True)
    app.habits.set("images-as-texts")
    assert listed(api)["data"][0]["images"] == ["https://shop.example/one.jpg"]


def test_answers_pause_lead_elsewhere_and_swell(app: Sandbox, api: httpx.Client, made: Any) -> None:
    app.habits.set("unix-retry-after=1")
    first = api.get("/orders")
    assert (first.status_code, int(first.headers["retry-after"]) > time.time()) == (429, True)
    assert api.get("/orders").status_code == 200
    app.habits.set("redirects=307")
    led = api.get("/orders")
    assert led.status_code == 307
    assert api.get(led.headers["location"]).json()["data"] == []
    assert json.loads(api.get(led.headers["location"]).content)["total"] == 0
    app.habits.set("gzip-bomb=2")
    assert int(api.head("/orders").status_code) == 405
    bomb = api.get("/orders")
    assert (len(bomb.content) > 2_000_000, int(bomb.headers["content-length"]) < 20_000) == (True, True)
    app.habits.set("endless-bodies=1")
    swollen = api.get("/orders")
    assert "content-length" not in swollen.headers
    assert (len(swollen.content) > 1_000_000, swollen.json()["total"]) == (True, 1)
