"""`midas privacy`: where personal data is, and what a person may ask for."""

from __future__ import annotations

import click

from midas_pipelines.cli.audited import Changing, actor
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.store.privacy.record import register_page
from midas_pipelines.store.privacy.register import TABLES
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.privacy.due import erase_due_buyers, erasure_weeks


@click.group()
def privacy() -> None:
    """Show where personal data is; find, export and erase a person."""


@privacy.command()
@click.option(
    "--markdown", is_flag=True, help="Print the page docs/personal-data.md, with the record of Art. 30."
)
@json_option
def register(markdown: bool, as_json: bool) -> None:
    """Show each column that may hold personal data: what, why, and how it ends."""
    if markdown:
        click.echo(register_page(), nl=False)
        return
    rows = [
        {
            "table": table,
            "column": column,
            "what": one.what,
            "why": one.purpose.value,
            "sealed": one.sealed,
            "ends": one.end.value,
        }
        for table, entry in TABLES.items()
        for column, one in entry.personal.items()
    ]
    if as_json:
        print_json({"register": rows})
    else:
        print_table("Personal data", rows)


@privacy.command("due")
@json_option
def due_weeks(as_json: bool) -> None:
    """Show by week whose time comes, who was erased, and whom the law keeps."""
    with shop_database() as (settings, database):
        found = erasure_weeks(database, settings)
    if as_json:
        print_json(vars(found))
        return
    print_table("Buyers by week", found.weeks)
    say(
        f"{found.due} are due now ({found.overdue} overdue), {found.erased} erased, {found.held} held by law, "
        f"{found.never} never to be erased."
    )


@privacy.command("erase-due", cls=Changing)
@json_option
def erase_due(as_json: bool) -> None:
    """Erase every buyer whose time has come, as the workflow buyer_erasure does each night."""
    with shop_database() as (settings, database):
        report = erase_due_buyers(
            SyncContext(settings, database, run_id=f"{actor(settings)[:40]}: midas privacy erase-due")
        )
    if as_json:
        print_json(vars(report))
    else:
        say(f"{report.erased} buyers erased, {report.events} old events emptied, {report.left} left.")
