"""What order lines wait for, and need not wait for any more: an item, or its stock."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.tables import marketplace_order_lines
from midas_pipelines.sync.orders.backorders import allocate_backorders
from midas_pipelines.sync.orders.oversold import quiet_old_alarms
from midas_pipelines.sync.orders.unmapped import UNMAPPED, map_known_lines


def any_open(database: Database) -> bool:
    """Whether any line waits at all; asked before each push, answered from two small indexes."""
    lines = marketplace_order_lines
    waits = [sa.exists().where(lines.c.owed > 0), sa.exists().where(UNMAPPED)]
    with database.reading() as connection:
        return bool(connection.scalar(sa.select(sa.or_(*waits))))


@dataclass(frozen=True)
class Opened:
    """Lines that have their item now, and units that were given to backorders."""

    mapped: int
    allocated: int


def settle_open_lines(database: Database, run_id: str | None = None) -> Opened:
    """Ties lines to items that the shop has by now, then gives backorders what is there; safe at any time.

    Called before any quantity is published: what is owed is not for sale.
    """
    opened = Opened(map_known_lines(database, run_id), allocate_backorders(database, run_id))
    quiet_old_alarms(database)
    return opened
