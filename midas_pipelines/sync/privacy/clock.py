"""When the buyer of an order has to be erased. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

QUIET_DAYS = 90
"""An order that neither ships nor ends counts as ended after so many days without any news of it."""


@dataclass(frozen=True, slots=True)
class OrderTimes:
    """What is known of an order's life; times in UTC, None where there is none.

    Args:
        at_market: its status at the marketplace, and in the shop.
        delivered_at: when the shop's history first says so, and so are the next two.
        ended_at: cancelled or refunded.
        shipped_at: or its first shipment was recorded.
        reported_at: 4Seller's date of its newest report, which brought the marketplace's status.
        imported_at: when it was written here first.
        content_at: when its content was last changed.
    """

    at_market: str
    in_shop: str | None
    delivered_at: datetime | None
    ended_at: datetime | None
    shipped_at: datetime | None
    reported_at: datetime | None
    imported_at: datetime
    content_at: datetime | None = None


def clock_start(times: OrderTimes, now: datetime) -> datetime:
    """The moment from which the days are counted.

    The delivery; where none comes, the end of the order; where neither comes, its shipping; where nothing comes, its last
    news and QUIET_DAYS. A status without a time counts from 4Seller's report of it, at the latest from the import. No time
    that is still to come counts.
    """
    for known, words in (
        (times.delivered_at, {"delivered"}),
        (times.ended_at, {"cancelled", "refunded"}),
        (times.shipped_at, {"shipped"}),
    ):
        reported = times.reported_at if times.at_market in words else None
        if known is not None or words & {times.at_market, times.in_shop}:
            return min(_past(now, known, reported), default=times.imported_at)
    return max(_past(now, times.imported_at, times.reported_at, times.content_at)) + timedelta(QUIET_DAYS)


def due_at(times: OrderTimes, days: int | None, now: datetime) -> datetime | None:
    """When the buyer has to be erased, `days` after the clock's start; None for never."""
    return None if days is None else clock_start(times, now) + timedelta(days)


def _past(now: datetime, *moments: datetime | None) -> list[datetime]:
    return [moment for moment in moments if moment is not None and moment <= now]
