"""`midas keys`: who may call the gateway."""

from __future__ import annotations

from typing import Any

import click
import sqlalchemy as sa

from midas_pipelines.cli.audited import Changing, actor, command_entry
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.privacy.payload_keys import payload, rotate_payload
from midas_pipelines.cli.terminal import say
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import note_answered
from midas_pipelines.store.gateway.keys import (
    Caller,
    Role,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
)
from midas_pipelines.store.operations.proofs import record_proof

ROLES = click.Choice([role.value for role in Role])


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke keys for the gateway; rotate those that payloads are sealed with.

    \b
    viewer    may look
    operator  may also start syncs and move orders on
    admin     may also read the audit log
    """


@keys.command()
@click.option("--role", type=ROLES, required=True, help="What its holder may do.")
@click.option("--name", required=True, help="Whose it is, such as shop or grafana.")
@click.option(
    "--days", type=click.IntRange(1, 365), help="Days until it ends; MIDAS_KEY_DAYS where none are given."
)
@json_option
def create(role: str, name: str, days: int | None, as_json: bool) -> None:
    """Make a key and show it, once; only a hash of it is kept."""
    if not name.isprintable() or not 0 < len(name) <= 100:
        raise click.BadParameter("give 1 to 100 printable characters", param_hint="--name")
    with shop_database() as (settings, database), database.writing() as connection:
        caller, key = create_key(connection, name=name, role=Role(role), days=days or settings.key_days)
        _note(connection, settings, "keys create", caller)
    _show(caller, key, as_json)


@keys.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """List every key there ever was, without its secret: its age in days, its end, when it was used last."""
    with shop_database() as (_, database):
        rows = _aged(database)
    if as_json:
        print_json({"keys": rows})
    elif rows:
        print_table("Keys", rows)
    else:
        say("There is no key yet: make one with `midas keys create --role operator --name shop`.")


@keys.command(cls=Changing)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def review(yes: bool, as_json: bool) -> None:
    """Confirm that each valid key is still needed, by the right holder, with the right role; do so every quarter.

    Revoke what is not needed first. Who reviewed what is recorded, and `midas compliance` shows when.
    """
    with shop_database() as (settings, database):
        rows = [row for row in _aged(database) if row["state"] == "valid"]
        if not as_json:
            print_table("Valid keys", rows)
        if not yes and not as_json:
            click.confirm(f"Are all {len(rows)} needed, with these roles?", abort=True)
        reviewed = {"keys": [row["key_id"] for row in rows]}
        with database.writing() as connection:
            record_proof(connection, "key_review", passed=True, by=actor(settings), detail=reviewed)
    if as_json:
        print_json({"reviewed": rows})
    else:
        say(f"Recorded: {len(rows)} keys were reviewed. The next review is due in 90 days.")


def _aged(database: Database) -> list[dict[str, Any]]:
    """The keys with their ages in days."""
    now = database.now()
    with database.reading() as connection:
        return [row | {"age_days": (now - row["created_at"]).days} for row in list_keys(connection)]


@keys.command()
@click.argument("key_id")
@json_option
def revoke(key_id: str, as_json: bool) -> None:
    """End a key at once."""
    with shop_database() as (settings, database), database.writing() as connection:
        caller = revoke_key(connection, key_id)
        _note(connection, settings, "keys revoke", caller)
    if as_json:
        print_json({"id": caller.key_id, "name": caller.name, "role": caller.role.value, "state": "revoked"})
    else:
        say(f"The key {caller.key_id} ({caller.name}) is revoked.")


@keys.command()
@click.argument("key_id")
@click.option(
    "--grace",
    "grace_minutes",
    default=0,
    show_default=True,
    type=click.IntRange(0, 10_080),
    help="Minutes for which the old key still works.",
)
@json_option
def rotate(key_id: str, grace_minutes: int, as_json: bool) -> None:
    """Replace a key by a new one of the same name and role, and show that, once."""
    with shop_database() as (settings, database), database.writing() as connection:
        caller, key = rotate_key(connection, key_id, grace_minutes=grace_minutes, days=settings.key_days)
        _note(connection, settings, "keys rotate", caller)
    _show(caller, key, as_json)


def _note(connection: sa.Connection, settings: Settings, action: str, caller: Caller) -> None:
    detail = {"name": caller.name, "role": caller.role.value}
    note_answered(connection, command_entry(settings, action, caller.key_id, detail))


def _show(caller: Caller, key: str, as_json: bool) -> None:
    if as_json:
        print_json({"id": caller.key_id, "name": caller.name, "role": caller.role.value, "key": key})
        return
    say(f"Key {caller.key_id} for {caller.name}, {caller.role.value}. It is shown this once:")
    say(key)


keys.add_command(payload)
keys.add_command(rotate_payload)
