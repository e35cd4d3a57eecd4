"""`midas status`, `workflows` and `settings`: what is in sync, what waits, what runs automatically, and by which settings."""

from __future__ import annotations

from dataclasses import asdict

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import Answering, Table, answer
from midas_pipelines.lib.timetable import Entry, timetable
from midas_pipelines.notify.delivery import require_understood
from midas_pipelines.settings import load_settings, setting_rows
from midas_pipelines.store.operations.backlog import overview


@click.command(cls=Answering)
def status() -> None:
    """Show what is in sync, what waits and what needs a person."""
    with shop_database() as (found, database):
        seen = overview(database)
    entries = timetable(found)
    advice = "See `midas incident unlock`, or import orders after a restore."
    stopped = f"Nothing is pushed: {seen.pushes_stopped}. {advice}" if seen.pushes_stopped else ""
    oldest = f", the oldest since {seen.oldest_dirty:%H:%M:%S} UTC" if seen.oldest_dirty else ""
    states = ", ".join(f"{count} {state}" for state, count in seen.items.items()) or "none"
    clocks = ", ".join(f"{whose} {ahead:+.1f} s" for whose, ahead in seen.clocks.items())
    title, more = "Quarantined or backing off (midas items retry)", "`midas items list` shows all"
    answer(
        asdict(seen) | {"workflows": [asdict(entry) for entry in entries]},
        stopped,
        f"Items: {states}; {seen.dirty} wait{oldest}.",
        f"Orders: {seen.orders} imported in the last 24 hours, {seen.order_exceptions} need a person.",
        f"Open: {seen.conflicts} conflicts, {seen.alerts} alerts.",
        f"Failed calls in the last 24 hours: {seen.failed_calls}.",
        f"Clocks ahead of this machine's: {clocks}.",
        _table(entries),
        Table("Last syncs", seen.last_syncs),
        Table(title, seen.waiting, total=seen.waiting_total, more=more),
    )


@click.command(cls=Answering)
def workflows() -> None:
    """List the workflows: whether and how often they run automatically, and which setting changes it.

    \b
    MIDAS_SCHEDULES=true         turns all of them on (`midas dev` does)
    MIDAS_PAUSED=order_import    turns single ones off again, comma separated, by the names in the table
    """
    entries = timetable(load_settings())
    answer({"workflows": [asdict(entry) for entry in entries]}, _table(entries))


def _table(entries: list[Entry]) -> Table:
    rows = [
        {
            "workflow": entry.workflow,
            "automatic": "on" if entry.on else "off",
            "when": entry.every,
            "batch": entry.batch or "",
            "at once": f"{entry.at_once}, fixed" if entry.at_once_is_fixed else entry.at_once,
            "set by": entry.setting,
        }
        for entry in entries
    ]
    return Table("Workflows", rows)


@click.command(cls=Answering)
@click.option("--markdown", is_flag=True, help="Print the page docs/settings.md: defaults, not values.")
def settings(markdown: bool) -> None:
    """Show every setting: its name in the environment, its value now, its default and its bounds. Secrets are masked."""
    if markdown:
        click.echo(page(), nl=False)
        return
    now = load_settings()
    require_understood(now.notify_urls)
    rows = setting_rows(now)
    names = ("name", "now", "source", "default")
    answer({"settings": rows}, Table("Settings", [{name: row[name] for name in names} for row in rows]))


def page() -> str:
    """The page of the documentation, from the settings' own descriptions."""
    lines = [
        "# Settings",
        "",
        "All come from the environment and are read once, at the start of a run. A wrong one is refused with a sentence.",
        "`midas settings` shows what is in force. This page is printed by `midas settings --markdown`.",
        "",
        "| name | default | bounds | what it decides |",
        "|---|---|---|---|",
    ]
    for row in setting_rows():
        lines.append(f"| `{row['name']}` | {row['default']} | {row['bounds']} | {row['what']} |")
    return "\n".join(lines) + "\n"
