"""`midas db`: our tables and triggers in the shop's database."""

from __future__ import annotations

from dataclasses import asdict

import click
import sqlalchemy as sa

from midas_pipelines.cli.opening import command_entry, shop_database
from midas_pipelines.cli.printing import json_option, print_json
from midas_pipelines.errors import WrongInput
from midas_pipelines.store import migrate
from midas_pipelines.store.gateway.audit import note_answered
from midas_pipelines.store.privacy.register import TABLES
from midas_pipelines.store.schema import version
from midas_pipelines.store.schema.grants import grants
from midas_pipelines.storefront.schema import shop


@click.group()
def db() -> None:
    """Prepare the shop's database, or show its version.

    Our tables and triggers are added beside the shop's; no column of the shop's is altered.
    """


@db.command("upgrade")
@json_option
def upgrade_command(as_json: bool) -> None:
    """Create or renew our tables and triggers. Run twice, it changes nothing."""
    with shop_database(upgraded=False) as (settings, database):
        at = migrate.upgrade(database)
        with database.writing() as connection:
            note_answered(connection, command_entry(settings, "db upgrade", target=at.current))
        _print_version(at, as_json)


@db.command()
@json_option
def current(as_json: bool) -> None:
    """Show which version the database is at, and what is missing. Exits 1 when a sync could not run."""
    with shop_database(upgraded=False) as (_, database):
        at = version.version(database)
        _print_version(at, as_json)
    if not at.ready:
        raise SystemExit(1)


@db.command("grants")
@click.argument("role")
def print_grants(role: str) -> None:
    """Print what a restricted ROLE on PostgreSQL needs to run everything but upgrade, restore and drill."""
    if not role.isidentifier():
        raise click.BadParameter("give a plain name", param_hint="ROLE")
    with shop_database() as (_, database), database.reading() as connection:
        present = set(sa.inspect(connection).get_table_names())
        schema = connection.dialect.default_schema_name if database.is_postgresql else None
    if schema is None:
        raise WrongInput("SQLite knows no roles: the file's own rights decide.")
    known = [table.name for table in shop.sorted_tables if table.name in present]
    ours = sorted((set(TABLES) | {version.VERSION_TABLE}) & present - set(known))
    for statement in grants(role, schema, known, ours):
        click.echo(f"{statement};")


def _print_version(at: version.Version, as_json: bool) -> None:
    if as_json:
        print_json(asdict(at) | {"ready": at.ready})
        return
    click.echo(f"Version {at.current or 'none'} of {at.newest}.")
    if at.shop_tables_missing:
        click.echo(
            f"The shop's tables are missing: {', '.join(at.shop_tables_missing)}. Our triggers wait for them: "
            "make a sample shop with `midas store seed`, or run `midas db upgrade` again when they are there."
        )
    elif at.triggers_missing:
        click.echo(f"Triggers are missing: {', '.join(at.triggers_missing)}. Run `midas db upgrade`.")
    else:
        click.echo("Tables and triggers are in place." if at.ready else "Run `midas db upgrade`.")
