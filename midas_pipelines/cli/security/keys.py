"""`midas keys`: who may call the gateway, and what payloads are sealed with."""

from __future__ import annotations

from typing import Any

import click
import sqlalchemy as sa

from midas_pipelines.cli.opening import Changing, actor, command_entry, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, Table, answer, print_table, wants_json
from midas_pipelines.errors import WrongInput
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import note_audit
from midas_pipelines.store.gateway.keys import Caller, Role, create_key, list_keys, revoke_key, rotate_key
from midas_pipelines.store.operations.cursors import record_proof
from midas_pipelines.store.orders.payload_vault import Vault, payloads_by_key, rewrap_payloads
from midas_pipelines.store.privacy.keys import (
    add_key,
    keep_keys,
    key_file,
    key_ring,
    key_source,
    new_key,
    uses_file,
)

ROLES = click.Choice([role.value for role in Role])


@click.group(cls=AnsweringGroup)
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
@click.option("--days", type=click.IntRange(1, 365), help="Days until it ends; by default MIDAS_KEY_DAYS.")
def create(role: str, name: str, days: int | None) -> None:
    """Make a key and show it, once; only a hash of it is kept."""
    if not name.isprintable() or not 0 < len(name) <= 100:
        raise click.BadParameter("give 1 to 100 printable characters", param_hint="--name")
    with shop_database() as (settings, database), database.writing() as connection:
        caller, key = create_key(connection, name=name, role=Role(role), days=days or settings.key_days)
        _note(connection, settings, "keys create", caller)
    _show(caller, key)


@keys.command(name="list")
def list_command() -> None:
    """List every key there ever was, without its secret: its age in days, its end, when it was used last."""
    with shop_database() as (_, database):
        rows = _aged(database)
    none = "There is no key yet: make one with `midas keys create --role operator --name shop`."
    answer({"keys": rows}, Table("Keys", rows, none))


@keys.command(cls=Changing)
@click.option("--yes", is_flag=True, help="Do not ask.")
def review(yes: bool) -> None:
    """Confirm that each valid key is still needed, by the right holder, with the right role; do so every quarter.

    Revoke what is not needed first. Who reviewed what is recorded, and `midas compliance` shows when.
    """
    with shop_database() as (settings, database):
        rows = [row for row in _aged(database) if row["state"] == "valid"]
        if not wants_json():
            print_table(Table("Valid keys", rows))
        if not (yes or wants_json()):
            click.confirm(f"Are all {len(rows)} needed, with these roles?", abort=True)
        reviewed = {"keys": [row["key_id"] for row in rows]}
        database.write(record_proof, "key_review", passed=True, by=actor(settings), detail=reviewed)
    said = f"Recorded: {len(rows)} keys were reviewed. The next review is due in 90 days."
    answer({"reviewed": rows}, said)


def _aged(database: Database) -> list[dict[str, Any]]:
    """The keys with their ages in days."""
    now = database.now()
    return [row | {"age_days": (now - row["created_at"]).days} for row in database.read(list_keys)]


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """End a key at once."""
    with shop_database() as (settings, database), database.writing() as connection:
        caller = revoke_key(connection, key_id)
        _note(connection, settings, "keys revoke", caller)
    done = {"id": caller.key_id, "name": caller.name, "role": caller.role.value, "state": "revoked"}
    answer(done, f"The key {caller.key_id} ({caller.name}) is revoked.")


@keys.command()
@click.argument("key_id")
@click.option(
    "--grace",
    "grace_minutes",
    default=0,
    type=click.IntRange(0, 10_080),
    help="Minutes for which the old key still works.",
)
def rotate(key_id: str, grace_minutes: int) -> None:
    """Replace a key by a new one of the same name and role, and show that, once."""
    with shop_database() as (settings, database), database.writing() as connection:
        caller, key = rotate_key(connection, key_id, grace_minutes=grace_minutes, days=settings.key_days)
        _note(connection, settings, "keys rotate", caller)
    _show(caller, key)


def _note(connection: sa.Connection, settings: Settings, action: str, caller: Caller) -> None:
    detail = {"name": caller.name, "role": caller.role.value}
    note_audit(connection, command_entry(settings, action, caller.key_id, detail), "answered")


def _show(caller: Caller, key: str) -> None:
    made = {"id": caller.key_id, "name": caller.name, "role": caller.role.value, "key": key}
    answer(made, f"Key {caller.key_id} for {caller.name}, {caller.role.value}. It is shown this once:", key)


@keys.command()
@click.option("--new", is_flag=True, help="Print a fresh key, to be put before the others.")
def payload(new: bool) -> None:
    """Show the keys that payloads are sealed with: where they come from, and how many payloads each has sealed."""
    if new:
        click.echo(new_key())
        return
    with shop_database() as (settings, database):
        ring, counted = key_ring(settings), payloads_by_key(database)
        known = [key.key_id for key in ring.all()]
    state = dict.fromkeys(known, "older") | {known[0]: "newest"}
    names = dict.fromkeys([*known, *counted])
    rows = [{"key": key, "state": state.get(key, "missing"), "payloads": counted[key]} for key in names]
    source = key_source(settings)
    answer({"source": source, "keys": rows}, Table("Payload keys", rows), f"They come from {source}.")


@keys.command("rotate-payload", cls=Changing)
@click.option("--retire", is_flag=True, help="Then drop keys that no payload needs from the key file.")
def rotate_payload(retire: bool) -> None:
    """Seal every payload under a new key, while everything runs; a rotation that was stopped goes on.

    A key file gets the new key here. In MIDAS_PAYLOAD_KEY, or what MIDAS_KEY_COMMAND prints, put it before the others
    yourself (`midas keys payload --new`), restart, then run this. Backups that are older need the older key.
    """
    with shop_database() as (settings, database):
        ring, path, ours = key_ring(settings), key_file(settings), uses_file(settings)
        newest = ring.newest().key_id
        unfinished = any(key != newest for key in payloads_by_key(database))
        if ours and not unfinished:
            add_key(path)
        elif not unfinished and len(ring.all()) == 1:
            raise WrongInput(
                f"There is one key in {key_source(settings)}, and nothing to rotate to: put a new one before it "
                "(`midas keys payload --new`), separated by a comma, and restart."
            )
        done = rewrap_payloads(database, Vault(ring))
        needed = payloads_by_key(database)
        kept = [key for number, key in enumerate(ring.all()) if number == 0 or key.key_id in needed]
        retired = len(ring.all()) - len(kept) if retire and ours else 0
        if retired:
            keep_keys(path, kept)
    unreadable = sum(map(len, done.unreadable.values()))
    kept_under = f"{done.rewrapped} payloads are sealed under the key {kept[0].key_id}"
    missing = f"{unreadable} payloads open with no key here: `midas keys payload` shows which they need."
    answer(
        {"rewrapped": done.rewrapped, "unreadable": done.unreadable, "retired": retired},
        f"{kept_under}; {retired} older keys retired.",
        missing if unreadable else "",
        failed=unreadable,
    )
