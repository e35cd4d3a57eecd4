"""`midas explain`: explains what 4Seller shows for an item."""

from __future__ import annotations

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json
from midas_pipelines.cli.terminal import say
from midas_pipelines.sync.explain import explain_item as explanation_of
from midas_pipelines.sync.explain import lineage


@click.command()
@click.argument("sku")
@json_option
def explain(sku: str, as_json: bool) -> None:
    """Print the lineage of what 4Seller shows of an item: what it confirmed, the rule, the ledger rows, their causes."""
    with shop_database() as (settings, database):
        explanation = explanation_of(database, sku, settings.title_limit)
    if as_json:
        print_json(explanation)
        return
    say(f"{sku}:")
    for line in lineage(explanation):
        say(f"  {line}")
