"""A marketplace's notice that an account was deleted is forwarded; no name is left behind by the call."""

from __future__ import annotations

from midas_pipelines.gateway.api.auth import PERSONS
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines_tests.gateway.running import Gateway, sale
from midas_pipelines_tests.shop import add_product, rows

BUYER = {"customer": {"email": "zyxwvu@home.example", "name": "Zyxwvu Personname", "username": "zyx_1"}}


def test_a_request_about_a_person_is_answered_and_names_nobody(gateway: Gateway) -> None:
    add_product(gateway.world.database, sku="W-1")
    gateway.tell("order.created", sale("W-1", **BUYER))
    gateway.settled()
    admin = gateway.key(Role.ADMIN)

    def ask(kind: str, **person: str) -> dict[str, object]:
        headers = {"Idempotency-Key": f"{kind}-1"}
        answer = gateway.call("POST", PERSONS, admin, json={"kind": kind} | person, headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    assert ask("find", account="zyx_1")["orders"] == ["A-1"]
    assert "zyxwvu@home.example" in str(ask("export", email="Zyxwvu@home.example")["export"])
    erased = ask("erase", email="zyxwvu@home.example")
    assert (erased["erased"], erased["done"]) == (["A-1"], True)
    assert [one["kind"] for one in gateway.call("GET", PERSONS, admin).json()["data"]] == [
        "erase",
        "export",
        "find",
    ]
    for body in (
        {"kind": "erase"},
        {"kind": "erase", "name": "Zyxwvu", "order": "A-1"},
        {"kind": "x", "name": "Zyxwvu"},
    ):
        refused = gateway.call("POST", PERSONS, admin, json=body)
        assert (refused.status_code, "yxwvu" in refused.text) == (422, False)
    for table in (
        "gateway_audit",
        "midas_repeated_calls",
        "privacy_requests",
        "orders",
        "marketplace_webhooks",
    ):
        left = str(rows(gateway.world.database, f"SELECT * FROM {table}")).lower()
        assert "zyxwvu" not in left, table
        assert "zyx_1" not in left, table
