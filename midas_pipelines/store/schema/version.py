"""The schema version of the database, and whether a sync may run on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema import triggers
from midas_pipelines.storefront.schema import NEEDED, differing_columns

VERSION_TABLE = "midas_alembic_version"
"""Our own, so that a shop that uses Alembic itself keeps its own history."""

MIGRATIONS = Path(__file__).parents[1] / "migrations"


class NotUpgraded(ExpectedError):
    """The database is not at the version this code needs; the message says what to run."""

    http_status = 503
    retry_seconds = 5


@dataclass(frozen=True)
class Version:
    """The version of a database: `current` is None before the first upgrade."""

    current: str | None
    newest: str
    shop_tables_missing: list[str]
    triggers_missing: list[str]
    triggers_fire: bool = True

    @property
    def ready(self) -> bool:
        """Whether a sync may run."""
        lacking = self.shop_tables_missing or self.triggers_missing or not self.triggers_fire
        return self.current == self.newest and not lacking


def version(database: Database) -> Version:
    """The version of the database, without changing it."""
    with database.reading() as connection:
        return read_version(connection)


def require_upgraded(database: Database) -> None:
    """Raises `NotUpgraded` with what to do, unless a sync may run on this database."""
    at = version(database)
    if at.shop_tables_missing:
        raise NotUpgraded(
            f"The database has no table {', '.join(at.shop_tables_missing)}: point MIDAS_DATABASE_URL at the shop's "
            "database, or make a sample shop with `midas store seed`."
        )
    if not at.triggers_fire:
        raise NotUpgraded(
            "The database sets session_replication_role, so that no trigger fires and no change of the shop is found: run "
            "`ALTER DATABASE ... RESET session_replication_role`, or the same for the role."
        )
    if not at.ready:
        raise NotUpgraded("The database is not prepared for this version: run `midas db upgrade`.")


def require_columns(database: Database) -> None:
    """Raises `NotUpgraded` with the first column of the shop's tables that is missing or of another kind."""
    with database.reading() as connection:
        found = differing_columns(connection)
    if found:
        raise NotUpgraded(
            f"The shop's tables have changed: {found[0]['column']} should be {found[0]['expected']} and is "
            f"{found[0]['found']}. Put it back; `midas doctor` lists all."
        )


def read_version(connection: sa.Connection) -> Version:
    """The version of this connection's database, and whether new sessions of it fire ordinary triggers."""
    present = set(sa.inspect(connection).get_table_names())
    current = None
    if VERSION_TABLE in present:
        current = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))
    missing = [name for name in NEEDED if name not in present]
    lacking = [] if missing or current is None else triggers.missing_triggers(connection)
    fire = True
    if connection.dialect.name == "postgresql":
        query = "SELECT current_setting('session_replication_role') = 'origin'"
        fire = bool(connection.exec_driver_sql(query).scalar())
    return Version(current, newest_revision(), missing, lacking, fire)


def newest_revision() -> str:
    """The revision of the last migration; read from its file's name, for loading Alembic takes half a second."""
    return max(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))
