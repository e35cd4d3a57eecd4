"""Stock that comes back: once for each unit, never more than a line took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.ledger import StockMove, move_stock
from midas_pipelines.store.tables import marketplace_order_lines
from midas_pipelines.storefront.bulk import update_rows
from midas_pipelines.sync.orders.clerk import Clerk, mark
from midas_pipelines.sync.orders.flaws import Flaw
from midas_pipelines.sync.orders.lines import CHANNEL, reference

_LINES = marketplace_order_lines.c


def give_back(
    connection: sa.Connection,
    order_row: int,
    order_id: str,
    cause: str,
    clerk: Clerk,
    *,
    units: Mapping[int, int] | None = None,
    source: str = CHANNEL,
) -> int:
    """Returns to stock what the lines took and have not given back yet; the same again gives back nothing.

    A whole order also stops owing what it waited for.

    Args:
        connection: holds the order's row.
        order_row: the id of our row.
        order_id: the marketplace's.
        cause: `cancelled`, `refunded`, `returned`; the ledger's word for it.
        units: by line number, at most so many; None for everything.
        source: who does it.

    Returns:
        The units given back.
    """
    query = sa.select(marketplace_order_lines).where(
        _LINES.order_id == order_row, _LINES.taken > _LINES.given_back
    )
    if units is not None:
        query = query.where(_LINES.line.in_(list(units)))
    lines = connection.execute(query.order_by(_LINES.line).with_for_update(key_share=True)).all()
    moves = [
        StockMove(
            (line.product_id, line.variant_id),
            _units(line, units),
            source,
            cause,
            reference(order_id, line.line, line.given_back),
        )
        for line in lines
    ]
    moved = move_stock(connection, moves)
    changes = [
        {"id": line.id, "given_back": line.given_back + count}
        for line, count in zip(lines, moved, strict=True)
    ]
    update_rows(connection, marketplace_order_lines, changes)
    _log(connection, order_id, lines, moved, clerk)
    if units is None:
        forget_owed(connection, order_row)
    return sum(moved)


def forget_owed(connection: sa.Connection, order_row: int) -> None:
    """The order waits for no stock any more."""
    owing = sa.and_(_LINES.order_id == order_row, _LINES.owed > 0)
    released = sa.update(marketplace_order_lines).where(owing).values(owed=0, exception=None)
    if connection.execute(released).rowcount:
        mark(connection, order_row, drop=(Flaw.OVERSOLD.value,))


def _units(line: sa.Row[Any], units: Mapping[int, int] | None) -> int:
    left: int = line.taken - line.given_back
    return left if units is None else max(0, min(left, units[line.line]))


def _log(
    connection: sa.Connection,
    order_id: str,
    lines: Sequence[sa.Row[Any]],
    moved: Sequence[int],
    clerk: Clerk,
) -> None:
    for line, count in zip(lines, moved, strict=True):
        if count:
            detail = f"Line {line.line}, {line.sku}: {count} back in stock."
        elif _units(line, None):
            detail = f"Line {line.line}, {line.sku}: nothing went back, the shop no longer has the item."
        else:
            continue
        clerk.log(connection, order_id, "given_back", detail)
