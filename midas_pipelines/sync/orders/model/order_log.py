"""What every step of an order's life is written with: the run, the payloads' vault, the rules for mail."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.store.schema.tables import marketplace_orders, order_processing_logs
from midas_pipelines.sync.orders.model import exceptions
from midas_pipelines.sync.orders.model.mail_policy import SILENT, MailPolicy
from midas_pipelines.sync.orders.model.rows import log_row


@dataclass(frozen=True)
class OrderContext:
    """Writes an order's story.

    Args:
        run_id: the run on whose behalf; None for a command or an event.
        vault: seals payloads.
        mail: which customers are written to.
    """

    run_id: str | None = None
    vault: Vault = field(default_factory=lambda: Vault(None))
    mail: MailPolicy = SILENT

    def log(self, connection: sa.Connection, order_id: str, step: str, detail: str) -> None:
        """Adds one step to the story of an order."""
        row = log_row(order_id, step, detail, self.run_id)
        connection.execute(sa.insert(order_processing_logs).values(row))

    def log_once(self, connection: sa.Connection, order_id: str, step: str, detail: str) -> bool:
        """Adds the step unless the story has it, word for word; True when it was new."""
        logs = order_processing_logs.c
        known = sa.select(logs.id).where(logs.marketplace_order_id == order_id, logs.detail == detail)
        if connection.execute(known.limit(1)).first() is not None:
            return False
        self.log(connection, order_id, step, detail)
        return True


def set_exceptions(
    connection: sa.Connection, order_row: int, *, add: tuple[str, ...] = (), drop: tuple[str, ...] = ()
) -> None:
    """Adds flaws to an order's `exception` and takes others off; the caller holds the row."""
    table = marketplace_orders.c
    current = exceptions.read(connection.scalar(sa.select(table.exception).where(table.id == order_row)))
    wanted = (current | set(add)) - set(drop)
    if wanted != current:
        statement = sa.update(marketplace_orders).where(table.id == order_row)
        connection.execute(statement.values(exception=exceptions.written(wanted)))
