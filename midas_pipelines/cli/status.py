"""`midas status`: what is in sync, what waits, what needs a person."""

from __future__ import annotations

from dataclasses import asdict

import click

from midas_pipelines.cli.dagster.workflows import row
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.lib.timetable import timetable
from midas_pipelines.store.operations.overview import overview


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show what is in sync, what waits and what needs a person."""
    with shop_database() as (settings, database):
        seen = overview(database)
    workflows = timetable(settings)
    if as_json:
        print_json(asdict(seen) | {"workflows": [asdict(entry) for entry in workflows]})
        return
    waiting = f"{seen.dirty} wait" + (
        f", the oldest since {seen.oldest_dirty:%H:%M:%S} UTC" if seen.oldest_dirty else ""
    )
    say(
        f"Items: {', '.join(f'{count} {state}' for state, count in seen.items.items()) or 'none'}; {waiting}."
    )
    say(f"Orders: {seen.orders} imported, {seen.order_exceptions} need a person.")
    say(f"Failed calls in the last 24 hours: {seen.failed_calls}.")
    clocks = ", ".join(f"{whose} {ahead:+.1f} s" for whose, ahead in seen.clocks.items())
    say(f"Clocks ahead of this machine's: {clocks}.")
    print_table("Workflows", [row(entry) for entry in workflows])
    if seen.last_syncs:
        print_table("Last syncs", seen.last_syncs)
    if seen.waiting:
        title = "Quarantined or backing off (midas items retry)"
        print_table(title, seen.waiting, seen.waiting_total, "`midas items list` shows all")
