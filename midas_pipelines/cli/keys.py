"""`midas keys`: who may call the gateway."""

from __future__ import annotations

import click
import sqlalchemy as sa

from midas_pipelines.cli.audited import command_entry
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.settings import Settings
from midas_pipelines.store.gateway.audit import note_answered
from midas_pipelines.store.gateway.keys import (
    Caller,
    Role,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
)

ROLES = click.Choice([role.value for role in Role])


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke keys for the gateway.

    \b
    viewer    may look
    operator  may also start syncs and move orders on
    admin     may also read the audit log
    """


@keys.command()
@click.option("--role", type=ROLES, required=True, help="What its holder may do.")
@click.option("--name", required=True, help="Whose it is, such as shop or grafana.")
@json_option
def create(role: str, name: str, as_json: bool) -> None:
    """Make a key and show it, once; only a hash of it is kept."""
    if not name.isprintable() or not 0 < len(name) <= 100:
        raise click.BadParameter("give 1 to 100 printable characters", param_hint="--name")
    with shop_database() as (settings, database), database.writing() as connection:
        caller, key = create_key(connection, name=name, role=Role(role))
        _note(connection, settings, "keys create", caller)
    _show(caller, key, as_json)


@keys.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """List every key there ever was, without its secret."""
    with shop_database() as (_, database), database.reading() as connection:
        rows = list_keys(connection)
    if as_json:
        print_json({"keys": rows})
    elif rows:
        print_table("Keys", rows)
    else:
        say("There is no key yet: make one with `midas keys create --role operator --name shop`.")


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
        caller, key = rotate_key(connection, key_id, grace_minutes=grace_minutes)
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
