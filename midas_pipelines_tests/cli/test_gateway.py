"""Keys and webhooks on the command line, and what the gateway refuses to start with."""

from __future__ import annotations

from midas_pipelines.store.gateway.webhooks import NewWebhook, store_webhooks
from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import amend, rows, run
from midas_pipelines_tests.sync.world import World


def test_a_key_is_made_rotated_and_revoked(midas: Midas, settings: dict[str, str], world: World) -> None:
    made = midas("keys", "create", "--role", "viewer", "--name", "grafana", "--json", **settings).json
    assert made["key"].startswith(f"midas_{made['id']}_")
    rotated = midas("keys", "rotate", made["id"], "--json", **settings).json
    assert (rotated["name"], rotated["role"]) == ("grafana", "viewer")
    assert midas("keys", "revoke", rotated["id"], **settings).code == 0
    assert midas("keys", "revoke", rotated["id"], **settings).code == 2
    listed = midas("keys", "list", "--json", **settings)
    assert [row["state"] for row in listed.json["keys"]] == ["revoked", "revoked"]
    assert made["key"].split("_", 2)[2] not in listed.output
    deeds = [row.action for row in rows(world.database, "SELECT action FROM gateway_audit ORDER BY id")]
    assert deeds == ["midas keys create", "midas keys rotate", "midas keys revoke"]


def test_webhooks_are_listed_and_replayed(midas: Midas, settings: dict[str, str], world: World) -> None:
    with world.database.writing() as connection:
        store_webhooks(connection, [NewWebhook("msg_1", "shop.exploded", None, "plain:{}")])
    run(
        world.database,
        "UPDATE marketplace_webhooks SET processed_at = received_at, outcome = 'quarantined', reason = 'Unknown.'",
    )
    listed = midas("webhooks", "list", "--json", **settings).json
    assert [(row["webhook_id"], row["reason"]) for row in listed["webhooks"]] == [("msg_1", "Unknown.")]
    assert midas("webhooks", "replay", "msg_1", "--json", **settings).json["replayed"] == ["msg_1"]
    assert midas("webhooks", "list", "--json", **settings).json["pending"] == 1
    assert midas("webhooks", "replay", "msg_2", **settings).code == 1
    assert midas("webhooks", "replay", **settings).code == 2


def test_the_gateway_says_why_it_does_not_start(midas: Midas, settings: dict[str, str]) -> None:
    bare = {name: value for name, value in settings.items() if name != "FOURSELLER_API_KEY"}
    assert "FOURSELLER_API_KEY is not set" in midas("gateway", "--port", "0", **bare).errors
    open_door = midas("gateway", "--host", "0.0.0.0", "--port", "0", **settings)
    assert (open_door.code, "midas keys create" in open_door.errors) == (2, True)
    wrong = midas("gateway", "--port", "0", **settings, FOURSELLER_WEBHOOK_SECRET="whsec_!")
    assert wrong.code == 2
    assert "whsec_!" not in wrong.errors


def test_the_gateway_does_not_start_where_the_shop_dropped_a_column(
    midas: Midas, settings: dict[str, str], world: World
) -> None:
    amend(world.database, "ALTER TABLE products DROP COLUMN weight")
    ended = midas("gateway", **settings)
    assert ended.code != 0
    assert "products.weight should be NUMERIC(10, 2) and is no column." in ended.errors
