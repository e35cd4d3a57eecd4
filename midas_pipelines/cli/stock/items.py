"""`midas items` and `midas stock`: quarantined and failing items, links of SKUs, low stock, top sellers."""

from __future__ import annotations

from dataclasses import asdict

import click

from midas_pipelines.cli.opening import Changing, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, Table, answer
from midas_pipelines.errors import WrongInput
from midas_pipelines.store.items.listing import quarantined_items, retry_items
from midas_pipelines.store.items.mappings import link_sku, linked_skus, unlink_sku
from midas_pipelines.store.stock.ledger import top_movers
from midas_pipelines.storefront.catalog import find_item, items_by_sku
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.operations.stock_levels import check_low_stock
from midas_pipelines.sync.orders.stock.pending_lines import map_known_lines


@click.group(cls=AnsweringGroup)
def items() -> None:
    """List quarantined and failing items, and retry them."""


@items.command("list")
def list_items() -> None:
    """List the items that are quarantined or backing off, with their reasons."""
    with shop_database() as (_, database):
        found = quarantined_items(database)
    answer({"items": found}, Table("Items that wait", found, "No item is quarantined or backing off."))


@items.command(cls=Changing)
@click.argument("skus", nargs=-1, metavar="[SKU]...")
@click.option("--all", "every", is_flag=True, help="Every item that waits.")
def retry(skus: tuple[str, ...], every: bool) -> None:
    """Free quarantined items for the next sync: the SKUs named, or --all."""
    if bool(skus) == every:
        raise click.UsageError("Name the SKUs to retry, or give --all.")
    with shop_database() as (_, database):
        freed = retry_items(database, skus)
    missed = sorted(set(skus) - set(freed))
    words = f"{len(freed)} items freed; the next sync tries them."
    if missed:
        words += f" Not waiting, or no item of the shop: {', '.join(missed)}."
    answer({"freed": freed, "not_waiting": missed}, words, failed=missed)


@items.command(cls=Changing)
@click.argument("sku")
@click.argument("hub_sku")
def link(sku: str, hub_sku: str) -> None:
    """Link HUB_SKU, as orders spell it, to the shop's item SKU; waiting lines are mapped now."""
    with shop_database() as (_, database):
        with database.writing() as connection:
            if items_by_sku(connection, [hub_sku]):
                raise WrongInput(f"{hub_sku} is the SKU of an item of the shop: rename it first.")
            link_sku(connection, hub_sku, find_item(connection, sku))
        mapped = map_known_lines(database)
    said = f"{hub_sku} means {sku} from now on; {mapped} waiting lines were mapped."
    answer({"hub_sku": hub_sku, "sku": sku, "mapped": mapped}, said)


@items.command(cls=Changing)
@click.argument("hub_sku")
def unlink(hub_sku: str) -> None:
    """Remove the link of HUB_SKU; mapped orders stay mapped."""
    with shop_database() as (_, database), database.writing() as connection:
        if not unlink_sku(connection, hub_sku):
            raise WrongInput(f"{hub_sku} is not linked: `midas items show` lists what is.")
    answer({"hub_sku": hub_sku, "linked": False}, f"{hub_sku} is not linked any more.")


@items.command("show")
def show_hub_skus() -> None:
    """List the hub's SKUs that were linked to items by hand."""
    with shop_database() as (_, database), database.reading() as connection:
        found = linked_skus(connection)
    answer({"links": found}, Table("Linked SKUs", found, "No SKU of the hub is linked by hand."))


@click.group(cls=AnsweringGroup)
def stock() -> None:
    """Show low stock and top sellers."""


@stock.command()
def low() -> None:
    """The items that run out first; alerts are raised for those that have become low."""
    with shop_database() as (settings, database):
        report = check_low_stock(SyncContext(settings, database), alert=True)
    said = f"{report.low_items} of {report.scanned} items are low, {report.out_of_stock} are out of stock."
    more = "`midas alerts list` names the rest"
    answer(asdict(report), said, Table("Runs out first", report.low, total=report.low_items, more=more))


@stock.command()
@click.option("--days", type=click.IntRange(1, 3650), default=7)
def movers(days: int) -> None:
    """The ten items that sold most."""
    with shop_database() as (_, database):
        found = top_movers(database, days)
    none = f"Nothing was sold in {days} days."
    answer({"movers": found}, Table(f"Sold most in {days} days", found, none))
