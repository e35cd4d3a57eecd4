"""Locks rows that the shop locks too; many rows are locked without waiting, so that no deadlock arises."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.bulk import any_of

NO_WAIT = "midas_no_wait"
"""The option of a connection that does not wait for locked rows; others wait as long as their session's `lock_timeout`."""


class RowsBusy(sa.exc.OperationalError):
    """Other sessions hold rows that the transaction needs: roll it back and try again."""

    def __init__(self, table: str, ids: Collection[int]) -> None:
        super().__init__(None, None, Exception(f"Another session holds rows of {table}; try again."))
        self.table = table
        self.ids = frozenset(ids)
        self.orders: set[str] = set()  # the sales that need them, where known


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
        RowsBusy: others hold some of them, and the connection does not wait.
        sqlalchemy.exc.OperationalError: others hold some of them for too long.
    """
    if not ids:
        return []
    skip = bool(connection.get_execution_options().get(NO_WAIT))
    wanted = query.where(any_of(connection, key, sorted(ids))).order_by(key)
    rows = connection.execute(wanted.with_for_update(key_share=True, skip_locked=skip, of=key.table)).all()
    missing = set(ids) - {row.id for row in rows}
    if skip and missing:  # held by others, or gone
        held = connection.scalars(sa.select(key).where(any_of(connection, key, sorted(missing)))).all()
        if held:
            raise RowsBusy(key.table.name, held)
    return list(rows)
