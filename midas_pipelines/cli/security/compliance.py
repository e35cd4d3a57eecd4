"""`midas compliance`: the figures that marketplaces and the law ask for, against what runs here."""

from __future__ import annotations

from dataclasses import asdict

import click

from midas_pipelines.cli.audited import Changing, actor
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.recovery.compliance import (
    RECORDED,
    ComplianceVerdict,
    compliance_page,
    compliance_rows,
    read_facts,
)
from midas_pipelines.store.operations.proofs import record_proof


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
    if as_json:
        print_json({"recorded": name, "passed": not failed})
    else:
        say(f"Recorded: {name}, {'with open findings' if failed else 'passed'}.")
