"""Cursors of the incremental reads."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import cursors


def read_cursor(database: Database, name: str) -> datetime | None:
    """The time up to which everything is resolved; None before the first read."""
    with database.reading() as connection:
        return connection.scalar(sa.select(cursors.c.moment).where(cursors.c.name == name))


def advance_cursor(database: Database, name: str, moment: datetime) -> None:
    """Moves the cursor forward to `moment`; it never goes back, even if two readers overlap."""
    insert = postgresql_insert if database.is_postgresql else sqlite_insert
    first = insert(cursors).values(name=name, moment=moment).on_conflict_do_nothing()
    later = sa.update(cursors).where(cursors.c.name == name, cursors.c.moment < moment).values(moment=moment)
    with database.writing() as connection:
        connection.execute(first)
        connection.execute(later)
