"""What commands print: one JSON object for programs, a table and sentences for people, safe for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import click

from midas_pipelines.text import counted, counts_of


def _keep_json(context: click.Context, _: click.Parameter, given: bool) -> None:
    context.meta["json"] = given


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_keep_json, help="Print JSON instead of a table."
)


def wants_json() -> bool:
    """Whether the command that runs was given --json."""
    return bool(click.get_current_context().meta.get("json"))


class Answering(click.Command):
    """A command with --json, which prints its result by `answer`."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        json_option(self)


class AnsweringGroup(click.Group):
    """A group of such commands."""

    command_class = Answering


class Table(NamedTuple):
    """Rows under a title; `none` is the sentence where there are none, and `more` says how to see all of `total`."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    none: str = ""
    total: int = 0
    more: str = ""


def clean(text: str) -> str:
    """The text on one line, with a space for each character that moves the cursor, colors, or turns the writing around."""
    return "".join(c if c.isprintable() else " " for c in text)


def say(text: str, *, err: bool = False) -> None:
    """Prints one line, whatever the names, ids and reasons in it hold."""
    click.echo(clean(text), err=err)


def print_json(record: Mapping[str, Any]) -> None:
    """One JSON object on standard output, in which what a terminal would not print is escaped."""
    written = json.dumps(record, default=_plain, ensure_ascii=False)
    click.echo("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in written))


def answer(record: Mapping[str, Any], *said: str | Table, failed: object = False) -> None:
    """Prints the record for programs, or tables and sentences for people, but empty ones; exits 1 where it `failed`."""
    if wants_json():
        print_json(record)
    else:
        for one in said:
            if isinstance(one, Table):
                print_table(one)
            elif one:
                say(one)
    if failed:
        raise SystemExit(1)


def print_table(shown: Table) -> None:
    """Numbers to the right, without empty columns."""
    rows = shown.rows
    if not rows:
        if shown.none:
            say(shown.none)
        return
    from rich.console import Console  # here, so that a sentence needs none of it
    from rich.table import Table as RichTable
    from rich.text import Text

    def cell(value: object) -> Text:
        """The value as it is, times in UTC: brackets are no markup, and nothing in it moves the terminal's cursor."""
        return Text(clean(f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)))

    table = RichTable(title=cell(shown.title), title_justify="left", title_style="bold")
    names = [name for name in rows[0] if any(row.get(name) is not None for row in rows)]
    for name in names:
        number = all(isinstance(row.get(name), int | float | Decimal) for row in rows)
        table.add_column(cell(name.replace("_", " ")), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if row.get(name) is None else cell(row[name]) for name in names))
    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no width of its own
    console.print(table)
    if shown.total > len(rows):
        say(f"Showing {len(rows)} of {shown.total}; {shown.more}.")


def sync_sentence(what: str, shown: Mapping[str, Any]) -> str:
    """A sync's result: its counts that are not zero, what it cost, and its run."""
    counts, run = counted(counts_of(shown)), str(shown["run_id"]).split("-")[0]
    return (
        f"{what}: {counts or 'nothing to do'}. {shown['requests']} requests, "
        f"{shown['seconds']:.2f} s, {shown['outcome']} (run {run})."
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
