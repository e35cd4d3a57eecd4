"""Brings our tables and triggers to the newest version; what `midas db upgrade` does."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import ensure_items
from midas_pipelines.store.schema import postgresql_triggers, sqlite_triggers
from midas_pipelines.store.schema.tables import cursors
from midas_pipelines.store.schema.triggers import explain_stock
from midas_pipelines.store.schema.version import (
    MIGRATIONS,
    Version,
    missing_triggers,
    read_version,
    require_columns,
)
from midas_pipelines.storefront.schema import missing_tables

UPGRADE_LIMITS = {
    "lock_timeout": "2s",  # the shop's writers wait behind us for its tables
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "60s",
}


def upgrade(database: Database) -> Version:
    """Creates or renews tables and triggers in one transaction; run twice it changes nothing. While the shop's
    tables are missing, the triggers wait for the next upgrade."""
    return database.write(upgrade_within)


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
    if _install(connection):
        ensure_items(connection)
    return read_version(connection)


def _install(connection: sa.Connection) -> bool:
    """Puts the triggers on the shop's tables and opens the ledger; True when anything changed.

    Does nothing where the very same triggers are there already, or where the shop's tables are not there yet.
    Raises `NotUpgraded` where a column of the shop's tables is missing or of another kind.
    """
    if missing_tables(connection):
        return False
    wanted = _statements(connection)
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    recorded = connection.scalar(sa.select(cursors.c.value).where(cursors.c.name == "triggers"))
    if recorded == digest and not missing_triggers(connection):
        return False
    require_columns(connection)
    for statement in wanted:
        connection.exec_driver_sql(statement)
    _open_ledger(connection)
    connection.execute(sa.delete(cursors).where(cursors.c.name == "triggers"))
    connection.execute(sa.insert(cursors).values(name="triggers", value=digest))
    return True


def _statements(connection: sa.Connection) -> list[str]:
    """What puts all triggers on this kind of database."""
    if connection.dialect.name == "postgresql":
        schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
        triggers = postgresql_triggers.TRIGGERS.items()
        made = [f"CREATE OR REPLACE TRIGGER {name} {body}" for name, body in triggers]
        return postgresql_triggers.functions(schema) + made
    return [
        statement
        for name, body in sqlite_triggers.TRIGGERS.items()
        for statement in (f"DROP TRIGGER IF EXISTS {name}", f"CREATE TRIGGER {name} {body}")
    ]


def _open_ledger(connection: sa.Connection) -> None:
    """Writes a row for each stock count that the ledger does not know yet, or that changed while triggers were away."""
    for table in ("products", "product_variants"):
        connection.exec_driver_sql(explain_stock(table, "true"))
