"""`midas shadow`: what shadow mode kept back, and where it differs from what is there by now."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.safety.shadow_report import compare_shadow


@click.command()
@json_option
def shadow(as_json: bool) -> None:
    """Compare what shadow mode kept back with what 4Seller and the shop show by now."""
    with shop_database() as (settings, database):
        report = asyncio.run(compare_shadow(SyncContext(settings, database)))
    if as_json:
        print_json(asdict(report))
        return
    if report.differ:
        print_table("Where shadow mode would have differed", report.differ)
    say(
        f"{report.kept} writes were kept back: {report.agree} agree with what is there, {len(report.differ)} differ."
    )
