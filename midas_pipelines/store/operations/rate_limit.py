"""One rate limit for all processes: the generic cell rate algorithm on one row of the shop's database.

The row holds when the next slot is free. A process takes slots for the requests that wait, in one short transaction, and
sends each request at its slot; it holds few, because they are lost where it is killed. Any 429 moves `blocked_until`, and all processes wait. In a
pause of more than two minutes `next_slot` is when one call of all processes tries; its answer ends the pause.

A share of the rate is kept for what happens in real time: where bulk work has taken slots ahead, a real-time request
goes between them, at most one in five, and the bulk work's next slot is that much later.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import ContextVar
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import rate_limits
from midas_pipelines.storefront.writing import insert

NAME = "fourseller"  # the limit's row

LONGEST_HELD_SECONDS = 0.25
"""The slots that a process holds at most, as seconds of the rate; so a 429 met elsewhere soon holds here too."""

LONGEST_PAUSE = 120.0  # seconds after which one call tries again, however long a pause was asked for

REAL_TIME_SHARE = 0.2
"""The part of the rate that bulk work cannot keep from real-time requests: each waits five slots at most for itself."""

MOST_WAITING = 1000
"""Slots that may be taken ahead; a row further ahead was written by a clock that has been set back since."""


_bulk: ContextVar[bool] = ContextVar("bulk", default=False)


def send_as_bulk() -> None:
    """From now on what this task sends takes the slots of bulk work, also in a process of real time."""
    _bulk.set(True)


class SharedPace:
    """A rate limit, in requests a second, that all processes on one database share; `real_time` goes before bulk work."""

    def __init__(self, database: Database, rate: float, *, real_time: bool = False) -> None:
        self._database, self._rate, self._real_time = database, rate, real_time
        self._waiting = 0
        self._most_held = max(1, int(rate * LONGEST_HELD_SECONDS))
        self._slots: deque[float] = deque()  # moments of this process's own clock
        self._last: deque[float] = deque(maxlen=self._most_held)  # slots taken, whether due yet or not
        self._refill = asyncio.Lock()
        self._probing = False

    async def take(self) -> float:
        """Waits for a turn and returns 0; in a long pause returns the seconds to wait at once."""
        self._waiting += 1
        try:
            while not self._slots:
                async with self._refill:
                    if not self._slots:
                        # Waits until no more than half of the slots that may be held are still to come.
                        half = self._most_held // 2
                        if len(self._last) > half:
                            await asyncio.sleep(max(0.0, self._last[-half - 1] - time.monotonic()))
                        few = self._most_held - half
                        taken = await asyncio.to_thread(self.reserve, min(self._waiting, few))
                        if isinstance(taken, float):
                            return taken
                        self._slots.extend(taken)
                        self._last.extend(taken)
            slot = self._slots.popleft()
        finally:
            self._waiting -= 1
        await asyncio.sleep(max(0.0, slot - time.monotonic()))
        return 0.0

    async def blocked(self, seconds: float) -> None:
        """4Seller answered 429 and asks for this pause: no process sends anything until it is over."""
        await asyncio.to_thread(self._block, seconds, self._forget())

    def _forget(self) -> bool:
        """Drops the slots that are held; returns whether one was the try of a long pause."""
        self._slots.clear()
        self._last.clear()
        probed, self._probing = self._probing, False
        return probed

    async def succeeded(self) -> None:
        """A request was answered: that ends a long pause whose probe it was. A set limit does not move."""
        if self._probing:
            self._probing = False
            await asyncio.to_thread(self._block, 0.0, True)

    def reserve(self, wanted: int) -> list[float] | float:
        """Takes up to so many slots, and returns their moments; or the seconds until one call may try, in a long pause."""
        count = max(1, min(wanted, self._most_held))
        with self._database.writing() as connection:
            row = connection.execute(self._locked()).first()
            if row is None:
                self._add_row(connection)
                row = connection.execute(self._locked()).one()
            offset = time.monotonic() - row.now
            ahead = row.next_slot - row.now
            if row.now < row.blocked_until and row.next_slot < row.blocked_until:
                if 0 < ahead <= LONGEST_PAUSE:
                    return float(ahead)
                self._probing = True
                connection.execute(self._update().values(next_slot=row.now + LONGEST_PAUSE))
                return [row.now + offset]
            moments, last, own = self._places(row, count)
            connection.execute(self._update().values(next_slot=last, next_real_time=own))
        return [moment + offset for moment in moments]

    def _places(self, row: sa.Row[Any], count: int) -> tuple[list[float], float, float]:
        """Moments of the next slots; and the row's two moments after them."""
        gap = 1.0 / self._rate
        farthest = row.now + LONGEST_PAUSE + MOST_WAITING * gap
        start = max(row.now, row.blocked_until)
        bulk = max(row.next_slot, start) if row.next_slot <= farthest else row.now
        own = max(row.next_real_time, start) if row.next_real_time <= farthest else row.now
        moments = []
        for _ in range(count):
            between = self._real_time and own < bulk
            moments.append(own if between else bulk)
            own += gap / REAL_TIME_SHARE if between else 0.0
            bulk += gap
        return moments, bulk, own

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

    def _locked(self) -> sa.Select[Any]:
        row = sa.select(rate_limits, _clock(self._database).label("now"))
        return row.where(rate_limits.c.name == NAME).with_for_update()

    def _add_row(self, connection: sa.Connection) -> None:
        connection.execute(insert(connection, rate_limits).values(name=NAME).on_conflict_do_nothing())

    def _update(self) -> sa.Update:
        return sa.update(rate_limits).where(rate_limits.c.name == NAME)


class RealTimePace(SharedPace):
    """The limit for the gateway's worker: its calls go before bulk work, but for those after `send_as_bulk`."""

    def __init__(self, database: Database, rate: float) -> None:
        super().__init__(database, rate, real_time=True)
        self._of_bulk = SharedPace(database, rate)

    async def take(self) -> float:
        """Waits for a turn and returns 0; in a long pause returns the seconds to wait at once."""
        return await (self._of_bulk.take() if _bulk.get() else super().take())

    async def succeeded(self) -> None:
        """A request was answered."""
        await (self._of_bulk.succeeded() if _bulk.get() else super().succeeded())

    def _forget(self) -> bool:
        probed = self._of_bulk._forget()
        return super()._forget() or probed


def _clock(database: Database) -> sa.ColumnElement[float]:
    """One clock for all processes, in seconds since 1970: PostgreSQL's own, or this machine's, which SQLite shares."""
    if database.is_postgresql:
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    return sa.literal(time.time(), sa.Double)
