"""Webhooks from 4Seller to their effect: once each, whatever order or shape they come in."""

from __future__ import annotations

import base64
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from midas_pipelines.lib.doctor.report import doctor_report
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.webhooks import MOST_ATTEMPTS, RETRY_SECONDS, Webhook, retry_or_quarantine
from midas_pipelines.sync.orders.intake.write import write_batch
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import HOOK, SECRET, Gateway, sale, signed
from midas_pipelines_tests.shop import add_product, rows, value

OTHER = "whsec_" + "b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldC0wMQ"
STOCK = "SELECT stock_quantity FROM products WHERE id = :id"


def outcomes(gateway: Gateway) -> list[str]:
    query = "SELECT outcome FROM marketplace_webhooks ORDER BY id"
    return [row.outcome for row in rows(gateway.world.database, query)]


@pytest.mark.both_databases
def test_an_order_event_becomes_an_order_takes_stock_and_shows_on_the_channel(gateway: Gateway) -> None:
    product = add_product(gateway.world.database, sku="W-1", stock_quantity=9)
    gateway.settled()
    assert gateway.tell("order.created", sale("W-1")).status_code == 202
    gateway.settled()
    assert outcomes(gateway) == ["applied"]
    assert value(gateway.world.database, STOCK, id=product) == 7
    assert value(gateway.world.database, "SELECT count(*) FROM orders") == 1
    listed = next(iter(gateway.world.sandbox.state.products.values()))
    assert listed["inventory"]["quantity"] == 7


def test_a_known_id_is_answered_200_and_has_no_second_effect(gateway: Gateway) -> None:
    product = add_product(gateway.world.database, sku="W-1", stock_quantity=9)
    first = gateway.tell("order.created", sale("W-1"), webhook_id="msg_1")
    again = gateway.tell("order.created", sale("W-1", id="A-2"), webhook_id="msg_1")
    assert (first.status_code, first.json()) == (202, {"id": "msg_1", "new": True})
    assert (again.status_code, again.json()) == (200, {"id": "msg_1", "new": False})
    gateway.settled()
    assert value(gateway.world.database, STOCK, id=product) == 7


@pytest.mark.both_databases
def test_parallel_identical_webhooks_have_one_effect(gateway: Gateway) -> None:
    product = add_product(gateway.world.database, sku="W-1", stock_quantity=9)
    body, headers = signed({"type": "order.created", "data": sale("W-1")})
    with ThreadPoolExecutor(25) as pool:
        answers = list(
            pool.map(lambda _: gateway.client.post(HOOK, content=body, headers=headers), range(200))
        )
    codes = [answer.status_code for answer in answers]
    assert (codes.count(202), codes.count(200)) == (1, 199)
    gateway.settled()
    assert value(gateway.world.database, STOCK, id=product) == 7
    assert value(gateway.world.database, "SELECT count(*) FROM inventory_changes WHERE cause = 'sale'") == 1


def test_events_in_any_order_end_in_the_newest_state(gateway: Gateway) -> None:
    product = add_product(gateway.world.database, sku="W-1", stock_quantity=9)
    states = [("pending", 0), ("processing", 1), ("cancelled", 2)]
    told = [
        sale("W-1", status=status, updated_at=f"2026-11-23T10:0{minute}:00Z") for status, minute in states
    ]
    for order in reversed(told):
        gateway.tell("order.updated", order)
    gateway.settled()
    assert value(gateway.world.database, "SELECT status FROM marketplace_orders") == "cancelled"
    assert value(gateway.world.database, STOCK, id=product) == 9
    assert outcomes(gateway)[0] == "applied"
    assert set(outcomes(gateway)) <= {"applied", "superseded"}


def test_two_secrets_at_once_let_one_be_changed(start: Start) -> None:
    gateway = start(fourseller_webhook_secret=f"{OTHER},{SECRET}")
    assert gateway.tell("order.created", sale("X"), secret=SECRET).status_code == 202
    assert gateway.tell("order.updated", sale("X"), secret=OTHER).status_code == 202


BAD = {
    "a wrong secret": ({"secret": OTHER}, 401),
    "a right signature too old": ({"age": timedelta(minutes=6)}, 401),
    "a right signature from the future": ({"age": timedelta(minutes=-6)}, 401),
}


def test_what_4seller_did_not_sign_in_time_is_401_and_not_kept(door: Gateway) -> None:
    for case, (how, status) in BAD.items():
        answer = door.tell("order.created", sale("X"), **how)  # type: ignore[arg-type]
        assert answer.status_code == status, case
        assert answer.headers["content-type"] == "application/problem+json"
    assert value(door.world.database, "SELECT count(*) FROM marketplace_webhooks") == 0


BODIES = {
    "cut short": (b'{"type": "order.created", "data": {"id"', 400),
    "a list": (b"[]", 400),
    "without a type": (b'{"data": {}}', 400),
    "with data that is text": (b'{"type": "order.created", "data": "x"}', 400),
    "half a surrogate pair": (b'{"type": "order.created", "data": {"id": "\\ud800"}}', 202),
    "nested without end": (b'{"type": "x", "data": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, 400),
    "nested deep": (b'{"type": "x", "data": {"n": ' + b"[" * 900 + b"]" * 900 + b"}}", 400),
    "a long id": (b'{"type": "order.created", "data": {"id": ' + b"9" * 400 + b"}}", 202),
    "an endless number": (b'{"type": "x", "data": {"n": ' + b"9" * 5000 + b"}}", 202),
    "not a number": (b'{"type": "x", "data": {"n": NaN}}', 202),
    "too large": (b'{"type": "x", "data": {"n": "' + b"x" * 1_000_000 + b'"}}', 413),
    "not UTF-8": (b'{"type": "\xff"}', 401),
    "empty": (b"", 400),
    "a NUL": (b'{"type": "a\\u0000b", "data": {"id": "\\u0000"}}', 202),
}


def test_a_signed_body_that_is_no_event_is_refused_and_never_a_server_error(door: Gateway) -> None:
    for case, (body, status) in BODIES.items():
        _, headers = signed(body)
        assert door.client.post(HOOK, content=body, headers=headers).status_code == status, case


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_every_header_is_needed(door: Gateway, missing: str) -> None:
    body, headers = signed({"type": "order.created", "data": sale("X")})
    del headers[missing]
    assert door.client.post(HOOK, content=body, headers=headers).status_code == 401


def test_a_strange_signature_is_401(door: Gateway) -> None:
    body, headers = signed({"type": "order.created", "data": sale("X")})
    for strange in (b"v1,", b"v1", b"v2,AAAA", b"v1,AAAA v1,####", b",", b"v1,\xff", b"v1,a,b"):
        sent = {**headers, "webhook-signature": strange}
        assert door.client.post(HOOK, content=body, headers=sent).status_code == 401, strange  # type: ignore[arg-type]


def test_an_unknown_type_is_kept_and_marked(gateway: Gateway) -> None:
    assert gateway.tell("shop.exploded", {"id": "1"}).status_code == 202
    gateway.settled()
    found = rows(gateway.world.database, "SELECT outcome, reason FROM marketplace_webhooks")[0]
    assert found.outcome == "quarantined"
    assert "shop.exploded" in found.reason


def test_an_order_that_cannot_be_read_is_set_aside_and_can_be_replayed(gateway: Gateway) -> None:
    gateway.tell("order.created", sale("X", items="many"), webhook_id="msg_bad")
    gateway.settled()
    assert outcomes(gateway) == ["quarantined"]
    with gateway.world.database.writing() as connection:
        assert webhooks.replay(connection, None) == ["msg_bad"]
    gateway.settled()
    assert outcomes(gateway) == ["quarantined"]


BADLY_SPELLED = {
    "a cut character": ("Testa", b"Test\xe2\x82"),
    "a raw control character": ("Testa", b"Tes\x01ta"),
    "half a surrogate pair": ("Testa", b"Testa\\ud83d"),
    "a NUL": ("Testa\ufffd", b"Testa\\u0000"),
    "no number": ('"Testa"', b"NaN"),
}


def test_one_badly_spelled_text_costs_no_sale_and_the_signature_is_over_the_bytes(gateway: Gateway) -> None:
    product = add_product(gateway.world.database, sku="W-1", stock_quantity=20)
    for case, (word, spelled) in BADLY_SPELLED.items():
        order = sale("W-1", id=case, customer={"name": "Testa"})
        body = json.dumps({"type": "order.created", "data": order}).encode().replace(word.encode(), spelled)
        _, headers = signed({})
        key = base64.b64decode(SECRET.removeprefix("whsec_") + "==")
        told = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        made = base64.b64encode(hmac.digest(key, told, "sha256")).decode()
        answer = gateway.client.post(
            HOOK, content=body, headers=headers | {"webhook-signature": f"v1,{made}"}
        )
        assert answer.status_code == 202, case
    gateway.settled()
    assert value(gateway.world.database, STOCK, id=product) == 20 - 2 * len(BADLY_SPELLED)


def test_an_event_that_fails_waits_and_goes_on_later(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, hurried: bool) -> list[object]:
        raise RuntimeError("no")

    monkeypatch.setattr("midas_pipelines.gateway.worker.webhook_worker.import_order_webhooks", fail)
    gateway.tell("order.created", sale("X"))
    query = "SELECT attempts, reason, next_attempt_at FROM marketplace_webhooks"
    found = gateway.wait(lambda: [row for row in rows(gateway.world.database, query) if row.attempts])[0]
    assert found.reason == "RuntimeError while it was applied."
    assert found.next_attempt_at is not None
    monkeypatch.undo()
    gateway.settled()
    assert outcomes(gateway) == ["applied"]


def test_an_outage_costs_an_event_no_attempt(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midas_pipelines.gateway.worker.webhook_worker.OUTAGE_SECONDS", 1)
    monkeypatch.setattr("midas_pipelines.store.gateway.webhooks.MOST_ATTEMPTS", 1)
    gateway = start()
    add_product(gateway.world.database, sku="W-1")
    gateway.settled()
    (product,) = gateway.world.sandbox.state.products.values()
    gateway.world.faults(s503=1.0)
    gateway.tell("product.updated", product | {"title": "Another"})  # it is read again
    query = "SELECT attempts, outcome FROM marketplace_webhooks WHERE reason IS NOT NULL"
    assert gateway.wait(lambda: rows(gateway.world.database, query)) == [(0, None)]
    gateway.world.faults()
    gateway.wait(lambda: outcomes(gateway) != [None])


def test_our_own_push_echoed_back_changes_nothing(gateway: Gateway) -> None:
    add_product(gateway.world.database, sku="W-1")
    gateway.settled()
    product = next(iter(gateway.world.sandbox.state.products.values()))
    before = gateway.world.calls(lambda: None)
    gateway.tell("product.updated", product)
    gateway.tell("inventory.updated", product)
    gateway.settled()
    assert outcomes(gateway) == ["applied", "applied"]
    assert gateway.world.calls() == before


def test_one_order_that_cannot_be_applied_costs_the_others_of_its_batch_next_to_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def fails_for_one(connection: Any, sales: Any, *context: Any) -> Any:
        sizes.append(len(sales))
        if any(sale.order_id == "BAD" for sale in sales):
            raise RuntimeError("no one foresaw this")
        return write_batch(connection, sales, *context)

    monkeypatch.setattr("midas_pipelines.sync.orders.intake.importer.write_batch", fails_for_one)
    door = start(with_worker=False)
    database = door.world.database
    product = add_product(database, sku="W-1", stock_quantity=99)
    for number in range(32):
        door.tell("order.created", sale("W-1", id="BAD" if number == 20 else f"A-{number}"))
    start()
    door.wait(lambda: outcomes(door).count("applied") == 32, "all of them")
    assert value(database, STOCK, id=product) == 99 - 31 * 2
    assert sizes[0] == 32
    assert len(sizes) <= 1 + 11 + 3  # the whole, its parts, each of the part with the bad one
    aside = rows(
        database, "SELECT marketplace_order_id FROM marketplace_orders WHERE outcome = 'quarantined'"
    )
    assert [row.marketplace_order_id for row in aside] == ["BAD"]


def test_a_change_made_on_the_channel_is_set_right_and_is_a_conflict(gateway: Gateway) -> None:
    add_product(gateway.world.database, sku="W-1", stock_quantity=5)
    gateway.settled()
    product_id = next(iter(gateway.world.sandbox.state.products))
    edited = gateway.world.sandbox.state.set_quantity(product_id, 99)
    gateway.tell("inventory.updated", edited)
    gateway.settled()
    assert gateway.world.sandbox.state.products[product_id]["inventory"]["quantity"] == 5
    found = rows(gateway.world.database, "SELECT field, fourseller_value FROM sync_conflicts")
    assert [tuple(row) for row in found] == [("quantity", "99")]


def test_sales_are_nobodys_edit_though_their_products_are_reported_first(gateway: Gateway) -> None:
    world = gateway.world
    add_product(world.database, sku="W-1", stock_quantity=50)
    gateway.settled()
    for _ in range(2):
        order = world.sandbox.state.orders[world.place(("W-1", 1))]
        gateway.tell("inventory.updated", world.listed["W-1"])
        time.sleep(0.3)
        gateway.tell("order.created", order)
    gateway.settled()
    assert rows(world.database, "SELECT 1 FROM sync_conflicts") == []
    assert world.listed["W-1"]["inventory"]["quantity"] == 48


def test_a_product_deleted_on_the_channel_is_listed_anew(gateway: Gateway) -> None:
    add_product(gateway.world.database, sku="W-1", stock_quantity=5)
    gateway.settled()
    product_id, product = next(iter(gateway.world.sandbox.state.products.items()))
    gateway.world.sandbox.state.remove(product_id)
    gateway.tell("product.deleted", product)
    gateway.settled()
    skus = [one["sku"] for one in gateway.world.sandbox.state.products.values()]
    assert skus == ["W-1"]


@pytest.mark.parametrize(("secret", "said"), [(SECRET, "asked for one, and it"), (OTHER, "answered 401")])
def test_the_doctor_asks_the_sandbox_for_a_webhook_and_nothing_is_stored(
    door: Gateway, secret: str, said: str
) -> None:
    door.world.sandbox.webhooks.configure({"url": f"{door.url}{HOOK}", "secret": secret})
    found = {line.check: line for line in doctor_report(door.world.settings)}
    assert said in found["webhooks received"].found
    assert outcomes(door) == []


NOW = datetime(2026, 1, 1, 12, 1, tzinfo=UTC)


def test_the_documented_retries_of_a_webhook_are_those_that_are_made() -> None:
    waits = []
    for attempts in range(MOST_ATTEMPTS):
        tried = retry_or_quarantine(Webhook(1, "m", "order.created", None, "", NOW, attempts), "It failed.")
        waits.append(tried.wait_seconds)
    assert tried.outcome is webhooks.WebhookOutcome.QUARANTINED
    assert sum(waits) == RETRY_SECONDS
    page = " ".join((Path(__file__).parents[2] / "docs" / "gateway.md").read_text().split())
    assert f"failed {MOST_ATTEMPTS} times within {RETRY_SECONDS // 60} minutes" in page
