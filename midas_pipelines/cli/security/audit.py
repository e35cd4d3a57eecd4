"""`midas audit`: who changed what, and whether the log is whole."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.store.gateway.audit import read_audit, verify_audit

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
    elif rows:
        print_table("Audit log", [_in_short({name: row[name] for name in SHOWN}) for row in rows])
    else:
        say("The audit log is empty.")


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


def _in_short(row: dict[str, object]) -> dict[str, object]:
    return row | {
        "at": f"{row['at']:%Y-%m-%d %H:%M:%S}",
        "detail": json.dumps(row["detail"]) if row["detail"] else None,
    }
