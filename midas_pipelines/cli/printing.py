"""What commands print: one JSON object for programs, a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from midas_pipelines.cli.terminal import clean, say

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of a table."
)


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
    title: str,
    rows: Sequence[Mapping[str, Any]],
    total: int | None = None,
    more: str = "",
) -> None:
    """Rows as a table, numbers to the right; says when there are more rows than it shows.

    Args:
        title: of the table.
        rows: what is shown.
        total: how many there are in all.
        more: how to see the rest.
    """
    table = Table(title=_cell(title), title_justify="left", title_style="bold")
    for name in rows[0] if rows else ():
        number = all(isinstance(row.get(name), int | float | Decimal) for row in rows)
        table.add_column(
            _cell(name.replace("_", " ")), justify="right" if number else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*("" if value is None else _cell(value) for value in row.values()))
    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no width of its own
    console.print(table)
    if total is not None and total > len(rows):
        say(f"Showing {len(rows)} of {total}; {more}.")


def _cell(value: object) -> Text:
    """The value as it is: brackets are no markup, and nothing in it moves the terminal's cursor."""
    return Text(clean(str(value)))


def print_counts(what: str, shown: Mapping[str, Any]) -> None:
    """A sync's result as one sentence: its counts that are not zero, what it cost, and its run."""
    apart = ("requests", "seconds", "outcome", "run_id", "error", "problems", "dry_run", "failed_checks")
    counts = [
        f"{value} {name.replace('_', ' ')}" for name, value in shown.items() if name not in apart and value
    ]
    run = str(shown["run_id"]).split("-")[0]
    say(
        f"{what}: {', '.join(counts) or 'nothing to do'}. {shown['requests']} requests, "
        f"{shown['seconds']:.2f} s, {shown['outcome']} (run {run})."
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
