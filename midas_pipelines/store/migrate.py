"""Brings our tables and triggers to the newest version; what `midas db upgrade` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from midas_pipelines.store import triggers
from midas_pipelines.store.database import Database
from midas_pipelines.store.mappings import ensure_items
from midas_pipelines.storefront.schema import missing_tables

VERSION_TABLE = "midas_alembic_version"
"""Our own, so that a shop that uses Alembic itself keeps its own history."""


class NotUpgraded(Exception):
    """The database is not at the version this code needs; the message says what to run."""


@dataclass(frozen=True)
class Version:
    """Where a database stands: `current` is None before the first upgrade."""

    current: str | None
    newest: str
    shop_tables_missing: list[str]
    triggers_missing: list[str]

    @property
    def ready(self) -> bool:
        """Whether a sync may run."""
        return self.current == self.newest and not self.shop_tables_missing and not self.triggers_missing


def upgrade(database: Database) -> Version:
    """Creates or renews tables and triggers in one transaction; run twice it changes nothing.

    The shop's tables may be missing still: then the triggers are put on them by the next upgrade.
    """
    with database.writing() as connection:
        if database.is_postgresql:  # two upgrades at once wait for one another
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('midas_pipelines.upgrade'))")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if triggers.install(connection):
            ensure_items(connection)
        return _version(connection)


def version(database: Database) -> Version:
    """Where the database stands, without changing it."""
    with database.reading() as connection:
        return _version(connection)


def require_upgraded(database: Database) -> None:
    """Raises `NotUpgraded` with what to do, unless a sync may run on this database."""
    at = version(database)
    if at.shop_tables_missing:
        raise NotUpgraded(
            f"The database has no table {', '.join(at.shop_tables_missing)}: point MIDAS_DATABASE_URL at the shop's "
            "database, or make a sample shop with `midas store seed`."
        )
    if not at.ready:
        raise NotUpgraded("The database is not prepared for this version: run `midas db upgrade`.")


def _version(connection: sa.Connection) -> Version:
    current = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    missing = missing_tables(connection)
    lacking = [] if missing or current is None else triggers.missing_triggers(connection)
    return Version(current, newest or "", missing, lacking)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
