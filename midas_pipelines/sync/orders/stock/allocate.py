"""Taking stock for a line of an order that the shop has already; some of its goods may have left before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.sync.orders.model import exceptions
from midas_pipelines.sync.orders.model.lines import CHANNEL, reference
from midas_pipelines.sync.orders.model.oversold import Short, raise_oversold_alert


@dataclass(frozen=True, slots=True)
class Allocated:
    """What a line got, in units."""

    from_shelf: int
    uncounted: int  # had left, and were not on the shelf by its count
    backordered: int  # by the line, now

    def __str__(self) -> str:
        words = f"took {self.from_shelf} from stock."
        if self.uncounted:
            words += (
                f" {self.uncounted} more have left that were not on the shelf by its count: count the item."
            )
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
    """Takes stock for a line and tells staff of what is not there; writes nothing into the story.

    Args:
        connection: holds the order's rows, and the stock of the item.
        order: our row of the order.
        line: our row of the line.
        item: what it sold.
        missing: units to take.
        gone: so many of them have left. Where the shelf has not so many its count was wrong before, and is put right
            first, so that the ledger explains both.
        source: of the movement, for the ledger.
    """
    order_id = order.marketplace_order_id
    name = reference(order_id, line.line, line.taken)
    took = -move_stock(connection, [StockMove(item, -missing, source, "sale", name)])[0]
    uncounted = min(missing - took, max(0, gone - took))
    if uncounted:
        moves = [
            StockMove(item, uncounted, "operator", "uncounted", f"settled:{name}"),
            StockMove(item, -uncounted, source, "sale", reference(order_id, line.line, line.taken + took)),
        ]
        uncounted = -move_stock(connection, moves)[1]
    backordered = line.backordered + missing - took - uncounted
    values = {
        "taken": line.taken + took + uncounted,
        "backordered": backordered,
        "exception": exceptions.backordered_only(line.exception, backordered),
    }
    connection.execute(
        sa.update(marketplace_order_lines).where(marketplace_order_lines.c.id == line.id).values(values)
    )
    if backordered > line.backordered:
        named = line.sku or line.title or f"line {line.line}"
        raise_oversold_alert(connection, [Short(item, named, order_id, backordered)])
    return Allocated(took, uncounted, backordered)
