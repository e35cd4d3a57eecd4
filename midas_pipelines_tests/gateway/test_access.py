"""Who may do what: every endpoint, every role, no key, a revoked key; and what is left in the audit log."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import sqlalchemy as sa

from midas_pipelines.gateway.api.auth import PREFIX, role_for
from midas_pipelines.gateway.api.callers import MOST_ROWS, Refusals
from midas_pipelines.gateway.server import require_keys
from midas_pipelines.settings import SettingsError
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import keys
from midas_pipelines.store.gateway.keys import (
    Role,
    expiring_keys,
    find_caller,
    list_keys,
    revoke_key,
    rotate_key,
)
from midas_pipelines.store.schema.gateway_tables import gateway_keys
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import ChannelDown
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import ROLES, Gateway, running_gateway
from midas_pipelines_tests.shop import add_product, rows, run, value

DONE = (200, 202, 404, 422)
"""What an endpoint answers to an empty request that was let through."""


def test_the_table_names_every_endpoint_and_nothing_else(door: Gateway) -> None:
    document = door.call("GET", "/openapi.json").json()
    served = {(method.upper(), path) for path, found in document["paths"].items() for method in found}
    assert {one: role_for(*one) for one in served} == ROLES


def test_every_endpoint_with_every_role_no_key_and_a_revoked_key(
    door: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MOST_FAILURES", 1000)
    held = {role: door.key(role) for role in Role}
    revoked = door.key(Role.ADMIN)
    with door.world.database.writing() as connection:
        revoke_key(connection, revoked.split("_")[1])
    for (method, path), needed in ROLES.items():
        if path == f"{PREFIX}/webhooks":
            continue  # signed, not keyed
        address = path.replace("{order_id}", "A-1")
        for name, key in {"none": None, "revoked": revoked, "nonsense": "midas_x_y", **held}.items():
            status = door.call(method, address, key).status_code
            if needed is None:
                assert status in DONE, (method, path, name)
            elif not isinstance(name, Role):
                assert status == 401, (method, path, name)
            elif name.covers(needed):
                assert status in DONE, (method, path, name)
            else:
                assert status == 403, (method, path, name)


@pytest.mark.both_databases
def test_ten_wrong_keys_lock_out_the_key_id_and_the_address_ever_longer(door: Gateway) -> None:
    held, fresh = door.key(Role.VIEWER), door.key(Role.VIEWER)
    assert door.call("GET", "status", held).status_code == 200
    for key in (held, fresh):
        wrong = "_".join((*key.split("_")[:2], "wrong"))
        answers = [door.call("GET", "status", wrong).status_code for _ in range(10)]
        assert set(answers) <= {401, 429}
        assert door.call("GET", "status", wrong).status_code == 429
    right = door.call("GET", "status", fresh)
    assert (right.status_code, int(right.headers["retry-after"]) > 50) == (429, True)
    assert door.call("GET", "status", held).status_code == 200  # admitted before: nobody locks its holder out
    other = door.call("GET", "status", "midas_other_x")
    assert (other.status_code, int(other.headers["retry-after"]) > 500) == (429, True)
    assert door.call("GET", "status", door.key(Role.VIEWER)).status_code == 200
    alerts = {
        row.subject for row in rows(door.world.database, "SELECT subject FROM alerts WHERE kind = 'lockout'")
    }
    with running_gateway(door.world) as other_process:  # the count is in the database
        assert other_process.call("GET", "status", fresh).status_code == 429
    assert alerts == {"address 127.0.0.1", *(f"key {key.split('_')[1]}" for key in (held, fresh))}


def test_a_key_ends_and_its_last_use_is_known(door: Gateway) -> None:
    key = door.key(Role.VIEWER)
    assert value(door.world.database, "SELECT count(last_used_at) FROM gateway_keys") == 0
    assert door.call("GET", "status", key).status_code == 200
    assert value(door.world.database, "SELECT count(last_used_at) FROM gateway_keys") == 1
    with door.world.database.writing() as connection:
        assert (expiring_keys(connection, 364), list(expiring_keys(connection, 366))) == (
            {},
            [key.split("_")[1]],
        )
        connection.execute(sa.update(gateway_keys).values(valid_until=utc_now(-1)))
        assert [row["state"] for row in list_keys(connection)] == ["expired"]
    assert door.call("GET", "status", key).status_code == 401


def test_a_rotated_key_works_on_for_its_grace(door: Gateway) -> None:
    old = door.key(Role.VIEWER)
    with door.world.database.writing() as connection:
        _, new = rotate_key(connection, old.split("_")[1], grace_minutes=1)
    assert [door.call("GET", "status", key).status_code for key in (old, new)] == [200, 200]
    run(door.world.database, "UPDATE gateway_keys SET valid_until = created_at WHERE revoked_at IS NOT NULL")
    assert [door.call("GET", "status", key).status_code for key in (old, new)] == [401, 200]


def test_no_secret_is_stored(door: Gateway) -> None:
    key = door.key(Role.VIEWER)
    stored = str(rows(door.world.database, "SELECT * FROM gateway_keys"))
    assert key.split("_", 2)[2] not in stored


@pytest.mark.both_databases
def test_a_strange_key_is_nobodys(shop: Database) -> None:
    strange = (
        "",
        "_",
        "midas__",
        "midas_' OR 1=1 --_x",
        "midas_\x00_x",
        "x" * 9000,
        "midas_é_ü",
        "sidam_a_b",
    )
    with shop.reading() as connection:
        for key in strange:
            assert find_caller(connection, key) is None, key


def test_each_change_is_in_the_audit_log_before_and_after(door: Gateway) -> None:
    admin = door.key(Role.ADMIN)
    door.call("POST", "sync/products", admin, json={"skus": ["NONE"]}, headers={"X-Request-ID": "mine-1"})
    rows_ = door.call("GET", "audit", admin).json()["data"]
    assert [(row["event"], row["status"]) for row in rows_] == [("answered", 404), ("asked", None)]
    assert rows_[0]["actor"].endswith("the admin")
    assert rows_[0]["request_id"] == "mine-1"
    assert rows_[0]["remote"] == "127.0.0.1"
    assert rows_[1]["detail"] == {"body": {"skus": ["NONE"]}}


def test_nothing_of_a_refused_body_or_address_is_in_the_audit_log(door: Gateway) -> None:
    admin = door.key(Role.ADMIN)
    for body in (
        b'{"status": "Zoe@example.com"}',
        b'{"status": "shipped", "buyer": "Zoe"}',
        b'{"shipment": {"carrier": "UPS", "number": 7, "to": "Zoe"}}',
        b'{"shipment": {"carrier": "Zoe Zed", "number": "77"}}',
        b'"Zoe"',
        b"Zoe",
    ):
        assert door.call("PATCH", "orders/Zoe@example.com", admin, content=body).status_code in (
            400,
            404,
            422,
        )
    assert "Zoe" not in door.call("GET", "audit", admin).text
    assert "Zoe" not in str(rows(door.world.database, "SELECT * FROM gateway_audit"))
    shipment = {"carrier": "UPS", "number": "1Z999AA10123456784"}
    door.call("PATCH", "orders/A-1", admin, json={"shipment": shipment})
    kept = [row["detail"] for row in door.call("GET", "audit", admin).json()["data"]]
    assert kept[0] == {"body": {"shipment": shipment}}


def test_who_is_not_let_in_leaves_one_row_a_minute(door: Gateway) -> None:
    viewer = door.key(Role.VIEWER)
    for _ in range(4):
        assert door.call("GET", "status", "midas_x_y").status_code == 401
        assert door.call("POST", "orders", viewer).status_code == 403
    found = rows(
        door.world.database, "SELECT status, action, actor, remote, event FROM gateway_audit ORDER BY id"
    )
    assert [(row.status, row.action, row.remote, row.event) for row in found] == [
        (401, f"GET {PREFIX}/status", "127.0.0.1", "refused"),
        (403, f"POST {PREFIX}/orders", "127.0.0.1", "refused"),
    ]
    assert found[1].actor.endswith("the viewer")


def test_a_forged_webhook_leaves_a_row(door: Gateway) -> None:
    hook = {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
    assert door.call("GET", "status", "mk_00000000_wrong").status_code == 401
    for _ in range(3):
        assert door.call("POST", "webhooks", headers=hook, content=b"{}").status_code == 401
    _, row = rows(door.world.database, "SELECT status, action, actor FROM gateway_audit ORDER BY id")
    assert (row.status, row.action) == (401, f"POST {PREFIX}/webhooks")


def test_refusals_of_many_addresses_are_bounded() -> None:
    refusals = Refusals(Mock())
    first = [refusals.due(f"10.0.{n // 250}.{n % 250}", "", 401, 100.0) for n in range(2 * MOST_ROWS)]
    assert (first.count(True), first.count(False)) == (MOST_ROWS, MOST_ROWS)
    assert [refusals.due("10.0.0.1", "", 401, at) for at in (101.0, 102.0, 161.0)] == [False, False, True]


@pytest.mark.both_databases
def test_the_audit_log_cannot_be_changed(door: Gateway) -> None:
    door.call("POST", "sync/products", door.key(Role.ADMIN), json={"skus": ["NONE"]})
    for statement in ("UPDATE gateway_audit SET actor = 'nobody'", "DELETE FROM gateway_audit"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            run(door.world.database, statement)


def test_without_keys_it_listens_only_to_this_machine(door: Gateway) -> None:
    require_keys(door.service, "127.0.0.1")
    with pytest.raises(SettingsError, match="midas keys create"):
        require_keys(door.service, "0.0.0.0")
    door.key(Role.VIEWER)
    require_keys(door.service, "0.0.0.0")


def test_a_caller_who_calls_too_often_is_told_to_wait(start: Start) -> None:
    gateway = start(with_worker=False, gateway_rate=1)  # slower than any machine calls
    key = gateway.key(Role.VIEWER)
    answers = [gateway.call("GET", "status", key) for _ in range(15)]
    late = [answer for answer in answers if answer.status_code == 429]
    assert late
    assert int(late[0].headers["retry-after"]) >= 1
    assert gateway.call("GET", "status", gateway.key(Role.VIEWER)).status_code == 200  # others may go on


def test_a_strange_request_id_is_replaced(door: Gateway) -> None:
    for given in ("a\tb", "x" * 65, "<script>", ""):
        answer = door.call("GET", "/healthz", headers={"X-Request-ID": given})
        assert answer.headers["x-request-id"] not in (given, "")


def test_the_audit_log_tells_the_status_that_the_caller_got(start: Start) -> None:
    door = start(with_worker=False, fourseller_api_key=None)
    operator, admin = door.key(Role.OPERATOR), door.key(Role.ADMIN)
    add_product(door.world.database, sku="A-1")
    answer = door.call("POST", "sync/products", operator, json={"skus": ["A-1"]})
    assert answer.status_code == 409
    assert "FOURSELLER_API_KEY" in answer.json()["detail"]
    (answered,) = [
        row for row in door.call("GET", "audit", admin).json()["data"] if row["event"] == "answered"
    ]
    assert answered["status"] == 409


def test_the_audit_log_tells_of_a_channel_that_is_down(
    door: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        door.service, "sync_context", Mock(side_effect=ChannelDown("4Seller does not answer."))
    )
    answer = door.call("POST", "sync/products", door.key(Role.OPERATOR), json={"skus": ["A-1"]})
    assert answer.status_code == 503
    last = "SELECT status FROM gateway_audit ORDER BY id DESC LIMIT 1"
    assert value(door.world.database, last) == 503
