"""`midas workflows`: the automatic workflows and how often they run."""

from __future__ import annotations

from dataclasses import asdict

import click

from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.lib.timetable import Entry, timetable
from midas_pipelines.settings import load_settings


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
    print_table("Workflows", [row(entry) for entry in entries])


def row(entry: Entry) -> dict[str, object]:
    """One line of the table."""
    return {
        "workflow": entry.workflow,
        "automatic": "on" if entry.on else "off",
        "when": entry.every,
        "batch": entry.batch or "",
        "at once": f"{entry.at_once}, fixed" if entry.at_once_is_fixed else entry.at_once,
        "set by": entry.setting,
    }
