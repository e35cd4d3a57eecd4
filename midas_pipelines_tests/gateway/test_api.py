"""The shop's calls: sync a few items, follow a sync, look at orders, move one on, ask how things stand."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from midas_pipelines.gateway.worker.reports import Metrics
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import Gateway
from midas_pipelines_tests.shop import add_product, run, value


@pytest.fixture
def operator(door: Gateway) -> str:
    return door.key(Role.OPERATOR)


def test_a_few_skus_are_done_at_once_and_answered_with_what_happened(door: Gateway, operator: str) -> None:
    add_product(door.world.database, sku="A-1", stock_quantity=7)
    add_product(door.world.database, sku="A-2", name="")
    answer = door.call("POST", "sync/products", operator, json={"skus": ["A-1", "A-2"]}).json()
    assert answer["outcome"] == "done"
    assert answer["counts"]["created"] == 1
    first, second = answer["items"]
    assert (first["sku"], first["state"], first["quantity"], first["waits"]) == ("A-1", "listed", 7, False)
    assert second["state"] == "quarantined"
    assert "name is empty" in second["reason"]


def test_beside_a_worker_the_answer_is_the_same(gateway: Gateway) -> None:
    add_product(gateway.world.database, sku="A-1", stock_quantity=7)
    answer = gateway.call("POST", "sync/products", gateway.key(Role.OPERATOR), json={"skus": ["A-1"]}).json()
    assert [(item["state"], item["quantity"]) for item in answer["items"]] == [("listed", 7)]
    assert len(gateway.world.sandbox.state.products) == 1


def test_a_dry_run_tells_and_sends_nothing(door: Gateway, operator: str) -> None:
    add_product(door.world.database, sku="A-1")
    answer = door.call("POST", "sync/products", operator, json={"skus": ["A-1"], "dry_run": True}).json()
    assert answer["outcome"] == "planned"
    assert [(row["action"], row["sku"]) for row in answer["plan"]] == [("create", "A-1")]
    assert not door.world.sandbox.state.products


def test_a_dry_run_of_quantities_counts_what_it_plans(door: Gateway, operator: str) -> None:
    product = add_product(door.world.database, sku="A-1", stock_quantity=7)
    door.call("POST", "sync/products", operator, json={})
    door.world.set(product, stock_quantity=3)
    add_product(door.world.database, sku="A-2")
    answer = door.call("POST", "sync/inventory", operator, json={"dry_run": True}).json()
    assert [(row["action"], row["sku"]) for row in answer["plan"]] == [("quantity", "A-1")]
    assert (answer["counts"]["updated"], answer["counts"]["created"]) == (1, 0)


def test_a_field_that_is_null_is_one_that_is_not_given(door: Gateway, operator: str) -> None:
    add_product(door.world.database, sku="A-1", stock_quantity=7)
    for wish in ({"mode": None, "skus": ["A-1"]}, {"mode": "incremental", "skus": None}):
        assert door.call("POST", "sync/products", operator, json=wish).status_code == 200, wish
    order_id = door.world.place(("A-1", 1))
    door.call("POST", "orders", operator)
    move = {"status": "processing", "shipment": None}
    assert door.call("PATCH", f"orders/{order_id}", operator, json=move).status_code == 200


def test_a_patch_that_is_wrong_names_the_wrong_fields_and_no_other(door: Gateway, operator: str) -> None:
    for move, wrong in (
        ({"status": "lost"}, ["body.StatusPatch.status"]),
        ({"shipment": {"carrier": 3, "number": "1"}}, ["body.ShipmentPatch.shipment.carrier"]),
        ({}, ["body.StatusPatch.status"]),
    ):
        answer = door.call("PATCH", "orders/1", operator, json=move)
        assert [error["where"] for error in answer.json()["errors"]] == wrong, move


def test_quantities_are_pushed_alone(door: Gateway, operator: str) -> None:
    product = add_product(door.world.database, sku="A-1", stock_quantity=7)
    door.call("POST", "sync/products", operator, json={"mode": "incremental"})
    door.world.set(product, stock_quantity=3, name="Another")
    answer = door.call("POST", "sync/inventory", operator, json={"skus": ["A-1"]}).json()
    assert (answer["counts"]["pushed"], answer["items"][0]["quantity"]) == (1, 3)
    assert answer["items"][0]["waits"]  # its name is left to the product sync


WRONG: dict[str, Any] = {
    "an unknown mode": {"mode": "quick"},
    "an unknown field": {"mode": "full", "force": True},
    "a number for a SKU": {"skus": [1]},
    "no SKU": {"skus": []},
    "text for a flag": {"mode": "full", "dry_run": "yes"},
}


def test_a_wish_that_is_wrong_is_422_with_the_field(door: Gateway, operator: str) -> None:
    for case, wish in WRONG.items():
        answer = door.call("POST", "sync/products", operator, json=wish)
        assert answer.status_code == 422, case
        assert answer.json()["errors"], case


def test_too_much_for_a_call_says_what_to_set(door: Gateway, operator: str) -> None:
    answer = door.call("POST", "sync/products", operator, json={"mode": "full"})
    assert answer.status_code == 409
    assert "MIDAS_DAGSTER_URL" in answer.json()["detail"]


class Webserver(BaseHTTPRequestHandler):
    """What a Dagster webserver answers to the two questions that are asked of it."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked.append(question)
        jobs = [{"name": name} for name in ("full_sync", "plan_sync")]
        nodes = [{"name": "__repository__", "location": {"name": "ours"}, "pipelines": jobs}]
        data = (
            {"launchPipelineExecution": {"__typename": "LaunchRunSuccess", "run": {"runId": "run-1"}}}
            if question["query"].lstrip().startswith("mutation")
            else {"repositoriesOrError": {"__typename": "RepositoryConnection", "nodes": nodes}}
        )
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_a_full_sync_is_launched_as_a_dagster_run(start: Start) -> None:
    Webserver.asked = []
    server = HTTPServer(("127.0.0.1", 0), Webserver)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    gateway = start(with_worker=False, dagster_url=url)
    key, planned = gateway.key(Role.OPERATOR), {"mode": "full", "dry_run": True}
    answer = gateway.call("POST", "sync/products", key, json={"mode": "full"})
    plan = gateway.call("POST", "sync/inventory", key, json=planned)
    server.shutdown()
    server.server_close()
    assert answer.status_code == 202
    assert answer.json()["url"] == f"{url}/runs/run-1"
    assert answer.headers["location"] == plan.headers["location"] == "/api/marketplace/sync/products"
    launched = Webserver.asked[1]["variables"]["executionParams"]
    assert launched["runConfigData"] == {"ops": {}}
    assert {"key": "midas/driver", "value": "gateway"} in launched["executionMetadata"]["tags"]


def test_a_running_sync_tells_how_far_it_has_come(door: Gateway, operator: str) -> None:
    counts = '{"done": 30, "total": 120, "at": "2999-01-01T00:00:00+00:00"}'
    run(
        door.world.database,
        "INSERT INTO fourseller_sync_logs (kind, scope, counts) VALUES ('products', 'full', :counts)",
        counts=counts,
    )
    add_product(door.world.database, sku="A-1")
    door.call("POST", "sync/products", operator, json={"skus": ["A-1"]})
    state = door.call("GET", "sync/products", operator).json()
    assert (state["running"]["done"], state["running"]["total"]) == (30, 120)
    assert state["running"]["rate"] > 0
    assert (state["last"]["outcome"], state["last"]["counts"]["created"]) == ("done", 1)
    run(
        door.world.database,
        "INSERT INTO fourseller_sync_logs (kind, scope) VALUES ('inventory', 'dirty')",
    )
    begun = door.call("GET", "sync/inventory", operator).json()["running"]
    assert (begun["total"], begun["rate"], begun["seconds_left"]) == (None, None, None)


@pytest.mark.both_databases
def test_orders_are_imported_listed_page_by_page_and_told_whole(door: Gateway, operator: str) -> None:
    add_product(door.world.database, sku="A-1", stock_quantity=50)
    placed = [door.world.place(("A-1", 1)) for _ in range(5)] + [door.world.place(("NONE", 1))]
    assert door.call("POST", "orders", operator).json()["imported"] == 6
    seen, before = [], None
    for _ in placed:
        query = {"limit": 2} | ({"before": before} if before else {})
        page = door.call("GET", "orders", operator, params=query).json()
        seen += [row["marketplace_order_id"] for row in page["data"]]
        before = page["next"]
        if before is None:
            break
    assert sorted(seen) == sorted(placed)
    flawed = door.call("GET", "orders", operator, params={"exception": True}).json()["data"]
    assert [row["exception"] for row in flawed] == ["unmapped"]
    story = door.call("GET", f"orders/{placed[0]}", operator)
    entries = story.json()["entries"]
    assert {entry["what"] for entry in entries} == {"imported", "deducted", "stock: sale"}
    assert [entry["facts"]["delta"] for entry in entries if entry["what"] == "stock: sale"] == [-1]
    assert "@example.com" not in story.text


def test_an_order_is_moved_on_and_4seller_told_of_the_parcel(door: Gateway, operator: str) -> None:
    add_product(door.world.database, sku="A-1")
    order_id = door.world.place(("A-1", 1), status="pending")
    door.call("POST", "orders", operator)
    move = {"status": "shipped", "shipment": {"carrier": "UPS", "number": "1Z999AA10123456784"}}
    answer = door.call("PATCH", f"orders/{order_id}", operator, json=move)
    assert answer.json() == {
        "marketplace_order_id": order_id,
        "status": "shipped",
        "pushed": True,
        "reason": None,
    }
    order = door.world.sandbox.state.orders[order_id]
    assert (order["status"], order["tracking"]["number"]) == ("shipped", "1Z999AA10123456784")
    assert value(door.world.database, "SELECT status FROM orders") == "shipped"
    back = door.call("PATCH", f"orders/{order_id}", operator, json={"status": "processing"})
    assert back.status_code == 409
    assert door.call("PATCH", "orders/none", operator, json={"status": "shipped"}).status_code == 404


def test_the_status_says_how_everything_stands(gateway: Gateway) -> None:
    add_product(gateway.world.database, sku="A-1")
    gateway.settled()
    seen = gateway.call("GET", "status", gateway.key(Role.VIEWER)).json()
    assert seen["worker"] == "running"
    assert (seen["items"], seen["dirty"], seen["oldest_dirty"]) == ({"listed": 1}, 0, None)
    assert (seen["quarantined_items"], seen["webhooks"]) == (0, 0)
    assert seen["channels"] == [
        {"name": name, "listed": 1, "healthy": True, "trouble": None} for name in ("website", "fourseller")
    ]
    assert {"full_sync", "order_import"} <= {workflow["name"] for workflow in seen["workflows"]}


def test_the_status_counts_what_needs_a_person_by_cause(door: Gateway, operator: str) -> None:
    database, viewer = door.world.database, door.key(Role.VIEWER)
    assert door.call("GET", "status", viewer).json()["needs_a_person"] == {}
    add_product(database, sku="NAMELESS", name="")
    door.call("POST", "sync/products", operator, json={"skus": ["NAMELESS"]})
    run(
        database,
        "INSERT INTO sync_conflicts (subject, field, policy, resolved_at) VALUES ('mapping:1', 'price', 'manual', NULL), "
        "('mapping:1', 'title', 'manual', NULL), ('product:9', 'unknown', 'manual', NULL), "
        "('mapping:2', 'price', 'manual', '2026-01-01 00:00:00+00:00')",
    )
    with database.writing() as connection:
        raise_alert(connection, kind="low_stock", subject="A-1", text="A-1 runs out.")
    counted = door.call("GET", "status", viewer).json()["needs_a_person"]
    assert list(counted.items()) == [  # the worst first
        ("conflict", 2),
        ("orphan", 1),
        ("quarantined_item", 1),
        ("low_stock", 1),
    ]


def test_a_program_reads_alerts_with_the_pages_that_settle_them(door: Gateway, operator: str) -> None:
    with door.world.database.writing() as connection:
        raise_alert(connection, kind="items_stuck", subject="items", text="`midas items list` shows all.")
        text = "Retry it with `midas orders retry`."
        raise_alert(connection, kind="order_quarantined", subject="order:114-1", text=text)
    texts = {alert["text"] for alert in door.call("GET", "alerts", operator).json()["data"]}
    assert texts == {"/decide?cause=quarantined_item shows all.", "Retry it at /orders/114-1."}


def test_prometheus_reads_counters_latencies_and_backlogs(gateway: Gateway) -> None:
    add_product(gateway.world.database, sku="A-1")
    gateway.settled()
    text = gateway.call("GET", "/metrics", gateway.key(Role.VIEWER)).text
    assert 'midas_pushes_total{result="listed"} 1.0' in text
    assert "midas_items_dirty 0.0" in text
    assert "midas_push_seconds_bucket" in text


def test_it_is_ready_while_the_database_is(gateway: Gateway) -> None:
    assert gateway.call("GET", "/readyz").status_code == 200
    run(gateway.world.database, "UPDATE midas_alembic_version SET version_num = '0000'")
    answer = gateway.call("GET", "/readyz")
    assert answer.status_code == 503
    assert "midas db upgrade" in answer.json()["detail"]


DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "midas-gateway.json"


def test_every_metric_on_the_dashboard_is_measured(shop: Database) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {
        re.sub(r"_(bucket|total)$", "", name)
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"midas_\w+", target["expr"])
    }
    measured = {family.name for family in Metrics(shop).registry.collect()}
    assert asked <= measured
    assert asked
