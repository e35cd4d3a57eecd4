"""What commands print: one JSON object for programs, a table and sentences for people, safe for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from midas_pipelines.text import counted

json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of a table.")


def clean(text: str) -> str:
    """The text on one line, with a space for each character that moves the cursor, colours, or turns the writing around."""
    return "".join(c if c.isprintable() else " " for c in text)


def say(text: str, *, err: bool = False) -> None:
    """Prints one line, whatever the names, ids and reasons in it hold."""
    click.echo(clean(text), err=err)


def print_json(record: Mapping[str, Any]) -> None:
    """One JSON object on standard output, in which what a terminal would not print is escaped."""
    written = json.dumps(record, default=_plain, ensure_ascii=False)
    click.echo("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in written))


def print_result(as_json: bool, record: Mapping[str, Any], *sentences: str) -> None:
    """The record for programs, or the sentences for people, each on a line."""
    if as_json:
        print_json(record)
        return
    for sentence in sentences:
        say(sentence)


def print_rows(as_json: bool, name: str, rows: Sequence[Mapping[str, Any]], *, title: str, none: str) -> None:
    """Rows under `name` for programs, as a table for people; the sentence `none` where there are none."""
    if as_json:
        print_json({name: rows})
    elif rows:
        print_table(title, rows)
    else:
        say(none)


def print_table(
    title: str, rows: Sequence[Mapping[str, Any]], total: int | None = None, more: str = ""
) -> None:
    """Rows as a table, numbers to the right, without empty columns; where there are more in `total`, says `more`:
    how to see the rest."""
    from rich.console import Console  # here, so that a sentence needs none of it
    from rich.table import Table
    from rich.text import Text

    def cell(value: object) -> Text:
        """The value as it is, times in UTC: brackets are no markup, and nothing in it moves the terminal's cursor."""
        return Text(clean(f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)))

    table = Table(title=cell(title), title_justify="left", title_style="bold")
    names = [name for name in (rows[0] if rows else ()) if any(row.get(name) is not None for row in rows)]
    for name in names:
        number = all(isinstance(row.get(name), int | float | Decimal) for row in rows)
        table.add_column(cell(name.replace("_", " ")), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if row.get(name) is None else cell(row[name]) for name in names))
    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no width of its own
    console.print(table)
    if total is not None and total > len(rows):
        say(f"Showing {len(rows)} of {total}; {more}.")


def print_counts(what: str, shown: Mapping[str, Any]) -> None:
    """A sync's result as one sentence: its counts that are not zero, what it cost, and its run."""
    apart = ("requests", "seconds", "outcome", "run_id", "error", "problems", "dry_run", "failed_checks")
    counts = counted({name: value for name, value in shown.items() if name not in apart})
    run = str(shown["run_id"]).split("-")[0]
    say(
        f"{what}: {counts or 'nothing to do'}. {shown['requests']} requests, "
        f"{shown['seconds']:.2f} s, {shown['outcome']} (run {run})."
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
