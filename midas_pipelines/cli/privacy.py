"""`midas privacy`: where personal data is, and what a person may ask for."""

from __future__ import annotations

import click

from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.store.privacy.record import register_page
from midas_pipelines.store.privacy.register import TABLES


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
