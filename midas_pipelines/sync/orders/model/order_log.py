"""Writing to an order: its context (run id, payload vault, settings of mail), the order log, and its locks.

Locks are taken in the same order always, to avoid deadlocks: the shop's order, our row, then stock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.settings import Settings
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.store.privacy.keys import KeyRing
from midas_pipelines.store.schema.tables import (
    marketplace_order_lines,
    marketplace_orders,
    order_processing_logs,
)
from midas_pipelines.storefront.orders import lock_orders
from midas_pipelines.storefront.row_locks import lock
from midas_pipelines.sync.orders.model.lines import exception_text, read_exceptions
from midas_pipelines.sync.orders.model.rows import log_row

NO_VAULT = Vault(KeyRing(list))
"""The vault of those who seal nothing: it has no key."""


@dataclass(frozen=True)
class OrderContext:
    """Context for writing to an order.

    Args:
        run_id: the run that writes; None for an event.
        vault: seals payloads.
        settings: of customer mail; None sends none.
    """

    run_id: str | None = None
    vault: Vault = NO_VAULT
    settings: Settings | None = None

    def log(self, connection: sa.Connection, order_id: str, step: str, detail: str) -> None:
        """Adds one step to the order log."""
        row = log_row(order_id, step, detail, self.run_id)
        connection.execute(sa.insert(order_processing_logs).values(row))

    def log_once(self, connection: sa.Connection, order_id: str, step: str, detail: str) -> bool:
        """Adds the step unless the order log has the same text; True when it was new."""
        logs = order_processing_logs.c
        known = sa.select(logs.id).where(logs.marketplace_order_id == order_id, logs.detail == detail)
        if connection.execute(known.limit(1)).first() is not None:
            return False
        self.log(connection, order_id, step, detail)
        return True


def set_order(connection: sa.Connection, order_row: int, **values: Any) -> None:
    """Writes columns of our row of an order."""
    connection.execute(
        sa.update(marketplace_orders).where(marketplace_orders.c.id == order_row).values(values)
    )


def set_line(connection: sa.Connection, line_row: int, **values: Any) -> None:
    """Writes columns of our row of a line."""
    mine = marketplace_order_lines.c.id == line_row
    connection.execute(sa.update(marketplace_order_lines).where(mine).values(values))


def set_exceptions(
    connection: sa.Connection, order_row: int, *, add: tuple[str, ...] = (), drop: tuple[str, ...] = ()
) -> None:
    """Adds and removes exceptions of an order; the caller holds the row."""
    table = marketplace_orders.c
    current = read_exceptions(connection.scalar(sa.select(table.exception).where(table.id == order_row)))
    wanted = (current | set(add)) - set(drop)
    if wanted != current:
        set_order(connection, order_row, exception=exception_text(wanted))


_ORDERS = marketplace_orders.c


def lock_order(connection: sa.Connection, order_row: int) -> sa.Row[Any]:
    """Locks an order's row, ours and the shop's, until the transaction ends; returns ours."""
    (row,) = lock_rows(connection, [order_row])
    return row


def lock_rows(connection: sa.Connection, order_rows: Collection[int]) -> Sequence[sa.Row[Any]]:
    """Locks the rows of these orders, ours and the shop's, until the transaction ends; returns ours, by id.

    Lock the stock of their items afterwards, with `storefront.row_locks.lock_stock`.

    Raises:
        RowsBusy: another transaction holds some of them.
    """
    if not order_rows:
        return []
    wanted = sorted(order_rows)
    local = connection.scalars(
        sa.select(_ORDERS.local_order_id).where(_ORDERS.id.in_(wanted), _ORDERS.local_order_id.is_not(None))
    )
    lock_orders(connection, list(local))
    return lock(connection, sa.select(marketplace_orders), _ORDERS.id, wanted)
