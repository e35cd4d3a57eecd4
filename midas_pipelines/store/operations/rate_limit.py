"""One rate limit for all processes: the generic cell rate algorithm on one row of the shop's database.

The row holds when the next slot is free. A process takes as many slots as it has requests waiting, in one short
transaction, and sends each request at its slot. Any 429 moves `blocked_until`, and all processes wait. In a
pause of more than two minutes `next_slot` is when one call of all processes tries; its answer ends the pause.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import rate_limits
from midas_pipelines.storefront.bulk import insert

LONGEST_BLOCK_SECONDS = 0.25
"""How far ahead slots are taken at most, so that a 429 met elsewhere soon holds here too."""

LONGEST_PAUSE = 120.0
"""Seconds after which one call tries again, however long a pause was asked for."""

MOST_WAITING = 1000
"""Slots that may be taken ahead; a row further ahead was written by a clock that has been set back since."""


class SharedPace:
    """A rate limit that all processes on one database share.

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
        self._probing = False

    async def take(self) -> float:
        """Waits for a turn and returns 0; in a long pause returns the seconds to wait at once."""
        self._waiting += 1
        try:
            while not self._slots:
                async with self._refill:
                    if not self._slots:
                        taken = await asyncio.to_thread(self._take_slots, self._waiting)
                        if isinstance(taken, float):
                            return taken
                        self._slots.extend(taken)
            slot = self._slots.popleft()
        finally:
            self._waiting -= 1
        await asyncio.sleep(max(0.0, slot - time.monotonic()))
        return 0.0

    async def blocked(self, seconds: float) -> None:
        """4Seller answered 429 and asks for this pause: no process sends anything until it is over."""
        self._slots.clear()
        probed, self._probing = self._probing, False
        await asyncio.to_thread(self._block, seconds, probed)

    async def succeeded(self) -> None:
        """A request was answered: that ends a long pause whose probe it was. A set limit does not move."""
        if self._probing:
            self._probing = False
            await asyncio.to_thread(self._block, 0.0, True)

    def _take_slots(self, wanted: int) -> Sequence[float] | float:
        """Moments of slots that were taken; or the seconds until one call may try, in a long pause."""
        count = max(1, min(wanted, int(self._rate * LONGEST_BLOCK_SECONDS)))
        gap = 1.0 / self._rate
        with self._database.writing() as connection:
            row = connection.execute(self._locked()).first()
            if row is None:
                self._add_row(connection)
                row = connection.execute(self._locked()).one()
            ahead = row.next_slot - row.now
            if row.now < row.blocked_until and row.next_slot < row.blocked_until:
                if 0 < ahead <= LONGEST_PAUSE:
                    return float(ahead)
                self._probing, first, count, gap = True, row.now, 1, LONGEST_PAUSE
            elif ahead > LONGEST_PAUSE + MOST_WAITING * gap:
                first = row.now
            else:
                first = max(row.next_slot, row.now, row.blocked_until)
            connection.execute(self._update().values(next_slot=first + count * gap))
            offset = time.monotonic() - row.now
        return [first + number * gap + offset for number in range(count)]

    def _block(self, seconds: float, anyway: bool) -> None:
        """Begins a pause from now; `anyway` is whether it takes the place of one that lasts longer."""
        with self._database.writing() as connection:
            self._add_row(connection)
            now = connection.execute(sa.select(_clock(self._database))).scalar_one()
            later = self._update()
            if not anyway:
                later = later.where(rate_limits.c.blocked_until < now + seconds)
            probe_at = now + min(seconds, LONGEST_PAUSE)
            connection.execute(later.values(blocked_until=now + seconds, next_slot=probe_at))

    def _locked(self) -> sa.Select[tuple[float, float, float]]:
        columns = (rate_limits.c.next_slot, rate_limits.c.blocked_until, _clock(self._database).label("now"))
        return sa.select(*columns).where(rate_limits.c.name == self._name).with_for_update()

    def _add_row(self, connection: sa.Connection) -> None:
        connection.execute(insert(connection, rate_limits).values(name=self._name).on_conflict_do_nothing())

    def _update(self) -> sa.Update:
        return sa.update(rate_limits).where(rate_limits.c.name == self._name)


def _clock(database: Database) -> sa.ColumnElement[float]:
    """One clock for all processes, in seconds since 1970: PostgreSQL's own, or this machine's, which SQLite shares."""
    if database.is_postgresql:
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    return sa.literal(time.time(), sa.Double)
