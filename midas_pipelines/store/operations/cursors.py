"""Facts about the whole installation, one row each: how far the incremental reads are, how far other clocks are ahead,
whether this shop is connected to the listings of its account, and which key 4Seller refused; and proofs of what was checked.

A refusal belongs to the key: a process with another key works, and one with the old key waits.
"""

from __future__ import annotations

import hashlib
import time
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.settings import ChannelAccess
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.operation_tables import proofs
from midas_pipelines.store.schema.tables import cursors, mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert, insert_new, upsert

CLOCK, CONNECTED, REFUSED = "clock: ", "connected", "refused key: "
"""Names of rows; with a colon the start of several."""
TRIAL_SECONDS = 900
"""How often imports try a refused key."""


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


def is_connected(database: Database) -> bool:
    """Whether listings may be written: the first connection is accepted, or an item was synced before."""
    noted = sa.exists().where(cursors.c.name == CONNECTED)
    synced = sa.exists().where(mappings.c.acked_at.is_not(None))
    with database.reading() as connection:
        return bool(connection.scalar(sa.select(sa.or_(noted, synced))))


def note_connected(connection: sa.Connection) -> None:
    """Records that listings may be written."""
    upsert(connection, cursors, {"name": CONNECTED}, {"moment": utc_now()})


def _row_of(access: ChannelAccess) -> str:
    """The row of a refused key: a short digest of address, key and seller id."""
    text = f"{access.url}\n{access.api_key.get_secret_value()}\n{access.seller_id}"
    return REFUSED + hashlib.sha256(text.encode()).hexdigest()[:16]


def key_refused_at(connection: sa.Connection, access: ChannelAccess) -> datetime | None:
    """When this key was refused, or last tried in vain; None while 4Seller takes it."""
    return connection.scalar(sa.select(cursors.c.moment).where(cursors.c.name == _row_of(access)))


def note_refused_key(connection: sa.Connection, access: ChannelAccess) -> bool:
    """Records that 4Seller refused this key; True the first time."""
    adding = insert(connection, cursors).values(name=_row_of(access), moment=utc_now())
    return connection.execute(adding.on_conflict_do_nothing().returning(cursors.c.name)).first() is not None


def take_trial(database: Database, access: ChannelAccess) -> bool:
    """Whether this caller may try the refused key now: one in `TRIAL_SECONDS` may."""
    due = sa.and_(cursors.c.name == _row_of(access), cursors.c.moment < utc_now(-TRIAL_SECONDS))
    with database.writing() as connection:
        return bool(connection.execute(sa.update(cursors).where(due).values(moment=utc_now())).rowcount)


def forget_refused_key(connection: sa.Connection, access: ChannelAccess) -> None:
    """Ends the state of this key."""
    connection.execute(sa.delete(cursors).where(cursors.c.name == _row_of(access)))


def record_proof(
    connection: sa.Connection, name: str, *, passed: bool, by: str, detail: dict[str, Any] | None = None
) -> None:
    """Adds what was checked, and whether it passed. `detail` holds no personal data."""
    connection.execute(sa.insert(proofs).values(name=name, passed=passed, by=by, detail=detail))


def last_proofs(connection: sa.Connection) -> dict[str, sa.Row[Any]]:
    """The newest proof of each name."""
    newest = sa.select(sa.func.max(proofs.c.id)).group_by(proofs.c.name)
    found = connection.execute(sa.select(proofs).where(proofs.c.id.in_(newest)))
    return {row.name: row for row in found}
