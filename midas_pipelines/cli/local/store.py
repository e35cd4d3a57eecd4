"""`midas store`: a sample shop to try things on."""

from __future__ import annotations

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json
from midas_pipelines.store import migrate
from midas_pipelines.storefront import sample


@click.group()
def store() -> None:
    """Make a sample shop."""


@store.command()
@click.option("--products", default=sample.CATALOGUE_SIZE, show_default=True, help="Sellable items to make.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same shop.")
@json_option
def seed(products: int, seed: int, as_json: bool) -> None:
    """Fill the database with a made-up phone-repair shop; its tables are created where they are missing.

    Rows that are there already stay. Running it again with the same seed adds nothing.
    """
    if products < 1:
        raise click.BadParameter("at least one item is needed", param_hint="--products")
    with shop_database(upgraded=False) as (_, database):
        with database.writing() as connection:
            created = sample.create_shop_tables(connection)
            added = sample.seed_shop(connection, items=products, seed=seed)
        migrate.upgrade(database)
    if as_json:
        print_json({"tables_created": created, "items_added": added, "seed": seed})
    else:
        click.echo(f"{added} items added." if added else f"The shop of seed {seed} is there already.")
