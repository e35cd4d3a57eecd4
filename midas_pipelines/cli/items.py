"""`midas items`: what was set aside or keeps failing, and giving it another try."""

from __future__ import annotations

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.store.waiting import retry_items, waiting_items


@click.group()
def items() -> None:
    """See which items were set aside or keep failing, and give them another try."""


@items.command("list")
@json_option
def list_items(as_json: bool) -> None:
    """List the items that are set aside or backing off, each with its reason."""
    with shop_database() as (_, database):
        found = waiting_items(database)
    if as_json:
        print_json({"items": found})
    elif found:
        print_table("Items that wait", found)
    else:
        say("No item is set aside or backing off.")


@items.command()
@click.argument("skus", nargs=-1, metavar="[SKU]...")
@click.option("--all", "every", is_flag=True, help="Every item that waits.")
@json_option
def retry(skus: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Free set-aside items for the next sync: the SKUs named, or --all."""
    if bool(skus) == every:
        raise click.UsageError("Name the SKUs to retry, or give --all.")
    with shop_database() as (_, database):
        freed = retry_items(database, skus)
    missed = sorted(set(skus) - set(freed))
    if as_json:
        print_json({"freed": freed, "not_waiting": missed})
    else:
        say(f"{len(freed)} items freed; the next sync tries them.")
        if missed:
            say(f"Not waiting, or no item of the shop: {', '.join(missed)}.")
    if missed:
        raise SystemExit(1)
