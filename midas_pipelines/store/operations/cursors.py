"""Stores how far the incremental reads are, and how far other clocks are ahead of this machine's."""

from __future__ import annotations

import time
from datetime import datetime

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import cursors
from midas_pipelines.storefront.bulk import insert_new, upsert
from midas_pipelines.storefront.types import utc_now

PREFIX = "clock: "


def read_cursor(database: Database, name: str) -> datetime | None:
    """The time up to which everything is resolved; None before the first read."""
    with database.reading() as connection:
        return connection.scalar(sa.select(cursors.c.moment).where(cursors.c.name == name))


def advance_cursor(database: Database, name: str, moment: datetime) -> None:
    """Moves the cursor forward to `moment`; it never goes back, even if two readers overlap."""
    later = sa.update(cursors).where(cursors.c.name == name, cursors.c.moment < moment)
    with database.writing() as connection:
        insert_new(connection, cursors, [{"name": name, "moment": moment}], "name")
        connection.execute(later.values(moment=moment))


def database_ahead(database: Database) -> float:
    """Seconds that the database's clock is ahead of this machine's."""
    before = time.time()
    now = database.now().timestamp()
    return now - (before + time.time()) / 2


def keep_clock(connection: sa.Connection, whose: str, ahead: float) -> None:
    """Stores the seconds that a clock is ahead."""
    upsert(connection, cursors, {"name": PREFIX + whose}, {"value": f"{ahead:.1f}", "moment": utc_now()})


def read_clocks(connection: sa.Connection) -> dict[str, float]:
    """The seconds that each clock was ahead, negative where it was behind, by owner."""
    query = sa.select(cursors.c.name, cursors.c.value).where(cursors.c.name.startswith(PREFIX))
    return {row.name.removeprefix(PREFIX): float(row.value) for row in connection.execute(query)}
