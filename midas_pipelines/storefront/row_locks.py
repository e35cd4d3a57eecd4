"""Locking rows that the shop locks too, without ever standing in a ring with it.

A lock is asked for again and again, never waited for: PostgreSQL sees no deadlock then, so that it ends no transaction of the
shop's, and what cannot be had for `midas_lock_seconds` (an option of the connection) ends ours.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.bulk import any_of

LOOK_SECONDS = 0.02
LOCK_SECONDS = "midas_lock_seconds"


class RowsBusy(sa.exc.OperationalError):
    """Others hold rows that the transaction needs: it is to be undone and tried again."""

    def __init__(self, table: str, ids: Collection[int]) -> None:
        super().__init__(None, None, Exception(f"Another session holds rows of {table}; try again."))
        self.table = table
        self.ids = frozenset(ids)
        self.orders: set[str] = set()  # the sales that need them, where that is known


def lock(
    connection: sa.Connection, query: sa.Select[Any], key: sa.Column[int], ids: Collection[int]
) -> list[sa.Row[Any]]:
    """The rows of the query with these ids, by id, each locked as an UPDATE would until the transaction ends.

    Args:
        connection: in a writing transaction.
        query: selects `key` among others.
        key: the id of the table to lock.
        ids: those wanted; of rows that do not exist nothing is returned.

    Raises:
        RowsBusy: others hold some of them.
    """
    found: list[sa.Row[Any]] = []
    missing = sorted(ids)
    until = time.monotonic() + connection.get_execution_options().get(LOCK_SECONDS, 0.5)
    while missing:
        wanted = query.where(any_of(connection, key, missing)).order_by(key)
        rows = connection.execute(
            wanted.with_for_update(key_share=True, skip_locked=True, of=key.table)
        ).all()
        found += rows
        missing = sorted(set(missing) - {row.id for row in rows})
        if missing:
            missing = list(connection.scalars(sa.select(key).where(any_of(connection, key, missing))))
        if missing and time.monotonic() >= until:
            raise RowsBusy(key.table.name, missing)
        if missing:
            time.sleep(LOOK_SECONDS)
    return sorted(found, key=lambda row: row.id)
