"""`midas status`, `workflows` and `settings`: what is in sync, what waits, what runs automatically, and by which settings."""

from __future__ import annotations

from dataclasses import asdict

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table, say
from midas_pipelines.lib.settings_list import setting_rows
from midas_pipelines.lib.timetable import Entry, timetable
from midas_pipelines.notify.delivery import require_understood
from midas_pipelines.settings import load_settings
from midas_pipelines.store.operations.backlog import overview


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show what is in sync, what waits and what needs a person."""
    with shop_database() as (found, database):
        seen = overview(database)
    entries = timetable(found)
    if as_json:
        print_json(asdict(seen) | {"workflows": [asdict(entry) for entry in entries]})
        return
    if seen.pushes_stopped:
        advice = "See `midas incident unlock`, or import orders after a restore."
        say(f"Nothing is pushed: {seen.pushes_stopped}. {advice}")
    oldest = f", the oldest since {seen.oldest_dirty:%H:%M:%S} UTC" if seen.oldest_dirty else ""
    states = ", ".join(f"{count} {state}" for state, count in seen.items.items()) or "none"
    say(f"Items: {states}; {seen.dirty} wait{oldest}.")
    say(f"Orders: {seen.orders} imported in the last 24 hours, {seen.order_exceptions} need a person.")
    say(f"Open: {seen.conflicts} conflicts, {seen.alerts} alerts.")
    say(f"Failed calls in the last 24 hours: {seen.failed_calls}.")
    clocks = ", ".join(f"{whose} {ahead:+.1f} s" for whose, ahead in seen.clocks.items())
    say(f"Clocks ahead of this machine's: {clocks}.")
    print_table("Workflows", [_row(entry) for entry in entries])
    if seen.last_syncs:
        print_table("Last syncs", seen.last_syncs)
    if seen.waiting:
        title = "Quarantined or backing off (midas items retry)"
        print_table(title, seen.waiting, seen.waiting_total, "`midas items list` shows all")


@click.command()
@json_option
def workflows(as_json: bool) -> None:
    """List the workflows: whether and how often they run automatically, and which setting changes it.

    \b
    MIDAS_SCHEDULES=true         turns all of them on (`midas dev` does)
    MIDAS_PAUSED=order_import    turns single ones off again, comma separated, by the names in the table
    """
    entries = timetable(load_settings())
    if as_json:
        print_json({"workflows": [asdict(entry) for entry in entries]})
        return
    print_table("Workflows", [_row(entry) for entry in entries])


def _row(entry: Entry) -> dict[str, object]:
    """One line of the table."""
    return {
        "workflow": entry.workflow,
        "automatic": "on" if entry.on else "off",
        "when": entry.every,
        "batch": entry.batch or "",
        "at once": f"{entry.at_once}, fixed" if entry.at_once_is_fixed else entry.at_once,
        "set by": entry.setting,
    }


@click.command()
@click.option("--markdown", is_flag=True, help="Print the page docs/settings.md: defaults, not values.")
@json_option
def settings(markdown: bool, as_json: bool) -> None:
    """Show every setting: its name in the environment, its value now, its default and its bounds. Secrets are masked."""
    if markdown:
        click.echo(page(), nl=False)
        return
    now = load_settings()
    require_understood(now.notify_urls)
    rows = setting_rows(now)
    if as_json:
        print_json({"settings": rows})
    else:
        names = ("name", "now", "source", "default")
        print_table("Settings", [{name: row[name] for name in names} for row in rows])


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
