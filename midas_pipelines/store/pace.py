"""One rate limit for all processes: the generic cell rate algorithm on one row of the shop's database.

The row holds when the next slot is free. Whoever needs slots takes as many as it has requests waiting, in one short
transaction, and sends each request at its slot. A 429 met by anyone moves `blocked_until`, and everyone waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from midas_pipelines.store.database import Database
from midas_pipelines.store.tables import rate_limits

LONGEST_BLOCK_SECONDS = 0.25
"""How far ahead slots are taken at most, so that a 429 met elsewhere soon holds here too."""


class SharedPace:
    """A pace (see `fourseller.pace.Pace`) that all processes on one database keep together.

    Args:
        database: the shop's.
        rate: requests a second, for all processes together.
        name: the limit's row.
    """

    def __init__(self, database: Database, rate: float, name: str = "fourseller") -> None:
        self._database = database
        self._rate = rate
        self._name = name
        self._waiting = 0
        self._slots: deque[float] = deque()  # moments of this process's own clock
        self._refill = asyncio.Lock()

    async def take(self) -> None:
        """Returns when one request may be sent."""
        self._waiting += 1
        try:
            while not self._slots:
                async with self._refill:
                    if not self._slots:
                        self._slots.extend(await asyncio.to_thread(self._take_slots, self._waiting))
            slot = self._slots.popleft()
        finally:
            self._waiting -= 1
        await asyncio.sleep(max(0.0, slot - time.monotonic()))

    async def blocked(self, seconds: float) -> None:
        """4Seller answered 429 and asks for this pause: nobody sends anything until it is over."""
        self._slots.clear()
        await asyncio.to_thread(self._block, seconds)

    async def succeeded(self) -> None:
        """A request was answered; a set limit does not move."""

    def _take_slots(self, wanted: int) -> Sequence[float]:
        count = max(1, min(wanted, int(self._rate * LONGEST_BLOCK_SECONDS)))
        gap = 1.0 / self._rate
        with self._database.writing() as connection:
            row = connection.execute(self._locked()).first()
            if row is None:
                connection.execute(self._insert())
                row = connection.execute(self._locked()).one()
            first = max(row.next_slot, row.now, row.blocked_until)
            connection.execute(self._update().values(next_slot=first + count * gap))
            offset = time.monotonic() - row.now
        return [first + number * gap + offset for number in range(count)]

    def _block(self, seconds: float) -> None:
        with self._database.writing() as connection:
            connection.execute(self._insert())
            until = connection.execute(sa.select(_clock(self._database))).scalar_one() + seconds
            later = self._update().where(rate_limits.c.blocked_until < until)
            connection.execute(later.values(blocked_until=until))

    def _locked(self) -> sa.Select[tuple[float, float, float]]:
        columns = (rate_limits.c.next_slot, rate_limits.c.blocked_until, _clock(self._database).label("now"))
        return sa.select(*columns).where(rate_limits.c.name == self._name).with_for_update()

    def _insert(self) -> sa.Insert:
        insert = postgresql_insert if self._database.is_postgresql else sqlite_insert
        return insert(rate_limits).values(name=self._name).on_conflict_do_nothing()

    def _update(self) -> sa.Update:
        return sa.update(rate_limits).where(rate_limits.c.name == self._name)


def _clock(database: Database) -> sa.ColumnElement[float]:
    """One clock for all processes, in seconds since 1970: PostgreSQL's own, or this machine's, which SQLite shares."""
    if database.is_postgresql:
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    return sa.literal(time.time(), sa.Double)
