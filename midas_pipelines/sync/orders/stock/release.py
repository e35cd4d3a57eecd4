"""Releases and restocks stock: once for each unit, never more than a line allocated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.bulk import update_rows
from midas_pipelines.sync.orders.model import exceptions
from midas_pipelines.sync.orders.model.lines import CHANNEL, reference
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.oversold import clear_oversold_alert
from midas_pipelines.sync.orders.model.units import away, on_shelf
from midas_pipelines.sync.orders.stock.backorders import mark_backordered

_LINES = marketplace_order_lines.c


def release_units(
    connection: sa.Connection,
    order: sa.Row[Any],
    cause: str,
    order_context: OrderContext,
    *,
    all_shipped: bool = False,
) -> int:
    """Releases the units of an order that have not shipped, and drops its backorders. Idempotent.

    Args:
        connection: holds the order's row.
        order: our row.
        cause: `cancelled` or `refunded`; the ledger's word for it.
        order_context: writes the order log.
        all_shipped: whether everything has shipped, with or without a shipment on record.

    Returns:
        The units released.
    """
    lines = order_lines(connection, order.id)
    units = {line.line: on_shelf(line, all_shipped=all_shipped) for line in lines}
    given = _give_back(connection, order, lines, units, cause, order_context, source=CHANNEL)
    _clear_backorders(connection, order.id, lines)
    return given


def restock_units(
    connection: sa.Connection,
    order: sa.Row[Any],
    cause: str,
    order_context: OrderContext,
    *,
    units: Mapping[int, int] | None = None,
    all_shipped: bool = False,
) -> int:
    """Restocks returned goods: never more than were shipped and not returned yet.

    Args:
        connection: holds the order's row.
        order: our row.
        cause: `returned` or `cancelled`; the ledger's word for it.
        order_context: writes the order log.
        units: the most by line number; None for all that shipped.
        all_shipped: whether everything has shipped, with or without a shipment on record.

    Returns:
        The units restocked.
    """
    lines = order_lines(connection, order.id)
    away_units = {line.line: away(line, all_shipped=all_shipped) for line in lines}
    wanted = (
        away_units
        if units is None
        else {number: min(away_units.get(number, 0), units[number]) for number in units}
    )
    return _give_back(
        connection, order, lines, wanted, cause, order_context, source="operator", had_shipped=True
    )


def order_lines(connection: sa.Connection, order_row: int) -> Sequence[sa.Row[Any]]:
    """Our rows of an order's lines, by number."""
    query = sa.select(marketplace_order_lines).where(_LINES.order_id == order_row)
    return connection.execute(query.order_by(_LINES.line)).all()


def _give_back(
    connection: sa.Connection,
    order: sa.Row[Any],
    lines: Sequence[sa.Row[Any]],
    units: Mapping[int, int],
    cause: str,
    order_context: OrderContext,
    *,
    source: str,
    had_shipped: bool = False,
) -> int:
    giving = [line for line in lines if units.get(line.line, 0) > 0 and line.product_id is not None]
    moves = [
        StockMove(
            (line.product_id, line.variant_id),
            units[line.line],
            source,
            cause,
            reference(order.marketplace_order_id, line.line, line.released),
        )
        for line in giving
    ]
    moved = move_stock(connection, moves)
    changes = [
        {
            "id": line.id,
            "released": line.released + count,
            "returned": line.returned + (count if had_shipped else 0),
        }
        for line, count in zip(giving, moved, strict=True)
    ]
    update_rows(connection, marketplace_order_lines, changes)
    for line, count in zip(giving, moved, strict=True):
        outcome = f"{count} back in stock" if count else "nothing restocked, the shop no longer has the item"
        order_context.log(
            connection, order.marketplace_order_id, "released", f"Line {line.line}, {line.sku}: {outcome}."
        )
    return sum(moved)


def _clear_backorders(connection: sa.Connection, order_row: int, lines: Sequence[sa.Row[Any]]) -> None:
    """Drops the order's backorders."""
    owing = [line for line in lines if line.backordered]
    if not owing:
        return
    changes = [
        {"id": line.id, "backordered": 0, "exception": exceptions.backordered_only(line.exception, 0)}
        for line in owing
    ]
    update_rows(connection, marketplace_order_lines, changes)
    mark_backordered(connection, order_row)
    clear_oversold_alert(connection, {(line.product_id, line.variant_id) for line in owing})
