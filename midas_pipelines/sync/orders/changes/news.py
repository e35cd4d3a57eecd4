"""Whether a report has news for a known order, and which parts of it are applied. Pure, but for the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.bulk import any_of
from midas_pipelines.sync.orders.changes.missing_fields import missing_fields
from midas_pipelines.sync.orders.model.digest import Content, missing_parts, read_content
from midas_pipelines.sync.orders.model.lines import CHANNEL
from midas_pipelines.sync.orders.model.sale import Sale

_ORDERS = marketplace_orders.c


def orders_with_news(connection: sa.Connection, sales: Sequence[Sale]) -> dict[int, Sale]:
    """The sales that change a known order, by our row; locks nothing."""
    if not sales:
        return {}
    reported = {sale.order_id: sale for sale in sales}
    mine = any_of(connection, _ORDERS.marketplace_order_id, list(reported))
    query = sa.select(marketplace_orders).where(
        _ORDERS.channel == CHANNEL, mine, _ORDERS.outcome == "imported"
    )
    rows = connection.execute(query).all()
    return {
        row.id: reported[row.marketplace_order_id]
        for row in rows
        if _has_news(row, reported[row.marketplace_order_id])
    }


def _has_news(row: sa.Row[Any], sale: Sale) -> bool:
    return (
        (names_status(sale) and sale.status != row.status)
        or sale.unreadable_reason is not None
        or (bool(sale.status_word) and sale.status_word != (row.status_word or ""))
        or (sale.updated_at is not None and row.source_updated_at is None)
        or (sale.updated_at is not None and sale.updated_at > row.source_updated_at)
        or bool(edited_parts(row, sale) or missing_fields(row, sale))
        or has_late_address(row, sale)
    )


def names_status(sale: Sale) -> bool:
    """Whether the sale reports a known status."""
    return bool(sale.status_word) and sale.known_status


def edited_parts(row: sa.Row[Any], sale: Sale) -> frozenset[str]:
    """The parts of the order that the sale changes."""
    if not sale.content.changed(read_content(row.content_hash)):
        return frozenset()
    return new_content(row, sale).changed(read_content(row.content_hash))


def has_late_address(row: sa.Row[Any], sale: Sale) -> bool:
    """Whether an older message has another buyer or address, parts of which the newer one may lack."""
    other = sale.content.changed(read_content(row.content_hash))
    return bool({"buyer", "address"} & other) and not later(row, sale)


def new_content(row: sa.Row[Any], sale: Sale) -> Content:
    """The sale's content to apply: all of it where it is later, else the parts that no message has had."""
    return sale.content if later(row, sale) else sale.content.only(missing_parts(row.content_hash))


def later(row: sa.Row[Any], sale: Sale) -> bool:
    """Whether the sale is later than the state on record.

    A poll after that is later whatever its date: it reads what 4Seller has now. An event is judged by its date.
    """
    if sale.read_at is not None:
        return bool(sale.read_at >= (row.content_at or row.imported_at))
    known, given = row.source_updated_at, sale.updated_at
    return known is None or (given is not None and given >= known)
