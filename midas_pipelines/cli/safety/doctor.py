"""`midas doctor`: everything that a start needs, line by line."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.lib.doctor.report import doctor_report


@click.command()
@click.option(
    "--new-key", is_flag=True, help="Try the key that is set now, and resume pushes when 4Seller takes it."
)
@json_option
def doctor(new_key: bool, as_json: bool) -> None:
    """Check everything a start needs: settings, database, 4Seller, webhooks, mail, Dagster, disk.

    Each line is ok, a warning, or wrong with the next step. Nothing is changed, sent or stored. Exits 1 when a line is
    wrong.
    """
    lines = doctor_report(new_key=new_key)
    bad = [line for line in lines if line.state == "wrong"]
    if as_json:
        print_json({"healthy": not bad, "lines": [asdict(line) for line in lines]})
    else:
        print_table("midas doctor", [asdict(line) for line in lines])
        warnings = sum(line.state == "warning" for line in lines)
        say(f"{len(lines) - len(bad) - warnings} ok, {warnings} warnings, {len(bad)} wrong.")
        if bad:
            say(f"Next: {bad[0].next_step}")
    sys.exit(1 if bad else 0)
