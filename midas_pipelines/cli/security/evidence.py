"""`midas audit`, `midas incident`, `midas compliance`: who changed what, locking and evidence, and what is asked of a shop."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from midas_pipelines.cli.audited import Changing, actor
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_result, print_table, say
from midas_pipelines.errors import WrongInput
from midas_pipelines.recovery import incident as incidents
from midas_pipelines.recovery.compliance import (
    RECORDED,
    ComplianceVerdict,
    compliance_page,
    compliance_rows,
    read_facts,
)
from midas_pipelines.store.gateway.audit import read_audit, verify_audit
from midas_pipelines.store.items.claims import why_stopped
from midas_pipelines.store.operations.proofs import record_proof

SHOWN = ("at", "actor", "event", "action", "target", "detail", "status", "remote")


@click.group()
def audit() -> None:
    """Show who changed what, and check that no row of that log was changed or removed."""


@audit.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="The newest N.")
@json_option
def list_audit(limit: int, as_json: bool) -> None:
    """List calls, commands and refusals, the newest first."""
    with shop_database() as (_, database), database.reading() as connection:
        rows = read_audit(connection, before=None, limit=limit)
    if as_json:
        print_json({"audit": rows})
        return
    for row in rows:
        row["at"] = f"{row['at']:%Y-%m-%d %H:%M:%S}"
        row["detail"] = json.dumps(row["detail"]) if row["detail"] else None
    print_table("Audit log", [{name: row[name] for name in SHOWN} for row in rows])


@audit.command()
@json_option
def verify(as_json: bool) -> None:
    """Read the whole log and check its chain of hashes. Exits 1 when a row was changed, added or removed.

    Keep the hash it prints somewhere else: a log that was rewritten from the beginning has another one.
    """
    with shop_database() as (_, database), database.reading() as connection:
        state = verify_audit(connection)
    if as_json:
        print_json(asdict(state) | {"whole": not state.problems})
    elif not state.problems:
        say(f"The audit log is whole: {state.rows} rows, the last hash is {state.last_hash}.")
    for problem in () if as_json else state.problems:
        say(f"Error: {problem}", err=True)
    if state.problems:
        raise SystemExit(1)


@click.group()
def incident() -> None:
    """Lock everything but the import of orders, and pack evidence; docs/incident.md says what to do when."""


@incident.command(cls=Changing)
@click.option("--because", required=True, metavar="TEXT", help="What happened, without any name.")
@json_option
def lock(because: str, as_json: bool) -> None:
    """Revoke every key and stop all pushes to 4Seller; orders are imported as ever."""
    with shop_database() as (settings, database), database.writing() as connection:
        revoked = incidents.lock_system(connection, because=because, by=actor(settings))
    said = f"Locked: {revoked} keys are revoked and nothing is pushed. `midas incident unlock` allows pushes again."
    print_result(as_json, {"locked": True, "revoked": revoked}, said)


@incident.command(cls=Changing)
@json_option
def unlock(as_json: bool) -> None:
    """Allow pushes again. Revoked keys stay revoked: make new ones with `midas keys create`."""
    with shop_database() as (_, database), database.writing() as connection:
        ended, why = incidents.unlock_system(connection), why_stopped(connection)
    allowed = (
        f"Nothing is pushed yet: {why}. Run `midas sync orders`." if why else "Pushes are allowed again."
    )
    said = f"{allowed} Make new keys with `midas keys create`."
    print_result(as_json, {"unlocked": ended}, said if ended else "Nothing was locked.")


@incident.command(cls=Changing)
@click.option("--since", required=True, type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), help="UTC.")
@click.option("--to", "file", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@json_option
def collect(since: datetime, file: Path | None, as_json: bool) -> None:
    """Pack audit log, refused calls, keys, settings without secrets, versions and errors, encrypted as backups are."""
    target = file or Path(f"incident-{datetime.now(UTC):%Y%m%dT%H%M%S}.tar.gz.age")
    with shop_database() as (settings, database):
        try:
            found = incidents.collect(settings, database, since.replace(tzinfo=UTC), target)
        except OSError as failed:
            raise WrongInput(f"{target} cannot be written: {failed.strerror}.") from None
    print_result(
        as_json,
        {"file": str(target), "rows": found},
        f"{target}: {', '.join(f'{count} in {name}' for name, count in found.items())}.",
        f"Open it with `age -d -i IDENTITY {target} | tar xz`.",
    )


@click.group(invoke_without_command=True)
@click.option("--markdown", is_flag=True, help="Print a page instead of a table.")
@json_option
@click.pass_context
def compliance(ctx: click.Context, markdown: bool, as_json: bool) -> None:
    """Show each figure that marketplaces and the law ask for: PASS, FAIL or NOT OURS, with the reason.

    Compares it with the running settings and the newest proofs. Exits 1 when one fails. Not a certificate.
    """
    if ctx.invoked_subcommand is not None:
        return
    with shop_database() as (settings, database):
        rows = compliance_rows(read_facts(settings, database))
    if as_json:
        print_json({"rows": [asdict(row) for row in rows]})
    elif markdown:
        click.echo(compliance_page(rows), nl=False)
    else:
        shown = [
            {"": row.verdict, "what is asked": row.asked, "by": row.by, "here": row.reason} for row in rows
        ]
        print_table("Compliance", shown)
        counts = {verdict: sum(row.verdict is verdict for row in rows) for verdict in ComplianceVerdict}
        say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ". Not a certificate.")
    if any(row.verdict is ComplianceVerdict.FAIL for row in rows):
        raise SystemExit(1)


@compliance.command(cls=Changing)
@click.argument("name", type=click.Choice(RECORDED))
@click.option("--failed", is_flag=True, help="It was done, and found something that is not fixed yet.")
@json_option
def record(name: str, failed: bool, as_json: bool) -> None:
    """Record that a review, scan or test was done today, and by whom."""
    with shop_database() as (settings, database), database.writing() as connection:
        record_proof(connection, name, passed=not failed, by=actor(settings))
    said = f"Recorded: {name}, {'with open findings' if failed else 'passed'}."
    print_result(as_json, {"recorded": name, "passed": not failed}, said)
