"""`midas explain`: explains what 4Seller shows for an item, or showed on a past day."""

from __future__ import annotations

from datetime import datetime

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json
from midas_pipelines.cli.terminal import say
from midas_pipelines.sync.explain import explain_item as explanation_of
from midas_pipelines.sync.explain import lineage
from midas_pipelines.sync.snapshots.at import explain_at, lines_at
from midas_pipelines.sync.snapshots.files import Snapshots

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("sku")
@click.option("--at", "at", type=DAY, help="As it was on that day (UTC), by the snapshots: YYYY-MM-DD.")
@json_option
def explain(sku: str, at: datetime | None, as_json: bool) -> None:
    """Print the lineage of what 4Seller shows of an item: what it confirmed, the rule, the ledger rows, their causes."""
    with shop_database() as (settings, database):
        if at is None:
            explanation = explanation_of(database, sku, settings.title_limit)
        else:
            explanation = explain_at(database, Snapshots.of(settings), sku, at.date())
    if as_json:
        print_json(explanation)
        return
    say(f"{sku}:" if at is None else f"{sku} on {at:%Y-%m-%d}:")
    for line in lineage(explanation) if at is None else lines_at(explanation):
        say(f"  {line}")
