"""The pages about the machinery: keys, settings, activity, alerts, webhooks, stock, the machine room."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
from dagster_graphql import DagsterGraphQLClient

from midas_pipelines.console_pages import COMMANDS, PAGE_OF_KIND
from midas_pipelines.gateway.console import today
from midas_pipelines.gateway.dagster_launcher import DagsterLauncher
from midas_pipelines.notify.alerts import raise_alerts
from midas_pipelines.store.gateway.keys import Role, find_caller
from midas_pipelines.store.gateway.webhooks import NewWebhook, store_webhooks
from midas_pipelines.store.items.claims import RESTORED, stop_pushes, why_stopped
from midas_pipelines.store.orders.payload_vault import without_persons
from midas_pipelines_tests.gateway.console.visitor import Visitor
from midas_pipelines_tests.shop import add_product, rows, run, value


def test_a_key_is_shown_once_replaced_and_revoked(admin: Visitor) -> None:
    database = admin.world.database
    answer = admin.client.post("/keys", data={"csrf": admin.csrf, "name": "Kim Sample", "role": "operator"})
    key = re.search(r"midas_\w+_[\w-]+", answer.text)
    assert key is not None
    assert key[0] not in admin.see("/keys")
    key_id = key[0].split("_")[1]
    fields = {"csrf": admin.csrf, "key_id": key_id, "grace_minutes": "0"}
    newer = re.search(r"midas_\w+_[\w-]+", admin.client.post("/keys/rotate", data=fields).text)
    assert newer is not None
    with database.reading() as connection:
        assert find_caller(connection, key[0]) is None
        caller = find_caller(connection, newer[0])
    assert caller is not None
    assert (caller.name, caller.role) == ("Kim Sample", Role.OPERATOR)
    assert "is revoked" in admin.click("/keys/revoke", key_id=caller.key_id)
    assert "1 keys were reviewed" in admin.click("/keys/review")
    audit = str([tuple(row) for row in rows(database, "SELECT actor, action, detail FROM gateway_audit")])
    assert "Alex Sample" in audit
    assert "POST /keys/rotate" in audit
    assert newer[0] not in audit


def test_the_doctor_says_what_to_do_next(admin: Visitor) -> None:
    page = admin.see("/doctor")
    for check in ("key and seller id", "triggers", "our tables", "encryption key", "webhooks"):
        assert check in page
    assert "next step" in page.lower()


def test_settings_show_where_each_comes_from_and_no_secret(admin: Visitor) -> None:
    page = admin.see("/settings")
    secrets = (admin.world.settings.payload_key, admin.world.settings.fourseller_api_key)
    assert all(one is not None and one.get_secret_value() not in page for one in secrets)
    line = re.search(r"MIDAS_IN_FLIGHT.*", page)
    assert line is not None
    assert "<b>environment</b>" in line[0]
    assert "default" in (re.search(r"MIDAS_KEY_DAYS.*", page) or [""])[0]


def test_activity_is_filtered_and_paged(admin: Visitor) -> None:
    for _ in range(30):
        admin.click("/keys/review")
    first = admin.see("/activity")
    assert first.count("<code>POST /keys/review</code>") == 50
    older = re.search(r'href="(/activity\?[^"]*before=\d+)"', first)
    assert older is not None
    second = admin.see(older[1].replace("&amp;", "&"))
    assert second.count("<code>POST /keys/review</code>") == 10
    assert "<code>POST /keys/review</code>" not in admin.see("/activity?what=%25sign-in")
    assert admin.see("/activity?who=alex&what=sign-in&event=answered&days=1").count("POST /sign-in") == 1


def test_what_a_page_loads_does_not_take_its_notice(operator: Visitor) -> None:
    operator.client.post("/machine-room/pause", data={"csrf": operator.csrf})
    operator.client.get("/orders/check-number?carrier=UPS&number=1")
    operator.client.get("/machine-room", headers={"hx-request": "true"})
    operator.client.get("/stock.csv")
    assert "until you let it again" in operator.see("/machine-room")
    assert "until you let it again" not in operator.see("/machine-room")


def test_alerts_are_grouped_and_closed(operator: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    with operator.world.database.writing() as connection:
        texts = {"a": "A is low: `midas stock low` shows all.", "b": "B is low."}
        raise_alerts(connection, kind="low_stock", texts=texts)
    page = operator.see("/alerts")
    assert "A is low: /stock shows all." in page
    assert page.count('id="group-') == 1
    assert page.count('<a href="/stock">Where to resolve it</a>') == 2
    number = re.search(r'name="alert" value="(\d+)"', page)
    assert number is not None
    assert operator.click("/alerts/mark", alert=number[1], what="take") == "Alex Sample sees to it."
    assert "Give back" in operator.see("/alerts")
    assert operator.see("/").count("Items that run out") == 1
    for other in rows(operator.world.database, "SELECT id FROM alerts"):
        operator.click("/alerts/mark", alert=other.id, what="snooze")
    assert "No alert is open" in operator.see("/alerts")
    assert "Items that run out" not in operator.see("/")
    assert operator.see("/alerts?state=snoozed").count("Show again") == 2
    assert operator.click("/alerts/mark", alert=number[1], what="close") == "The alert is closed."
    assert operator.click("/alerts/mark", alert=number[1], what="close") == "This alert was closed before."
    assert value(operator.world.database, "SELECT count(*) FROM alerts WHERE cleared_at IS NULL") == 1
    wrong = operator.client.post("/alerts/test", data={"csrf": operator.csrf, "back": "/alerts"})
    assert wrong.headers["location"] == "/alerts"
    assert "nowhere to send to" in operator.see("/alerts")
    sent: list[Any] = []
    monkeypatch.setattr(today, "read_targets", lambda _: ["target"])
    monkeypatch.setattr(today, "send_test", lambda targets, by: sent.append((targets, by)) or [])
    operator.client.post("/alerts/test", data={"csrf": operator.csrf})
    assert sent == [(["target"], "Alex Sample")]


def test_quarantined_webhooks_are_replayed_and_shown_without_persons(admin: Visitor) -> None:
    database = admin.world.database
    payload = {"type": "order.created", "data": {"id": "A-1", "customer": {"name": "Ann Sample"}}}
    sealed = admin.service.vault.seal(payload)
    with database.writing() as connection:
        store_webhooks(connection, [NewWebhook(f"w/{n}", "order.created", "order:A-1", sealed) for n in "12"])
    run(
        database,
        "UPDATE marketplace_webhooks SET outcome='quarantined', reason='Unknown status.', processed_at=received_at",
    )
    page = admin.see("/webhooks")
    assert "Unknown status." in page
    shown = admin.see("/webhooks/payload?id=w%2F1")
    assert "A-1" in shown
    assert "Ann" not in shown
    assert "1 events are put back" in admin.click("/webhooks/replay", webhook="w/1")
    assert "1 events are put back" in admin.click("/webhooks/replay", everything="yes")
    assert value(database, "SELECT count(*) FROM marketplace_webhooks WHERE processed_at IS NULL") == 2


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"sku": "A", "email": "a@b.example"}, {"sku": "A", "email": "(hidden)"}),
        ({"customer": {"name": "X", "note": 5}}, {"customer": {"name": "(hidden)", "note": "(hidden)"}}),
        ({"Ann Sample": 1, "items": [{"quantity": 2}]}, {"field 1": "(hidden)", "items": [{"quantity": 2}]}),
        (["text"], ["(hidden)"]),
        (None, None),
    ],
)
def test_a_payload_shows_known_fields_alone(payload: object, shown: object) -> None:
    assert without_persons(payload) == shown


def test_stock_shows_first_what_runs_out_first(operator: Visitor) -> None:
    world = operator.world
    for sku, on_hand in (("SLOW", 100), ("FAST", 10), ("=SUM(A1)", 50), ("STILL", 1)):
        add_product(world.database, sku=sku, stock_quantity=on_hand, price="10.00")
    world.full()
    world.place(("SLOW", 5), ("FAST", 6), ("=SUM(A1)", 7))
    world.import_orders()
    key = {"Authorization": f"Bearer {operator.key(Role.VIEWER)}"}
    told = operator.client.get("/api/marketplace/stock", headers=key).json()
    assert [row["sku"] for row in told["data"]] == ["FAST", "=SUM(A1)", "SLOW"]
    assert told["movers"][0] == {"sku": "=SUM(A1)", "sold": 7, "on_hand": 43}
    page = operator.see("/stock")
    places = [page.index(f">{sku}</a>") for sku in ("FAST", "=SUM(A1)", "SLOW")]
    assert places == sorted(places)
    assert "STILL" not in page
    table = list(csv.DictReader(io.StringIO(operator.see("/stock.csv"))))
    assert [row["sku"] for row in table] == ["FAST", "'=SUM(A1)", "SLOW"]
    assert (table[0]["on_hand"], table[0]["order"]) == ("4", "2")


def test_the_channel_is_paused_and_resumed_by_name(operator: Visitor) -> None:
    database = operator.world.database
    add_product(database, sku="A-1", stock_quantity=5, price="10.00")
    assert "until you let it again" in operator.click("/machine-room/pause")
    assert "Alex Sample" in operator.see("/machine-room")
    operator.world.full()
    assert operator.world.listed == {}
    operator.click("/machine-room/resume")
    operator.world.full()
    assert set(operator.world.listed) == {"A-1"}
    with database.writing() as connection:
        stop_pushes(connection, f"{RESTORED} yesterday")
    operator.client.post("/machine-room/resume", data={"csrf": operator.csrf})
    with database.reading() as connection:
        assert why_stopped(connection) is not None


SEEN = {
    "repositoriesOrError": {
        "nodes": [
            {
                "schedules": [
                    {
                        "name": "full_sync_nightly",
                        "pipelineName": "full_sync",
                        "scheduleState": {"status": "STOPPED"},
                        "futureTicks": {"results": [{"timestamp": 1.0}]},
                    }
                ],
                "sensors": [{"name": "alert_delivery_sensor", "sensorState": {"status": "RUNNING"}}],
                "jobs": [
                    {
                        "name": "full_sync",
                        "runs": [{"runId": "r1", "status": "FAILURE", "startTime": 1_790_000_000.0}],
                    }
                ],
            }
        ]
    }
}


def test_the_machine_room_shows_the_switches_of_dagster_and_starts_runs(
    operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No Dagster is connected" in operator.see("/machine-room")
    asked: list[str] = []

    def ask(*_: object) -> dict[str, Any]:
        return SEEN

    def submit(_: DagsterGraphQLClient, job: str, **__: object) -> str:
        asked.append(job)
        return "r2"

    monkeypatch.setattr(operator.service, "orchestrator", DagsterLauncher("http://127.0.0.1:3000"))
    monkeypatch.setattr(DagsterLauncher, "_ask", ask)
    monkeypatch.setattr(DagsterGraphQLClient, "submit_job_execution", submit)
    page = operator.see("/machine-room")
    row = re.search(r"<b>full sync</b>.*?</tr>", page, re.S)
    assert row is not None
    assert [word in row[0] for word in (">off<", ">failed<", "/runs/r1")] == [True, True, True]
    assert operator.click("/machine-room/run", what="full_sync") == "Dagster runs it as r2."
    assert asked == ["full_sync"]


def test_without_dagster_a_run_starts_here(operator: Visitor) -> None:
    add_product(operator.world.database, sku="A-1", stock_quantity=5, price="10.00")
    assert operator.click("/machine-room/run", what="full_sync") == "It runs in this gateway now."
    operator.client.wait(lambda: set(operator.world.listed) == {"A-1"})
    operator.world.place(("A-1", 1))
    operator.click("/machine-room/run", what="order_import")
    count = "SELECT count(*) FROM marketplace_orders"
    operator.client.wait(lambda: value(operator.world.database, count) == 1)


def test_a_plan_is_read_as_a_file(operator: Visitor) -> None:
    add_product(operator.world.database, sku="=A1", stock_quantity=5, price="10.00")
    answer = operator.client.post("/plan", data={"csrf": operator.csrf, "scope": "all"})
    table = list(csv.DictReader(io.StringIO(operator.see(answer.headers["location"] + "/steps.csv"))))
    assert [(row["sku"], row["action"], row["quantity"]) for row in table] == [("'=A1", "create", "5")]


def test_every_page_that_messages_name_is_there(admin: Visitor) -> None:
    for path in {*PAGE_OF_KIND.values(), *COMMANDS.values()}:
        assert admin.see(path), path
