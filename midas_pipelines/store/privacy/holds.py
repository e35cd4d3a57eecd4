"""Orders whose buyer the law keeps: held until a date, for a reason; a hold ends early when it is released."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from midas_pipelines.store.schema.privacy_tables import buyer_holds
from midas_pipelines.storefront.types import utc_now

_HOLDS = buyer_holds.c


def hold_buyer(connection: sa.Connection, order_row: int, *, until: datetime, because: str, by: str) -> None:
    """Holds the buyer of an order, in place of an earlier hold.

    Args:
        connection: a writing transaction that has locked the order.
        order_row: our row of it.
        until: when the hold ends.
        because: which law, in words.
        by: who decided.
    """
    release_hold(connection, order_row)
    row = {"order_id": order_row, "held_until": until, "because": because, "held_by": by}
    connection.execute(sa.insert(buyer_holds).values(row))


def release_hold(connection: sa.Connection, order_row: int) -> bool:
    """Ends the hold of an order; False when there was none."""
    mine = sa.and_(_HOLDS.order_id == order_row, *_active())
    return connection.execute(sa.update(buyer_holds).where(mine).values(released_at=utc_now())).rowcount > 0


def active_holds(connection: sa.Connection, order_row: int | None = None) -> dict[int, datetime]:
    """Until when each held order is held, by our row; of one order where it is given."""
    query = sa.select(_HOLDS.order_id, _HOLDS.held_until).where(*_active())
    if order_row is not None:
        query = query.where(_HOLDS.order_id == order_row)
    return {row.order_id: row.held_until for row in connection.execute(query)}


def _active() -> tuple[sa.ColumnElement[bool], ...]:
    return _HOLDS.released_at.is_(None), _HOLDS.held_until > utc_now()
