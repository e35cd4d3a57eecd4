"""Brings our tables and triggers to the newest version; what `midas db upgrade` does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import ensure_items
from midas_pipelines.store.schema.version import MIGRATIONS, Version, install, read_version

UPGRADE_LIMITS = {
    "lock_timeout": "2s",  # the shop's writers wait behind us for its tables
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "60s",
}


def upgrade(database: Database) -> Version:
    """Creates or renews tables and triggers in one transaction; run twice it changes nothing.

    The shop's tables may be missing still: then the triggers are put on them by the next upgrade.
    """
    with database.writing() as connection:
        return upgrade_within(connection)


def upgrade_within(connection: sa.Connection) -> Version:
    """As `upgrade`, in the caller's transaction."""
    if connection.dialect.name == "postgresql":  # two upgrades at once wait for one another
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('midas_pipelines.upgrade'))")
        for name, limit in UPGRADE_LIMITS.items():
            connection.exec_driver_sql(f"SET LOCAL {name} = '{limit}'")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if install(connection):
        ensure_items(connection)
    return read_version(connection)
