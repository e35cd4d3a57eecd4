"""Whether a sync may run on the database: the version of its schema, its triggers, the shop's columns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema import postgresql_triggers, sqlite_triggers
from midas_pipelines.storefront.schema import NEEDED, shop

VERSION_TABLE = "midas_alembic_version"
"""Our own, so that a shop that uses Alembic itself keeps its own history."""

UNPREPARED = "The database is not prepared for this version: run `midas db upgrade`."
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


def require_tables(database: Database) -> Version:
    """Raises `NotUpgraded` with what to do, unless the shop's tables are there, and ours as this version has them."""
    at = database.read(read_version)
    if at.shop_tables_missing:
        raise NotUpgraded(
            f"The database has no table {', '.join(at.shop_tables_missing)}: point MIDAS_DATABASE_URL at the shop's "
            "database, or make a sample shop with `midas store seed`."
        )
    if at.current != at.newest:
        raise NotUpgraded(UNPREPARED)
    return at


def require_upgraded(database: Database) -> None:
    """Raises `NotUpgraded` with what to do, unless a sync may run on this database."""
    at = require_tables(database)
    if not at.triggers_fire:
        raise NotUpgraded(
            "The database sets session_replication_role, so that no trigger fires and no change of the shop is found: run "
            "`ALTER DATABASE ... RESET session_replication_role`, or the same for the role."
        )
    if at.triggers_missing:
        database.read(require_columns)  # a dropped column took them with it: no upgrade helps
        raise NotUpgraded(UNPREPARED)


def require_columns(connection: sa.Connection) -> None:
    """Raises `NotUpgraded` with the first column of the shop's tables that is missing or of another kind."""
    if found := differing_columns(connection):
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
    lacking = [] if missing or current is None else missing_triggers(connection)
    fire = True
    if connection.dialect.name == "postgresql":
        query = "SELECT current_setting('session_replication_role') = 'origin'"
        fire = bool(connection.exec_driver_sql(query).scalar())
    # read from the files' names, for loading Alembic takes half a second
    newest = max(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))
    return Version(current, newest, missing, lacking, fire)


EXPECTED = [column for table in shop.tables.values() for column in table.columns]


OPTIONAL = {"products.status", "products.is_featured", "products.is_new"}
"""Columns that the integration does without."""


AS_WELL: dict[type, set[type]] = {datetime: {str}, dict: {str}, bool: {int}, Decimal: {float, int}}
"""What SQLite keeps these as just as well: it has no such kinds."""


def differing_columns(connection: sa.Connection) -> list[dict[str, str]]:
    """The columns that are missing or of another kind, each with what is expected and what was found."""
    found = sa.inspect(connection).get_multi_columns(filter_names=NEEDED)
    present = {
        f"{table}.{column['name']}": column["type"]
        for (_, table), columns in found.items()
        for column in columns
    }
    rows = []
    for column in EXPECTED:
        name, wanted = f"{column.table.name}.{column.name}", _plain(column.type)
        if name in present:
            kind = _kind(_plain(present[name]))
            spared = AS_WELL.get(_kind(wanted), set()) if connection.dialect.name == "sqlite" else set()
            if kind is not _kind(wanted) and kind not in spared:
                rows.append({"column": name, "expected": str(wanted), "found": str(present[name])})
        elif name not in OPTIONAL:
            rows.append({"column": name, "expected": str(wanted), "found": "no column"})
    return rows


def _plain(of: Any) -> Any:
    """The type that a type of ours, or a domain of PostgreSQL, is made of."""
    return of.impl_instance if isinstance(of, sa.types.TypeDecorator) else getattr(of, "data_type", of)


def _kind(of: Any) -> type:
    """What a value of that type is in Python; `object` where nothing is known of it."""
    try:
        kind: type = of.python_type
    except NotImplementedError:
        return object
    return kind


def missing_triggers(connection: sa.Connection) -> list[str]:
    """The names of our triggers that the shop's tables lack; an asset check and `midas status` report them."""
    if connection.dialect.name == "postgresql":
        query = (
            "SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = current_schema() AND starts_with(tgname, 'midas_') AND tgenabled <> 'D'"
        )
        wanted = postgresql_triggers.TRIGGERS
    else:
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        wanted = sqlite_triggers.TRIGGERS
    present = {row[0] for row in connection.exec_driver_sql(query)}
    return [name for name in wanted if name not in present]
