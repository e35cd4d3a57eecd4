"""Whether this shop was ever connected to the listings of its 4Seller account: a person accepted it, or there were none."""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import cursors, mappings
from midas_pipelines.storefront.bulk import upsert
from midas_pipelines.storefront.types import utc_now

CONNECTED = "connected"


def is_connected(database: Database) -> bool:
    """Whether listings may be written: the first connection is accepted, or an item was synced before."""
    noted = sa.select(cursors.c.name).where(cursors.c.name == CONNECTED)
    synced = sa.select(mappings.c.id).where(mappings.c.acked_at.is_not(None)).limit(1)
    with database.reading() as connection:
        return connection.scalar(noted) is not None or connection.scalar(synced) is not None


def note_connected(connection: sa.Connection) -> None:
    """Records that listings may be written."""
    upsert(connection, cursors, {"name": CONNECTED}, {"moment": utc_now()})
