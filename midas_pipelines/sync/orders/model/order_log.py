"""Context for writing to an order: run id, payload vault, settings, and the order log."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from midas_pipelines.settings import Settings
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.store.schema.tables import marketplace_orders, order_processing_logs
from midas_pipelines.sync.orders.model import exceptions
from midas_pipelines.sync.orders.model.rows import log_row


@dataclass(frozen=True)
class OrderContext:
    """Context for writing to an order.

    Args:
        run_id: the run that writes; None for an event.
        vault: seals payloads.
        settings: of customer mail; None sends none.
    """

    run_id: str | None = None
    vault: Vault = field(default_factory=lambda: Vault(None))
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


def set_exceptions(
    connection: sa.Connection, order_row: int, *, add: tuple[str, ...] = (), drop: tuple[str, ...] = ()
) -> None:
    """Adds and removes exceptions of an order; the caller holds the row."""
    table = marketplace_orders.c
    current = exceptions.read(connection.scalar(sa.select(table.exception).where(table.id == order_row)))
    wanted = (current | set(add)) - set(drop)
    if wanted != current:
        statement = sa.update(marketplace_orders).where(table.id == order_row)
        connection.execute(statement.values(exception=exceptions.written(wanted)))
