"""Claims: before an item is pushed a worker takes its mapping row for a while, so that no two push it at once.

Each claim has a number, and only that claim's own acknowledgement counts (`acknowledge.py`). It ends with its worker's
lease, at the latest with its own. A claim that ends without an acknowledgement may leave a write behind that 4Seller
applies late: the item is pushed again once that time is over. A restore stops all pushes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import (
    COLUMNS,
    ON_HAND,
    UNCLAIMED,
    WITH_ITEMS,
    Mapping,
    mark_dirty,
    set_rows,
    unlocked,
)
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import WAS_LISTED, cursors, mappings, workers
from midas_pipelines.storefront.types import Backoff, is_due, utc_now
from midas_pipelines.storefront.writing import any_of, upsert, write_each

log = logging.getLogger(__name__)

LEASE_SECONDS = 15
BEAT_SECONDS = 3.0
MARGIN_SECONDS = 2.0
"""No write to 4Seller begins when less than this is left of the lease."""

RETRY = Backoff(first=30, free=1)
"""The waits of an item that fails: the next run tries it again at once."""

LATE_SECONDS = 60
"""How long after a write without an answer 4Seller may still apply it."""

MOST_FREED = 5000
"""Items whose dead claims are ended in one transaction."""

NEWEST = 100
"""Of a long backlog, how many of the newest changes are looked at beside the oldest."""

ENDED = {"claimed_by": None, "claimed_until": None, "recheck_at": utc_now(LATE_SECONDS)}
"""A claim that ended without an acknowledgement: what it sent, if anything, may be applied late."""


def claim(
    connection: sa.Connection,
    *,
    worker: str,
    lease_seconds: int,
    limit: int,
    after_id: int = 0,
    ids: Sequence[int] | None = None,
    listed_only: bool = False,
    ignore_delays: bool = False,
    shards: Shards | None = None,
) -> list[Mapping]:
    """Claims up to `limit` unclaimed dirty items behind `after_id`, in the order of their ids; none while pushes are stopped.

    A claim holds once the transaction commits, for `lease_seconds`. The `worker` has a name of its own among all processes.
    `ids`, `shards` and `listed_only` (by 4Seller) narrow the items; `ignore_delays` adds those whose next attempt is not due.
    """
    stopped = sa.exists().where(cursors.c.name.in_((STOP, RESTORE_STOP)))
    conditions = [~stopped, *_claimable(ignore_delays=ignore_delays), mappings.c.id > after_id]
    if ids is not None:
        conditions.append(any_of(connection, mappings.c.id, ids))
    if shards is not None:
        conditions.append(shards.holds(mappings.c.id))
    if listed_only:
        conditions.append(mappings.c.fourseller_product_id.is_not(None))
    query = sa.select(mappings.c.id).where(*conditions).order_by(mappings.c.id).limit(limit)
    free = list(connection.scalars(query.with_for_update(skip_locked=True)))
    if not free:
        return []
    left_behind = mappings.c.claimed_by.is_not(None)
    taking = sa.update(mappings).values(
        claimed_by=worker,
        claimed_until=utc_now(lease_seconds),
        claim_number=mappings.c.claim_number + 1,
        recheck_at=sa.case((left_behind, utc_now(LATE_SECONDS)), else_=mappings.c.recheck_at),
    )
    claimed: list[Mapping] = []

    def take(part: Sequence[int]) -> None:
        rows = connection.execute(
            taking.where(any_of(connection, mappings.c.id, part)).returning(*COLUMNS)
        ).all()
        claimed.extend(Mapping(*row) for row in rows)

    write_each(connection, free, take)
    return sorted(claimed, key=lambda one: one.id)


@dataclass(frozen=True, slots=True)
class Claimable:
    """An item that is dirty, due and unclaimed: its version, and the seconds since its last push (None for never).

    `urgent` is whether the channel shows more than twice what is there, `listed` whether it shows the item at all.
    """

    id: int
    version: int
    pushed_ago: float | None
    urgent: bool = False
    listed: bool = True


def read_claimable(connection: sa.Connection, *, limit: int, new: int) -> list[Claimable]:
    """Listed items in the order of their changes; where there are more than `limit`, also those that changed last, so
    that a fresh change does not wait behind a long backlog, else also items that are not listed, `new` or a few more."""
    table = mappings.c
    query = (
        sa.select(
            table.id,
            table.version,
            table.acked_at,
            table.acked_quantity.label("shown"),
            ON_HAND.label("on_hand"),
            WAS_LISTED.label("listed"),
            utc_now().label("now"),
        )
        .select_from(WITH_ITEMS)
        .where(*_claimable())
    )
    changed = query.where(WAS_LISTED)
    rows = [*connection.execute(changed.order_by(table.dirty_since).limit(limit))]
    if len(rows) >= limit:
        rows = [*connection.execute(changed.order_by(table.dirty_since.desc()).limit(NEWEST)), *rows]
    elif new > 0:
        rows += connection.execute(query.order_by(table.id).limit(len(rows) + new))  # the same and new ones
    found = {}
    for row in rows:
        ago = None if row.acked_at is None else (row.now - row.acked_at).total_seconds()
        urgent = None not in (row.shown, row.on_hand) and max(0, row.on_hand) * 2 < row.shown
        found[row.id] = Claimable(row.id, row.version, ago, urgent, bool(row.listed))
    return list(found.values())


def _claimable(*, ignore_delays: bool = False) -> list[sa.ColumnElement[bool]]:
    conditions = [mappings.c.dirty_since.is_not(None), UNCLAIMED]
    if not ignore_delays:
        conditions.append(RETRY.is_due(mappings.c.next_attempt_at))
    return conditions


def release_claims(connection: sa.Connection, worker: str) -> int:
    """Ends every claim that `worker` still holds, without an attempt; returns how many."""
    # A claimed item is dirty until its claim ends: the small index on dirty items finds it.
    mine = mappings.c.claimed_by == worker
    query = sa.select(mappings.c.id).where(mappings.c.dirty_since.is_not(None), mine)
    free = unlocked(connection, list(connection.scalars(query)), mine)
    set_rows(connection, free, ENDED)
    return len(free)


def free_dead_claims(database: Database) -> int:
    """Ends the claims of workers that died without releasing them, and marks dirty what is due to be pushed again.

    Returns how many items that were.
    """
    dead = sa.and_(
        mappings.c.dirty_since.is_not(None),
        mappings.c.claimed_by.is_not(None),
        mappings.c.claimed_by.not_in(alive_workers()),
    )
    late = sa.and_(
        mappings.c.recheck_at.is_not(None),
        is_due(mappings.c.recheck_at, LATE_SECONDS),
        mappings.c.state != "quarantined",  # pushed again once it was freed and pushed
        mappings.c.claimed_by.is_(None),
    )
    ids = sa.select(mappings.c.id).limit(MOST_FREED)
    with database.writing() as connection:
        free = unlocked(connection, list(connection.scalars(ids.where(dead))), dead)
        set_rows(connection, free, ENDED)
        connection.execute(sa.delete(workers).where(workers.c.alive_until < utc_now()))
        due = unlocked(connection, list(connection.scalars(ids.where(late))), mappings.c.claimed_by.is_(None))
        again = mark_dirty(connection, due, recheck_at=None, acked_hash=None, acked_quantity=None)
    return len(free) + len(again)


class Heartbeat:
    """Keeps one worker's row alive between `begin` and `end`, which may be nested; safe to share between threads."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker
        self._guard = threading.Lock()
        self._users = 0
        self._until = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Starts the heartbeat; to be called before the worker claims anything.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is away; nothing was started.
        """
        with self._guard:
            if self._users == 0:
                self._beat()
                self._stop = threading.Event()
                # Its own thread, so that a busy event loop or a used-up thread pool does not end the lease.
                self._thread = threading.Thread(target=self._keep, args=(self._stop,), daemon=True)
                self._thread.start()
            self._users += 1

    def end(self) -> None:
        """Stops where no other user is left, and releases the worker's claims. Raises sqlalchemy.exc.SQLAlchemyError."""
        with self._guard:
            self._users = max(0, self._users - 1)
            if self._users or self._thread is None:
                return
            self._stop.set()
            self._thread.join(LEASE_SECONDS)
            self._thread = None
            with self._database.writing() as connection:
                release_claims(connection, self._worker)
                connection.execute(sa.delete(workers).where(workers.c.name == self._worker))

    @property
    def held(self) -> bool:
        """Whether the lease certainly holds, by our own monotonic clock; also before the first `begin`."""
        return self._thread is None or time.monotonic() < self._until

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_SECONDS):
            try:
                self._beat()
            except SQLAlchemyError as failed:
                log.warning("The heartbeat of %s failed: %s", self._worker, type(failed).__name__)

    def _beat(self) -> None:
        began = time.monotonic()
        alive = {"alive_until": utc_now(LEASE_SECONDS)}
        self._database.write(upsert, workers, {"name": self._worker}, alive)
        self._until = began + LEASE_SECONDS - MARGIN_SECONDS


def alive_workers() -> sa.Select[tuple[str]]:
    """The names of the workers whose lease holds."""
    # A lease that ends later than a new one would was written before the clock was set back.
    holds = workers.c.alive_until.between(utc_now(), utc_now(LEASE_SECONDS))
    return sa.select(workers.c.name).where(holds)


STOP, RESTORE_STOP = "pushes_stopped", "pushes_stopped_by_restore"
RESTORED = "restored from the backup of"
"""How the reason begins while orders since the backup have to be read."""


def stop_pushes(connection: sa.Connection, reason: str) -> None:
    """From this commit on nothing is pushed; orders are imported as ever. A restore's stop is not replaced by another."""
    name = RESTORE_STOP if reason.startswith(RESTORED) else STOP
    upsert(connection, cursors, {"name": name}, {"value": reason[:200], "moment": utc_now()})


def allow_pushes(connection: sa.Connection, *, only_restored: bool = False) -> bool:
    """Ends one stop, that of a restore after any other, or only that; True when there was one."""
    ends = (sa.delete(cursors).where(cursors.c.name == name) for name in (STOP, RESTORE_STOP)[only_restored:])
    return any(connection.execute(one).rowcount for one in ends)


def why_stopped(connection: sa.Connection, *more: str) -> str | None:
    """Why nothing is pushed at present, by a stop or one of these rows too; None where pushes are allowed."""
    reason = sa.func.coalesce(cursors.c.value, cursors.c.name)
    stops = sa.select(reason).where(cursors.c.name.in_((STOP, RESTORE_STOP, *more)))
    found: str | None = connection.scalar(stops.order_by(cursors.c.name.desc()).limit(1))
    return found
