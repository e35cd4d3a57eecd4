"""The cut-off date of imports (`MIDAS_ORDERS_SINCE`); it does not affect imported orders. Pure."""

from __future__ import annotations

from datetime import datetime

from midas_pipelines.sync.orders.model.sale import Sale

TOO_OLD = "It was placed before MIDAS_ORDERS_SINCE, so it is not imported."
UNDATED = "It has no date, and MIDAS_ORDERS_SINCE is set: the next poll decides whether to import it."


def too_old(placed_at: datetime | None, since: datetime | None) -> bool:
    """Whether the date is known to be before the cut-off."""
    return placed_at is not None and since is not None and placed_at < since


def skipped_as_old(sale: Sale, since: datetime | None) -> str | None:
    """Why an unknown order is not imported, as a sentence; None when it is.

    Args:
        sale: all states of it in the batch, joined.
        since: the cut-off; None for no limit.
    """
    if since is None:
        return None
    if too_old(sale.placed_at or sale.updated_at, since):
        return TOO_OLD
    if sale.placed_at is not None or sale.read_at is not None:
        return None
    return None if "created_at" in sale.unreadable else UNDATED  # a poll cannot read it either
