"""`midas stock`: low stock and top sellers."""

from __future__ import annotations

from dataclasses import asdict

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.store.stock.sales_velocity import top_movers
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.operations.low_stock import check_low_stock


@click.group()
def stock() -> None:
    """Show low stock and top sellers."""


@stock.command()
@json_option
def low(as_json: bool) -> None:
    """The items that run out first; alerts are raised for those that have become low."""
    with shop_database() as (settings, database):
        report = check_low_stock(SyncContext(settings, database))
    if as_json:
        print_json(asdict(report))
        return
    say(f"{report.low_items} of {report.scanned} items are low, {report.out_of_stock} are out of stock.")
    if report.low:
        print_table("Runs out first", report.low, report.low_items, "`midas alerts list` names the rest")


@stock.command()
@click.option("--days", type=click.IntRange(1, 3650), default=7, show_default=True)
@json_option
def movers(days: int, as_json: bool) -> None:
    """The ten items that sold most."""
    with shop_database() as (_, database):
        found = top_movers(database, days)
    if as_json:
        print_json({"movers": found})
    elif found:
        print_table(f"Sold most in {days} days", found)
    else:
        say(f"Nothing was sold in {days} days.")
