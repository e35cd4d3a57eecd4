"""Order lines that wait for an item or for stock."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.sync.orders.model.oversold import clear_old_alerts
from midas_pipelines.sync.orders.stock.backorders import allocate_backorders
from midas_pipelines.sync.orders.stock.unmapped import UNMAPPED, map_known_lines


def any_pending(database: Database) -> bool:
    """Whether any line waits; called before each push, answered from two small indexes."""
    lines = marketplace_order_lines
    waits = [sa.exists().where(lines.c.backordered > 0), sa.exists().where(UNMAPPED)]
    with database.reading() as connection:
        return bool(connection.scalar(sa.select(sa.or_(*waits))))


@dataclass(frozen=True)
class PendingLines:
    """Counts of lines mapped and of units allocated to backorders."""

    mapped: int
    allocated: int


def allocate_pending_lines(database: Database, run_id: str | None = None) -> PendingLines:
    """Maps lines to items that the shop has now, then allocates stock to backorders; safe at any time.

    Called before any quantity is published, since backordered units are not for sale.
    """
    opened = PendingLines(map_known_lines(database, run_id), allocate_backorders(database, run_id))
    clear_old_alerts(database)
    return opened
