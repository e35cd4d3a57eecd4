"""Trying an order again, as a person asked: read anew from 4Seller, mapped, allocated, its messages sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.errors import NotFound
from midas_pipelines.store.shipment_tables import customer_mails, order_shipments
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders.importing import Imported
from midas_pipelines.sync.orders.lookup import find_order
from midas_pipelines.sync.orders.oversold import allocate_backorders
from midas_pipelines.sync.orders.polling import take_in
from midas_pipelines.sync.orders.unmapped import map_known_lines


class CannotRetry(Exception):
    """4Seller cannot give the order again; the message says what to do."""


@dataclass(frozen=True)
class Retried:
    """What trying again changed."""

    order: str
    imported: bool
    moved_on: bool
    mapped: int
    allocated: int
    exception: str | None
    messages: int  # put back to be sent

    @property
    def record(self) -> dict[str, Any]:
        """As one object for programs."""
        return asdict(self)


async def retry_order(engine: Engine, text: str, *, mail: bool = False) -> Retried:
    """Reads the order from 4Seller again and does everything that is open on it.

    Args:
        engine: the shop's database, settings and channel.
        text: the order's id, any of the three.
        mail: also sends messages that may have gone out already, or were given up.

    Raises:
        NoSuchOrder: nothing has this id.
        CannotRetry: 4Seller does not have the order.
        FourSellerError: 4Seller could not be read.
    """
    with engine.database.reading() as connection:
        row = find_order(connection, text)
    order_id = row.marketplace_order_id
    async with engine.channel() as client:
        try:
            order = await client.order(order_id)
        except NotFound:
            raise CannotRetry(
                f"4Seller has no order {order_id}: it cannot be read again. Enter it in the shop by hand."
            ) from None
    result: Imported = take_in(engine, [order])
    mapped = map_known_lines(engine.database, engine.run_id)
    allocated = allocate_backorders(engine.database, engine.run_id)
    with engine.database.writing() as connection:
        messages = _put_back(connection, row.id, row.local_order_id, mail)
        exception = connection.scalar(
            sa.select(marketplace_orders.c.exception).where(marketplace_orders.c.id == row.id)
        )
    imported, moved = bool(result.imported), bool(result.moved_on)
    return Retried(order_id, imported, moved, mapped, allocated, exception, messages)


def _put_back(connection: sa.Connection, order_row: int, local_id: int | None, mail: bool) -> int:
    """Parcels and messages that wait for their next attempt are due now; returns the messages."""
    parcels = sa.update(order_shipments).where(
        order_shipments.c.order_id == local_id, order_shipments.c.told_at.is_(None)
    )
    connection.execute(parcels.values(next_attempt_at=None))
    states = ["waiting", "failed", "unsure"] if mail else ["waiting"]
    mails = sa.update(customer_mails).where(
        customer_mails.c.order_id == order_row, customer_mails.c.state.in_(states)
    )
    return connection.execute(mails.values(state="waiting", next_attempt_at=None, attempts=0)).rowcount
