"""`midas db`: our tables and triggers in the shop's database."""

from __future__ import annotations

from dataclasses import asdict

import click
import sqlalchemy as sa

from midas_pipelines.cli.opening import command_entry, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, answer
from midas_pipelines.errors import WrongInput
from midas_pipelines.store import migrate
from midas_pipelines.store.gateway.audit import note_audit
from midas_pipelines.store.privacy.register import TABLES
from midas_pipelines.store.schema import version
from midas_pipelines.store.schema.gateway_tables import gateway_audit
from midas_pipelines.store.schema.tables import inventory_changes, order_processing_logs
from midas_pipelines.storefront.schema import RIGHTS, shop

READ = "SELECT"
KEEP = "SELECT, INSERT, UPDATE, DELETE"
APPENDED = {
    gateway_audit.name: "SELECT, INSERT, DELETE",  # a trigger keeps the rows of the last 365 days
    inventory_changes.name: "SELECT, INSERT",
    order_processing_logs.name: KEEP,  # a trigger keeps its rows but for erasing a buyer and for retention
}


@click.group(cls=AnsweringGroup)
def db() -> None:
    """Prepare the shop's database, or show its version.

    Our tables and triggers are added beside the shop's; no column of the shop's is altered.
    """


@db.command("upgrade")
def upgrade_command() -> None:
    """Create or renew our tables and triggers. Run twice, it changes nothing."""
    with shop_database(upgraded=False) as (settings, database):
        at = migrate.upgrade(database)
        database.write(note_audit, command_entry(settings, "db upgrade", target=at.current), "answered")
    _answer(at)


@db.command()
def current() -> None:
    """Show which version the database is at, and what is missing. Exits 1 when a sync could not run."""
    with shop_database(upgraded=False) as (_, database):
        at = database.read(version.read_version)
    _answer(at, failed=not at.ready)


@db.command("grants", cls=click.Command)
@click.argument("role")
def print_grants(role: str) -> None:
    """Print what a restricted ROLE on PostgreSQL needs to run everything but upgrade, restore and drill."""
    if not role.isidentifier():
        raise click.BadParameter("give a plain name", param_hint="ROLE")
    with shop_database() as (_, database), database.reading() as connection:
        present = set(sa.inspect(connection).get_table_names())
        schema = connection.dialect.default_schema_name
    if not database.is_postgresql:
        raise WrongInput("SQLite knows no roles: the file's own rights decide.")
    others = present & set(shop.tables)
    ours = present & {*TABLES, version.VERSION_TABLE}
    rights = dict.fromkeys(sorted(ours), KEEP) | dict.fromkeys(sorted(others), READ) | RIGHTS | APPENDED
    click.echo(f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}";')
    for table, right in rights.items():
        click.echo(f'GRANT {right} ON "{schema}"."{table}" TO "{role}";')
    click.echo(f'GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA "{schema}" TO "{role}";')


def _answer(at: version.Version, *, failed: bool = False) -> None:
    state = "Tables and triggers are in place." if at.ready else "Run `midas db upgrade`."
    if at.shop_tables_missing:
        state = (
            f"The shop's tables are missing: {', '.join(at.shop_tables_missing)}. Our triggers wait for them: "
            "make a sample shop with `midas store seed`, or run `midas db upgrade` again when they are there."
        )
    elif at.triggers_missing:
        state = f"Triggers are missing: {', '.join(at.triggers_missing)}. Run `midas db upgrade`."
    found = asdict(at) | {"ready": at.ready}
    answer(found, f"Version {at.current or 'none'} of {at.newest}.", state, failed=failed)
