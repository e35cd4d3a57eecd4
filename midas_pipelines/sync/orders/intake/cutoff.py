"""Which orders were placed before imports begin; none that is imported already falls under that. Pure."""

from __future__ import annotations

from datetime import datetime

from midas_pipelines.sync.orders.model.sale import Sale

TOO_OLD = "It was placed before MIDAS_ORDERS_SINCE, so it is not imported."
UNDATED = "It does not say when it was placed, and MIDAS_ORDERS_SINCE is set: the next poll imports it, if it is to be."


def too_old(placed_at: datetime | None, since: datetime | None) -> bool:
    """Whether that is known to be before imports begin."""
    return placed_at is not None and since is not None and placed_at < since


def skipped_as_old(sale: Sale, since: datetime | None) -> str | None:
    """Why an order that is not on record is not imported, as a sentence; None when it is.

    Args:
        sale: all that was told of it at once.
        since: when imports begin; None when there is no limit.
    """
    if since is None:
        return None
    if too_old(sale.placed_at or sale.updated_at, since):
        return TOO_OLD
    if sale.placed_at is not None or sale.read_at is not None:
        return None
    return None if "created_at" in sale.unreadable else UNDATED  # a poll will not be able to read it either
