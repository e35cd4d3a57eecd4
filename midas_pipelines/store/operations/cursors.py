"""Facts about the whole installation, one row each: how far the incremental reads are, how far other clocks are ahead,
whether this shop is connected to the listings of its account, and which key 4Seller refused.

A refusal belongs to the key: a process with another key works, and one with the old key waits.
"""

from __future__ import annotations

import hashlib
import time
from datetime import datetime

import sqlalchemy as sa

from midas_pipelines.settings import ChannelAccess
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import cursors, mappings
from midas_pipelines.storefront.bulk import insert, insert_new, upsert
from midas_pipelines.storefront.types import utc_now

CLOCK = "clock: "


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
    upsert(connection, cursors, {"name": CLOCK + whose}, {"value": f"{ahead:.1f}", "moment": utc_now()})


def read_clocks(connection: sa.Connection) -> dict[str, float]:
    """The seconds that each clock was ahead, negative where it was behind, by owner."""
    query = sa.select(cursors.c.name, cursors.c.value).where(cursors.c.name.startswith(CLOCK))
    return {row.name.removeprefix(CLOCK): float(row.value) for row in connection.execute(query)}


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


def key_name(access: ChannelAccess) -> str:
    """The row of a key: a short digest of address, key and seller id."""
    text = f"{access.url}\n{access.api_key.get_secret_value()}\n{access.seller_id}"
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:16]


def key_refused_at(connection: sa.Connection, access: ChannelAccess) -> datetime | None:
    """When this key was refused, or last tried in vain; None while 4Seller takes it."""
    return connection.scalar(sa.select(cursors.c.moment).where(cursors.c.name == key_name(access)))


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
