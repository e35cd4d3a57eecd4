"""Each command that changes something leaves a row with who ran it, and a look leaves none."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from midas_pipelines.cli import COMMANDS, cli
from midas_pipelines.cli.opening import Changing
from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import add_product, rows, unguarded
from midas_pipelines_tests.sync.world import World

LOOKS = set(
    """alerts list
    audit list
    audit verify
    backup list
    backup verify
    conflicts list
    conflicts show
    contract diff
    contract list
    db current
    db grants
    diff
    doctor
    explain
    items list
    items show
    keys list
    keys payload
    orders list
    orders show
    privacy due
    privacy register
    privacy requests
    rules explain
    rules history
    rules list
    rules simulate
    settings
    shadow
    status
    stock low
    stock movers
    webhooks list
    workflows""".replace("    ", "").split("\n")
)
"""They change nothing."""
RECORDED_INSIDE = {"db upgrade", "backup restore", "keys create", "keys revoke", "keys rotate"}
"""They write their row themselves, with what only they know."""
LOCAL = {
    "backup key",
    "demo",
    "dev",
    "gateway",
    "worker",
    "step-worker",
    "sandbox",
    "store seed",
    "instance prepare",
}
"""They start a process, or prepare files of this machine."""


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        elif command is not None:
            yield " ".join((*path, name)), command


def test_every_command_leaves_a_row_or_is_known_to_change_nothing() -> None:
    assert len(COMMANDS) > 20
    found = {name for name, command in leaves(cli) if not isinstance(command, Changing)}
    assert found - LOOKS - RECORDED_INSIDE - LOCAL == set()


def audited(world: World) -> list[tuple[str, str, str, int | None, object]]:
    query = "SELECT event, actor, action, status, detail FROM gateway_audit ORDER BY id"
    found = []
    for row in rows(world.database, query):
        detail = json.loads(row.detail) if isinstance(row.detail, str) else row.detail
        found.append((row.event, row.actor, row.action, row.status, detail))
    return found


def test_a_command_leaves_one_row_with_who_and_a_failed_one_its_exit_code(
    midas: Midas, settings: dict[str, str], world: World
) -> None:
    add_product(world.database, sku="A-1")
    env = settings | {"MIDAS_ACTOR": "ann"}
    assert midas("rules", "set", "--sku", "A-1", "--cap", "3", **env).code == 0
    assert midas("rules", "list", **env).code == 0
    assert midas("rules", "set", "--sku", "NONE", "--cap", "1", **env).code == 2
    assert audited(world) == [
        ("asked", "ann", "midas rules set", None, {"sku": "A-1", "cap": 3}),
        ("asked", "ann", "midas rules set", None, {"sku": "NONE", "cap": 1}),
        ("answered", "ann", "midas rules set", 2, {"sku": "NONE", "cap": 1}),
    ]
    assert midas("rules", "clear", "--sku", "A-1", **settings).code == 0
    assert "@" in audited(world)[-1][1]
    history = midas("rules", "history", "--sku", "A-1", "--json", **env).json["history"]
    assert [(row["cap"], row["replaced_at"] is None) for row in history] == [(None, True), (3, False)]
    assert history[1]["changed_by"] == "ann"


def test_an_applied_plan_is_in_the_log_by_its_hash(
    midas: Midas, settings: dict[str, str], world: World
) -> None:
    add_product(world.database, sku="A-1")
    plan = midas("sync", "products", "--plan", "p.json", "--json", **settings).json
    assert audited(world) == []
    assert midas("sync", "products", "--apply", "p.json", **settings).code == 0
    ((_, _, action, _, detail),) = audited(world)
    assert action == "midas sync products"
    assert isinstance(detail, dict)
    assert detail["plan"] == plan["hash"]


def test_the_log_is_verified(midas: Midas, settings: dict[str, str], world: World) -> None:
    for name in ("one", "two", "three"):
        assert midas("keys", "create", "--role", "viewer", "--name", name, **settings).code == 0
    done = midas("audit", "verify", "--json", **settings)
    assert (done.code, done.json["whole"], done.json["rows"]) == (0, True, 3)
    assert "keys create" in midas("audit", "list", **settings).output
    with unguarded(world.database, "gateway_audit") as connection:
        connection.exec_driver_sql("UPDATE gateway_audit SET actor = 'x' WHERE id = 2")
    broken = midas("audit", "verify", **settings)
    assert (broken.code, broken.errors) == (1, "Error: Row 2 was changed.\n")


def test_a_review_of_keys_is_recorded_with_who(midas: Midas, settings: dict[str, str], world: World) -> None:
    env = settings | {"MIDAS_ACTOR": "ann"}
    made = midas("keys", "create", "--role", "viewer", "--name", "one", "--days", "9", "--json", **env).json
    assert midas("keys", "review", "--yes", **env).code == 0
    (proof,) = rows(world.database, "SELECT name, by, detail FROM midas_proofs")
    assert (proof.name, proof.by, made["id"] in str(proof.detail)) == ("key_review", "ann", True)
    (key,) = midas("keys", "list", "--json", **env).json["keys"]
    assert (key["age_days"], key["state"], key["last_used_at"]) == (0, "valid", None)
