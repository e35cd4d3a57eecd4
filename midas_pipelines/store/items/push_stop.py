"""Whether pushes to 4Seller are stopped: by a person in an incident, or after a restore until orders were read again."""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import cursors
from midas_pipelines.storefront.bulk import upsert
from midas_pipelines.storefront.types import utc_now

NAME = "pushes_stopped"
RESTORED = "restored from the backup of"
"""How the reason begins while orders since the backup have to be read."""


def stop_pushes(connection: sa.Connection, reason: str) -> None:
    """From this commit on nothing is pushed; orders are imported as ever."""
    upsert(connection, cursors, {"name": NAME}, {"value": reason[:200], "moment": utc_now()})


def allow_pushes(connection: sa.Connection, *, only_restored: bool = False) -> bool:
    """Ends the stop, or only one that a restore began; True when there was one."""
    ended = sa.delete(cursors).where(cursors.c.name == NAME)
    if only_restored:
        ended = ended.where(cursors.c.value.startswith(RESTORED))
    return bool(connection.execute(ended).rowcount)


def why_stopped(connection: sa.Connection) -> str | None:
    """Why nothing is pushed at present; None where pushes are allowed."""
    return connection.scalar(sa.select(cursors.c.value).where(cursors.c.name == NAME))
