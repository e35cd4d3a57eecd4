"""The connection to 4Seller: whether this shop was ever connected to the listings of its account, and the key refused.

It belongs to a key that it was refused: a process with another key works, and one with the old key waits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from midas_pipelines.settings import ChannelAccess
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import cursors, mappings
from midas_pipelines.storefront.bulk import insert, upsert
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


PREFIX = "refused key: "
TRIAL_SECONDS = 900
"""How often imports try a refused key."""


@dataclass(frozen=True)
class RefusedKey:
    """Since when nothing was answered with this key: when it was refused, or last tried in vain."""

    tried_at: datetime


def key_name(access: ChannelAccess) -> str:
    """The row of a key: a short digest of address, key and seller id."""
    text = f"{access.url}\n{access.api_key.get_secret_value()}\n{access.seller_id}"
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:16]


def read_refused_key(connection: sa.Connection, access: ChannelAccess) -> RefusedKey | None:
    """The state of this key; None while 4Seller takes it."""
    moment = connection.scalar(sa.select(cursors.c.moment).where(cursors.c.name == key_name(access)))
    return None if moment is None else RefusedKey(moment)


def note_refused_key(connection: sa.Connection, access: ChannelAccess) -> bool:
    """Records that 4Seller refused this key; True the first time."""
    adding = insert(connection, cursors).values(name=key_name(access), moment=utc_now())
    return connection.execute(adding.on_conflict_do_nothing().returning(cursors.c.name)).first() is not None


def take_trial(database: Database, access: ChannelAccess) -> bool:
    """Whether this caller may try the refused key now: one in `TRIAL_SECONDS` may."""
    due = sa.and_(cursors.c.name == key_name(access), cursors.c.moment < utc_now(-TRIAL_SECONDS))
    with database.writing() as connection:
        return bool(connection.execute(sa.update(cursors).where(due).values(moment=utc_now())).rowcount)


def forget_refused_key(connection: sa.Connection, access: ChannelAccess) -> bool:
    """Ends the state of this key; True when it was refused."""
    return bool(connection.execute(sa.delete(cursors).where(cursors.c.name == key_name(access))).rowcount)
