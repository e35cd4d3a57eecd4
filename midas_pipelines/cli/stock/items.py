"""`midas items`: lists and retries quarantined and failing items; links SKUs."""

from __future__ import annotations

import click

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.store.items import hub_skus
from midas_pipelines.store.items.quarantined import quarantined_items, retry_items
from midas_pipelines.storefront.catalog import items_by_sku
from midas_pipelines.sync.orders.stock.pending_lines import map_known_lines


@click.group()
def items() -> None:
    """List quarantined and failing items, and retry them."""


@items.command("list")
@json_option
def list_items(as_json: bool) -> None:
    """List the items that are quarantined or backing off, with their reasons."""
    with shop_database() as (_, database):
        found = quarantined_items(database)
    if as_json:
        print_json({"items": found})
    elif found:
        print_table("Items that wait", found)
    else:
        say("No item is quarantined or backing off.")


@items.command(cls=Changing)
@click.argument("skus", nargs=-1, metavar="[SKU]...")
@click.option("--all", "every", is_flag=True, help="Every item that waits.")
@json_option
def retry(skus: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Free quarantined items for the next sync: the SKUs named, or --all."""
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


@items.command(cls=Changing)
@click.argument("sku")
@click.argument("hub_sku")
def link(sku: str, hub_sku: str) -> None:
    """Link HUB_SKU, as orders spell it, to the shop's item SKU; waiting lines are mapped now."""
    with shop_database() as (_, database):
        with database.writing() as connection:
            found = items_by_sku(connection, [sku, hub_sku])
            if sku not in found:
                raise click.ClickException(f"The shop has no item with the SKU {sku}.")
            if hub_sku in found:
                raise click.ClickException(
                    f"{hub_sku} is the SKU of an item of the shop: rename that one first."
                )
            hub_skus.link(connection, hub_sku, found[sku])
        mapped = map_known_lines(database)
    say(f"{hub_sku} means {sku} from now on; {mapped} waiting lines were mapped.")


@items.command(cls=Changing)
@click.argument("hub_sku")
def unlink(hub_sku: str) -> None:
    """Remove the link of HUB_SKU; mapped orders stay mapped."""
    with shop_database() as (_, database), database.writing() as connection:
        if not hub_skus.unlink(connection, hub_sku):
            raise click.ClickException(f"{hub_sku} is not linked: `midas items show` lists what is.")
    say(f"{hub_sku} is not linked any more.")


@items.command("show")
@json_option
def show_hub_skus(as_json: bool) -> None:
    """List the hub's SKUs that were linked to items by hand."""
    with shop_database() as (_, database), database.reading() as connection:
        found = hub_skus.links(connection)
    if as_json:
        print_json({"links": found})
    elif found:
        print_table("Linked SKUs", found)
    else:
        say("No SKU of the hub is linked by hand.")
