"""Allocates stock to a line of an imported order; some of its goods may have shipped already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.sync.orders.model import exceptions
from midas_pipelines.sync.orders.model.lines import CHANNEL, reference
from midas_pipelines.sync.orders.model.order_log import OrderContext, set_line
from midas_pipelines.sync.orders.model.oversold import Short, raise_oversold_alert
from midas_pipelines.sync.orders.model.units import accounted
from midas_pipelines.sync.orders.stock.backorders import mark_backordered
from midas_pipelines.sync.orders.stock.release import order_lines
from midas_pipelines.sync.orders.stock.shipped import units_shipped


@dataclass(frozen=True, slots=True)
class Allocated:
    """The units allocated to a line."""

    from_shelf: int
    uncounted: int  # shipped, but not in the counted stock
    backordered: int  # by the line, now

    def __str__(self) -> str:
        words = f"took {self.from_shelf} from stock."
        if self.uncounted:
            words += f" {self.uncounted} more have shipped than the counted stock had: count the item."
        return words


def allocate_units(
    connection: sa.Connection,
    order: sa.Row[Any],
    line: sa.Row[Any],
    item: ItemKey,
    *,
    missing: int,
    gone: int,
    source: str = CHANNEL,
) -> Allocated:
    """Allocates stock to a line and alerts staff to a shortage; does not write the order log.

    Args:
        connection: holds the order's rows, and the stock of the item.
        order: our row of the order.
        line: our row of the line.
        item: what it sold.
        missing: units to take.
        gone: how many of them have shipped. Where there is less stock, its count was wrong and is corrected first, so
            that the ledger explains both.
        source: of the movement, for the ledger.
    """
    order_id = order.marketplace_order_id
    name = reference(order_id, line.line, line.allocated)
    took = -move_stock(connection, [StockMove(item, -missing, source, "sale", name)])[0]
    uncounted = min(missing - took, max(0, gone - took))
    if uncounted:
        moves = [
            StockMove(item, uncounted, "operator", "uncounted", f"settled:{name}"),
            StockMove(
                item, -uncounted, source, "sale", reference(order_id, line.line, line.allocated + took)
            ),
        ]
        uncounted = -move_stock(connection, moves)[1]
    backordered = line.backordered + missing - took - uncounted
    values = {
        "allocated": line.allocated + took + uncounted,
        "backordered": backordered,
        "exception": exceptions.backordered_only(line.exception, backordered),
    }
    set_line(connection, line.id, **values)
    if backordered > line.backordered:
        named = line.sku or f"Product {item[0]}"
        raise_oversold_alert(connection, [Short(item, named, order_id, backordered)])
    return Allocated(took, uncounted, backordered)


def allocate_again(
    connection: sa.Connection,
    order: sa.Row[Any],
    order_context: OrderContext,
    shop: str | None,
    *,
    whole: bool,
) -> int:
    """Allocates again the units that were released although they shipped, or are to ship; returns how many.

    Args:
        connection: holds the order's rows.
        order: our row.
        order_context: writes the order log.
        shop: the status of the shop's order.
        whole: whether to allocate all units sold; else only those that shipped.
    """
    again, shipped_units = 0, units_shipped(connection, order, shop)
    for line in order_lines(connection, order.id):
        wanted = line.quantity if whole else shipped_units[line.line]
        missing = wanted - accounted(line) - line.backordered
        if line.product_id is not None and missing > 0:
            gone = max(0, shipped_units[line.line] - accounted(line))
            item = (line.product_id, line.variant_id)
            got = allocate_units(connection, order, line, item, missing=missing, gone=gone)
            again += got.from_shelf + got.uncounted
            detail = f"Line {line.line}, {line.sku}, again: {got}"
            order_context.log(connection, order.marketplace_order_id, "deducted", detail)
    mark_backordered(connection, order.id)
    return again
