"""`midas backup`, `audit`, `incident`, `compliance`: copies and drills, who changed what, locking, what is asked of a shop."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from pyrage import x25519

from midas_pipelines.cli.opening import Changing, actor, command_entry, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, Table, answer, json_option, say, wants_json
from midas_pipelines.errors import WrongInput
from midas_pipelines.recovery import incident as incidents
from midas_pipelines.recovery.backup import create_backup, verify_backup
from midas_pipelines.recovery.compliance import RECORDED, ComplianceResult, compliance_page, compliance_rows
from midas_pipelines.recovery.places import backup_place, backups, find_backup
from midas_pipelines.recovery.restore import restore_history, restore_shop, run_drill
from midas_pipelines.settings import load_settings
from midas_pipelines.store.gateway.audit import note_audit, read_audit, verify_audit
from midas_pipelines.store.items.claims import why_stopped
from midas_pipelines.store.operations.cursors import record_proof

AUDIT_COLUMNS = ("at", "actor", "event", "action", "target", "detail", "status", "remote")
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=AnsweringGroup)
def backup() -> None:
    """Make encrypted backups, verify and restore them, and prove by a drill that they can be restored.

    A backup holds our tables, the shop's tables that we read or write, and Dagster's storage, never the master key.
    """


@backup.command(cls=click.Command)
@click.argument("file", type=FILE)
def key(file: Path) -> None:
    """Make a key for backups: the secret goes to FILE, which belongs on another machine; the public part is printed."""
    identity = x25519.Identity.generate()
    try:
        with open(file, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as made:
            made.write(f"{identity}\n")
    except FileExistsError:
        raise WrongInput(f"{file} exists already: a key is never overwritten.") from None
    say(f"The secret key is in {file}: without it no backup can be opened. Set MIDAS_BACKUP_RECIPIENTS to:")
    say(str(identity.to_public()))


@backup.command(cls=Changing)
def create() -> None:
    """Write one backup to MIDAS_BACKUP_TO, and remove those that are too old."""
    with shop_database() as (settings, database):
        made = create_backup(settings, database, actor(settings))
    removed = f" {made.removed} old backups were removed." if made.removed else ""
    said = f"{made.name}: {made.rows} rows, {made.parts} parts, {made.size} bytes in {made.seconds:.1f} s.{removed}"
    answer(asdict(made), said)


@backup.command("list")
def list_backups() -> None:
    """List the whole backups, the newest first."""
    rows = [
        {"name": folder.name, "made_at": manifest.made_at, "kind": manifest.kind}
        | {"parts": len(manifest.parts)}
        | {name: manifest.facts.get(name) for name in ("rows", "size", "seconds")}
        for folder, manifest in backups(backup_place(load_settings()))
    ]
    none = "There is no backup: make one with `midas backup create`."
    answer({"backups": rows}, Table("Backups", rows, none))


@backup.command("verify")
@click.argument("name", required=False)
def verify_copy(name: str | None) -> None:
    """Open every part of a backup, the newest without NAME. Exits 1 when something is missing or damaged."""
    found, size = verify_backup(load_settings(), name)
    answer({"name": found, "size": size, "whole": True}, f"{found} is whole: {size} bytes.")


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
def restore(name: str | None, replace: bool, history: bool, unsigned: bool) -> None:
    """Restore a backup, the newest without NAME, into the database of MIDAS_DATABASE_URL: all of it or nothing.

    Stop gateway and schedules first. Pushes stay stopped until `midas sync orders` has read every order since the
    backup again; then everything is pushed that differs.
    """
    settings = load_settings()
    found = find_backup(settings, name, unsigned=unsigned)
    folder, manifest = found.folder, found.manifest
    tables = restore_shop(found, settings.database(), replace=replace)
    with shop_database() as (settings, database), database.writing() as connection:
        entry = command_entry(settings, "backup restore", folder.name, {"unsigned": unsigned})
        note_audit(connection, entry, "answered")
    if history:
        restore_history(found, database=settings.dagster_database(), home=settings.home())
    done = {"name": folder.name, "made_at": manifest.made_at, "tables": tables}
    answer(
        done | {"size": manifest.parts[0].size},
        f"Restored {folder.name}, made at {manifest.made_at}: {tables} tables.",
        "Now run `midas sync orders`, then `midas sync products --full`. Nothing is pushed before the first.",
        "Keys that were revoked since then are valid again: see `midas keys list`.",
    )


@backup.command(cls=Changing)
def drill() -> None:
    """Restore the newest backup into a scratch database, check every invariant on it, and show what it took.

    Exits 1 when an invariant is broken on it.
    """
    with shop_database() as (settings, database):
        found = run_drill(settings, database, actor(settings))
    answer(
        asdict(found) | {"passed": found.passed},
        f"{found.name}: restored and checked in {found.rto_seconds:.1f} s (RTO); "
        f"{found.rpo_seconds:.0f} s of work would have been lost (RPO).",
        *(f"Error: {invariant}: {count} rows break it." for invariant, count in found.broken.items()),
        failed=not found.passed,
    )


@click.group(cls=AnsweringGroup)
def audit() -> None:
    """Show who changed what, and check that no row of that log was changed or removed."""


@audit.command("list")
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), help="The newest N.")
def list_audit(limit: int) -> None:
    """List calls, commands and refusals, the newest first."""
    with shop_database() as (_, database), database.reading() as connection:
        rows = read_audit(connection, before=None, limit=limit)
    shown = [{name: row[name] for name in AUDIT_COLUMNS} for row in rows]
    for row in shown:
        row["detail"] = row["detail"] and json.dumps(row["detail"])
    answer({"audit": rows}, Table("Audit log", shown, "Nothing is in the log yet."))


@audit.command("verify")
def verify_log() -> None:
    """Read the whole log and check its chain of hashes. Exits 1 when a row was changed, added or removed.

    Keep the hash it prints somewhere else: a log that was rewritten from the beginning has another one.
    """
    with shop_database() as (_, database), database.reading() as connection:
        state = verify_audit(connection)
    whole = f"The audit log is whole: {state.rows} rows, the last hash is {state.last_hash}."
    for problem in state.problems:
        say(f"Error: {problem}", err=True)
    record = asdict(state) | {"whole": not state.problems}
    answer(record, "" if state.problems else whole, failed=state.problems)


@click.group(cls=AnsweringGroup)
def incident() -> None:
    """Lock everything but the import of orders, and pack evidence; docs/incident.md says what to do when."""


@incident.command(cls=Changing)
@click.option("--because", required=True, metavar="TEXT", help="What happened, without any name.")
def lock(because: str) -> None:
    """Revoke every key and stop all pushes to 4Seller; orders are imported as ever."""
    with shop_database() as (settings, database), database.writing() as connection:
        revoked = incidents.lock_system(connection, because=because, by=actor(settings))
    said = f"Locked: {revoked} keys are revoked and nothing is pushed. `midas incident unlock` allows pushes again."
    answer({"locked": True, "revoked": revoked}, said)


@incident.command(cls=Changing)
def unlock() -> None:
    """Allow pushes again. Revoked keys stay revoked: make new ones with `midas keys create`."""
    with shop_database() as (_, database), database.writing() as connection:
        ended, why = incidents.unlock_system(connection), why_stopped(connection)
    waits = f"Nothing is pushed yet: {why}. Run `midas sync orders`."
    said = f"{waits if why else 'Pushes are allowed again.'} Make new keys with `midas keys create`."
    answer({"unlocked": ended}, said if ended else "Nothing was locked.")


@incident.command(cls=Changing)
@click.option("--since", required=True, type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), help="UTC.")
@click.option("--to", "file", type=FILE, help="The file to write.")
def collect(since: datetime, file: Path | None) -> None:
    """Pack audit log, refused calls, keys, settings without secrets, versions and errors, encrypted as backups are."""
    target = file or Path(f"incident-{datetime.now(UTC):%Y%m%dT%H%M%S}.tar.gz.age")
    with shop_database() as (settings, database):
        try:
            found = incidents.collect(settings, database, since.replace(tzinfo=UTC), target)
        except OSError as failed:
            raise WrongInput(f"{target} cannot be written: {failed.strerror}.") from None
    answer(
        {"file": str(target), "rows": found},
        f"{target}: {', '.join(f'{count} in {name}' for name, count in found.items())}.",
        f"Open it with `age -d -i IDENTITY {target} | tar xz`.",
    )


@click.group(cls=AnsweringGroup, invoke_without_command=True)
@click.option("--markdown", is_flag=True, help="Print a page instead of a table.")
@json_option
@click.pass_context
def compliance(ctx: click.Context, markdown: bool) -> None:
    """Show each figure that marketplaces and the law ask for: PASS, FAIL or NOT OURS, with the reason.

    Compares it with the running settings and the newest proofs. Exits 1 when one fails. Not a certificate.
    """
    if ctx.invoked_subcommand is not None:
        return
    with shop_database() as (settings, database):
        rows = compliance_rows(settings, database)
    names = {"": "result", "what is asked": "asked", "by": "by", "here": "reason"}
    shown = [{head: getattr(row, name) for head, name in names.items()} for row in rows]
    counts = (f"{sum(row.result is one for row in rows)} {one}" for one in ComplianceResult)
    said: list[str | Table] = [Table("Compliance", shown), f"{', '.join(counts)}. Not a certificate."]
    if markdown and not wants_json():
        click.echo(compliance_page(rows), nl=False)
        said = []
    failed = any(row.result is ComplianceResult.FAIL for row in rows)
    answer({"rows": [asdict(row) for row in rows]}, *said, failed=failed)


@compliance.command(cls=Changing)
@click.argument("name", type=click.Choice(RECORDED))
@click.option("--failed", is_flag=True, help="It was done, and found something that is not fixed yet.")
def record(name: str, failed: bool) -> None:
    """Record that a review, scan or test was done today, and by whom."""
    with shop_database() as (settings, database), database.writing() as connection:
        record_proof(connection, name, passed=not failed, by=actor(settings))
    said = f"Recorded: {name}, {'with open findings' if failed else 'passed'}."
    answer({"recorded": name, "passed": not failed}, said)
