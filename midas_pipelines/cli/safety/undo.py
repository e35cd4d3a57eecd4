"""`midas undo`: puts back what a run or a plan wrote to 4Seller."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict

import click

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.safety.undo import undo_run


@click.command(cls=Changing)
@click.argument("run_or_plan", metavar="RUN_OR_PLAN")
@json_option
def undo(run_or_plan: str, as_json: bool) -> None:
    """Put back what a run wrote, field by field, where 4Seller still shows it; list the rest.

    RUN_OR_PLAN is a run's id, as a sync prints it, or a plan's hash. Price and content that are put back are pinned, so that
    the next sync leaves them: correct the shop, then release them with `midas conflicts release`. Quantities follow
    the shop. Exits 1 when something was left as it is.
    """
    with shop_database() as (settings, database):
        report = asyncio.run(undo_run(SyncContext(settings, database), run_or_plan))
    if as_json:
        print_json(asdict(report))
    else:
        say(f"{report.put_back} listings are put back, {report.removed} that it had created are removed.")
        if report.left:
            print_table("Left as it is", report.left)
    sys.exit(1 if report.left else 0)
