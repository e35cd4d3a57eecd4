"""Facts about the whole installation, one row each: how far the incremental reads are, how far other clocks are ahead,
whether this shop is connected to the listings of its account, whether shadow mode is on, and which key 4Seller refused; and
proofs of what was checked.

A refusal belongs to the key: a process with another key works, and one with the old key waits. Each failed call has a row,
without bodies and personal data.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.settings import ChannelAccess
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.operation_tables import proofs
from midas_pipelines.store.schema.tables import api_errors, cursors, mappings, marketplace_orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert, upsert, write_each

CLOCK, CONNECTED, REFUSED = "clock: ", "connected", "refused key: "
"""Names of rows; with a colon the start of several."""
TRIAL_SECONDS = 900  # how often imports try a refused key

SINCE = "shadow mode"  # the row of `midas_cursors` that says since when shadow mode is on

SPEED = "speed: "
ENOUGH, SLOWER, LEAST_SECONDS = 20, 3.0, 0.2
"""Answers whose mean counts; how many times it may be what it was at first, and by how many seconds at least."""

MOST_UNWRITTEN = 20_000  # failed calls kept while the database is away; more are lost


def read_cursor(database: Database, name: str) -> datetime | None:
    """The time up to which everything is resolved; None before the first read."""
    return database.scalar(sa.select(cursors.c.moment).where(cursors.c.name == name))


def advance_cursor(database: Database, name: str, moment: datetime) -> None:
    """Moves the cursor forward to `moment`; it never goes back, even if two readers overlap."""
    with database.writing() as connection:
        adding = insert(connection, cursors).values(name=name, moment=moment)
        later, new = cursors.c.moment < moment, {"moment": moment}
        connection.execute(adding.on_conflict_do_update(index_elements=["name"], set_=new, where=later))


def database_ahead(database: Database) -> float:
    """Seconds that the database's clock is ahead of this machine's."""
    before = time.time()
    return database.now().timestamp() - (before + time.time()) / 2


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
    return bool(database.scalar(sa.select(sa.or_(noted, synced))))


def note_connected(connection: sa.Connection) -> None:
    """Records that listings may be written."""
    upsert(connection, cursors, {"name": CONNECTED}, {"moment": utc_now()})


def refusal_row(access: ChannelAccess) -> str:
    """The name of the row that is there while 4Seller refuses this key: a short digest of address, key and seller id."""
    text = f"{access.url}\n{access.api_key.get_secret_value()}\n{access.seller_id}"
    return REFUSED + hashlib.sha256(text.encode()).hexdigest()[:16]


def key_refused_at(connection: sa.Connection, access: ChannelAccess) -> datetime | None:
    """When this key was refused, or last tried in vain; None while 4Seller takes it."""
    return connection.scalar(sa.select(cursors.c.moment).where(cursors.c.name == refusal_row(access)))


def note_refused_key(connection: sa.Connection, access: ChannelAccess) -> bool:
    """Records that 4Seller refused this key; True the first time."""
    adding = insert(connection, cursors).values(name=refusal_row(access), moment=utc_now())
    return connection.execute(adding.on_conflict_do_nothing().returning(cursors.c.name)).first() is not None


def take_trial(database: Database, access: ChannelAccess) -> bool:
    """Whether this caller may try the refused key now: one in `TRIAL_SECONDS` may."""
    due = sa.and_(cursors.c.name == refusal_row(access), cursors.c.moment < utc_now(-TRIAL_SECONDS))
    with database.writing() as connection:
        return bool(connection.execute(sa.update(cursors).where(due).values(moment=utc_now())).rowcount)


def forget_refused_key(connection: sa.Connection, access: ChannelAccess) -> None:
    """Ends the state of this key."""
    connection.execute(sa.delete(cursors).where(cursors.c.name == refusal_row(access)))


def record_proof(
    connection: sa.Connection, name: str, *, passed: bool, by: str, detail: dict[str, Any] | None = None
) -> None:
    """Adds what was checked, and whether it passed. `detail` holds no personal data."""
    connection.execute(sa.insert(proofs).values(name=name, passed=passed, by=by, detail=detail))


def last_proofs(connection: sa.Connection) -> dict[str, sa.Row[Any]]:
    """The newest proof of each name."""
    newest = sa.select(sa.func.max(proofs.c.id)).group_by(proofs.c.name)
    return {row.name: row for row in connection.execute(sa.select(proofs).where(proofs.c.id.in_(newest)))}


def in_shadow_mode(connection: sa.Connection) -> bool:
    """Whether shadow mode was on when the channel was last opened."""
    return bool(connection.scalar(sa.select(sa.exists().where(cursors.c.name == SINCE))))


def note_shadow_mode(database: Database, *, on: bool) -> None:
    """Notes that shadow mode begins; or that it has ended, and makes due what it kept waiting, of which nothing was
    acknowledged."""
    with database.writing() as connection:
        if on:
            upsert(connection, cursors, {"name": SINCE}, {"moment": utc_now()})
            return
        connection.execute(sa.delete(cursors).where(cursors.c.name == SINCE))
        waiting = sa.and_(mappings.c.dirty_since.is_not(None), mappings.c.attempts == 0)
        connection.execute(sa.update(mappings).where(waiting).values(next_attempt_at=None))
        pushing = marketplace_orders.c.push_after.is_not(None) & (marketplace_orders.c.push_attempts == 0)
        connection.execute(sa.update(marketplace_orders).where(pushing).values(push_after=None))


def compare_speed(database: Database, seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Findings about calls that take far longer than when they were first measured; the first measure is kept."""
    found = []
    for call, (count, total) in seconds.items():
        mean, name = total / count, (SPEED + call)[:50]
        with database.writing() as connection:
            adding = insert(connection, cursors).values(name=name, value=f"{mean:.4f}", moment=utc_now())
            connection.execute(adding.on_conflict_do_nothing())
            first = float(connection.scalars(sa.select(cursors.c.value).where(cursors.c.name == name)).one())
        if mean > max(first * SLOWER, first + LEAST_SECONDS):
            what = f"It takes {mean:.2f} s on average; at first it took {first:.2f} s."
            slower = {"kind": "slower", "call": call, "place": "time", "what": what}
            found.append(slower | {"example": "", "times": 1})
    return found


class ErrorBook:
    """Collects failed calls and writes them to `fourseller_api_errors` in blocks, and the rest when it closes."""

    def __init__(self, database: Database, run_id: str | None, block: int = 50) -> None:
        self._database, self._run_id, self._block = database, run_id, block
        self._rows: deque[dict[str, Any]] = deque(maxlen=MOST_UNWRITTEN)
        self._lock = threading.Lock()

    def __enter__(self) -> ErrorBook:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def note(self, call: Any) -> None:
        """Records one failed call, as the client reports it."""
        names = ("endpoint", "status", "code", "message", "attempt", "item")
        row = {name: getattr(call, name) for name in names}
        self._rows.append(row | {"run_id": self._run_id, "created_at": call.at})
        if len(self._rows) % self._block == 0:
            with suppress(sa.exc.SQLAlchemyError):  # the rows wait while the database is away
                self.flush()

    def flush(self) -> None:
        """Writes the collected calls; those that the database does not take are kept for the next time."""
        with self._lock:
            rows = [self._rows.popleft() for _ in range(len(self._rows))]
            try:
                if rows:
                    adding = sa.insert(api_errors)
                    with self._database.writing() as connection:
                        write_each(connection, rows, lambda part: connection.execute(adding, part))
            except BaseException:
                self._rows.extendleft(reversed(rows))
                raise
