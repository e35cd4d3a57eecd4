"""Stores how far other clocks are ahead of this machine's, as last measured."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import cursors
from midas_pipelines.storefront.types import utc_now

PREFIX = "clock: "


def database_ahead(database: Database) -> float:
    """Seconds that the database's clock is ahead of this machine's."""
    before = time.time()
    now = database.now().timestamp()
    return now - (before + time.time()) / 2


def keep_clock(connection: sa.Connection, whose: str, ahead: float) -> None:
    """Stores the seconds that a clock is ahead."""
    insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    values = {"value": f"{ahead:.1f}", "moment": utc_now()}
    statement = insert(cursors).values(name=PREFIX + whose, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def read_clocks(connection: sa.Connection) -> dict[str, float]:
    """The seconds that each clock was ahead, negative where it was behind, by owner."""
    query = sa.select(cursors.c.name, cursors.c.value).where(cursors.c.name.startswith(PREFIX))
    return {row.name.removeprefix(PREFIX): float(row.value) for row in connection.execute(query)}
