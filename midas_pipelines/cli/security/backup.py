"""`midas backup`: makes, lists, verifies, restores and drills backups."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click
from pyrage import x25519

from midas_pipelines.cli.audited import Changing, actor, command_entry
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_result, print_rows, say
from midas_pipelines.errors import WrongInput
from midas_pipelines.recovery.backup import create_backup, verify_backup
from midas_pipelines.recovery.places import backup_place, backups, find_backup
from midas_pipelines.recovery.restore import restore_history, restore_shop, run_drill
from midas_pipelines.recovery.sealing import identities
from midas_pipelines.settings import load_settings
from midas_pipelines.store.gateway.audit import note_answered


@click.group()
def backup() -> None:
    """Make encrypted backups, verify and restore them, and prove by a drill that they can be restored.

    A backup holds our tables, the shop's tables that we read or write, and Dagster's storage, never the master key.
    """


@backup.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def key(file: Path) -> None:
    """Make a key for backups: the secret goes to FILE, which belongs on another machine; the public part is printed."""
    identity = x25519.Identity.generate()
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise WrongInput(f"{file} exists already: a key is never overwritten.") from None
    with os.fdopen(number, "w") as made:
        made.write(f"{identity}\n")
    say(f"The secret key is in {file}: without it no backup can be opened. Set MIDAS_BACKUP_RECIPIENTS to:")
    say(str(identity.to_public()))


@backup.command(cls=Changing)
@json_option
def create(as_json: bool) -> None:
    """Write one backup to MIDAS_BACKUP_TO, and remove those that are too old."""
    with shop_database() as (settings, database):
        made = create_backup(settings, database, actor(settings))
    removed = f" {made.removed} old backups were removed." if made.removed else ""
    said = f"{made.name}: {made.rows} rows, {made.parts} parts, {made.size} bytes in {made.seconds:.1f} s.{removed}"
    print_result(as_json, asdict(made), said)


@backup.command("list")
@json_option
def list_backups(as_json: bool) -> None:
    """List the whole backups, the newest first."""
    rows = [
        {"name": folder.name, "made_at": manifest.made_at, "kind": manifest.kind}
        | {"parts": len(manifest.parts)}
        | {name: manifest.facts.get(name) for name in ("rows", "size", "seconds")}
        for folder, manifest in backups(backup_place(load_settings()))
    ]
    none = "There is no backup: make one with `midas backup create`."
    print_rows(as_json, "backups", rows, title="Backups", none=none)


@backup.command()
@click.argument("name", required=False)
@json_option
def verify(name: str | None, as_json: bool) -> None:
    """Open every part of a backup, the newest without NAME. Exits 1 when something is missing or damaged."""
    found, size = verify_backup(load_settings(), name)
    print_result(as_json, {"name": found, "size": size, "whole": True}, f"{found} is whole: {size} bytes.")


@backup.command()
@click.argument("name", required=False)
@click.option("--replace", is_flag=True, help="Replace tables that have rows already.")
@click.option("--history", is_flag=True, help="Also restore Dagster's storage, where it is empty.")
@click.option(
    "--unsigned",
    is_flag=True,
    help="Restore though the payload key is lost. Nothing proves then that the backup is yours: a person who can write to "
    "MIDAS_BACKUP_TO can plant one, and its SQL runs as your database user.",
)
@json_option
def restore(name: str | None, replace: bool, history: bool, unsigned: bool, as_json: bool) -> None:
    """Restore a backup, the newest without NAME, into the database of MIDAS_DATABASE_URL: all of it or nothing.

    Stop gateway and schedules first. Pushes stay stopped until `midas sync orders` has read every order since the
    backup again; then everything is pushed that differs.
    """
    settings = load_settings()
    keys = identities(settings.backup_identity_file)
    folder, manifest = find_backup(settings, name, unsigned=unsigned)
    tables = restore_shop(folder, manifest, settings.database(), keys, replace=replace)
    with shop_database() as (settings, database), database.writing() as connection:
        entry = command_entry(settings, "backup restore", folder.name, {"unsigned": unsigned})
        note_answered(connection, entry)
    if history:
        stored = settings.dagster_database()
        restore_history(folder, manifest, keys, database=stored, home=settings.home())
    done = {"name": folder.name, "made_at": manifest.made_at, "tables": tables}
    print_result(
        as_json,
        done | {"size": manifest.parts[0].size},
        f"Restored {folder.name}, made at {manifest.made_at}: {tables} tables.",
        "Now run `midas sync orders`, then `midas sync products --full`. Nothing is pushed before the first.",
        "Keys that were revoked since then are valid again: see `midas keys list`.",
    )


@backup.command(cls=Changing)
@json_option
def drill(as_json: bool) -> None:
    """Restore the newest backup into a scratch database, check every invariant on it, and show what it took.

    Exits 1 when an invariant is broken on it.
    """
    with shop_database() as (settings, database):
        found = run_drill(settings, database, actor(settings))
    print_result(
        as_json,
        asdict(found) | {"passed": found.passed},
        f"{found.name}: restored and checked in {found.rto_seconds:.1f} s (RTO); "
        f"{found.rpo_seconds:.0f} s of work would have been lost (RPO).",
        *(f"Error: {invariant}: {count} rows break it." for invariant, count in found.broken.items()),
    )
    if not found.passed:
        raise SystemExit(1)
