"""Reads orders in narrower time spans where 4Seller refuses a page or cuts a list: too deep, too far back, or repeated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.fourseller.errors import BadItem, BrokenListing
from midas_pipelines.fourseller.pages import OrderPage
from midas_pipelines.sync.orders.intake.pages import OrderPages

Asked = dict[str, Any]
"""What the client takes: `updated_from`, `date_from`, `date_to`."""

SHORTEST = timedelta(minutes=1)
FARTHEST = timedelta(days=3650)
"""How far back a changed order may have been placed."""
MOST_LISTS = 500
"""Lists read for one query, so that one that is wrong in any span comes to an end."""


class Narrowing:
    """One query for orders, split into narrower spans where it is refused or cut; the newest span is read first.

    What cannot be had in any span is left, and `intake.incomplete` says why, so that no watermark moves past it.
    """

    def __init__(self, client: FourSeller, intake: OrderPages) -> None:
        self._client = client
        self._intake = intake
        self._ended = False  # what is older than this is refused too
        self._lists = 0
        self._seen: set[str] = set()

    async def pages(self, **asked: Any) -> AsyncIterator[OrderPage]:
        """The pages of every span.

        Args:
            asked: `updated_from`, `date_from`, `date_to`, as the client takes them.
        """
        if self._ended:
            return
        self._lists += 1
        placed: list[datetime] = []
        before, began = len(self._seen), False
        try:
            async for page in self._client.order_pages(**asked):
                began = True
                placed += [order.created_at for order in page.data if order.created_at is not None]
                self._seen.update(order.id for order in page.data)
                yield page
            self._intake.next_listing()
            return
        except BrokenListing as cut:
            why = "" if cut.field == "offset" else str(cut)
            short = not why or (cut.field == "data" and cut.rows < PAGE_LIMIT)
        except BadItem as refused:
            why, short = str(refused), False
        if (
            short or self._lists >= MOST_LISTS
        ):  # its total is only a hint, but there may be more before and after
            self._intake.next_listing(cut=why)
            spans = _around(asked, placed) if len(self._seen) > before and self._lists < MOST_LISTS else []
        else:
            self._intake.leave_listing()
            spans = self._narrower(asked, why, began=began)
        for span in spans:
            async for page in self.pages(**(asked | span)):
                yield page

    def _narrower(self, asked: Asked, why: str, *, began: bool) -> list[Asked]:
        now = datetime.now(UTC)
        spans: list[Asked] = []
        changed = asked.get("updated_from")
        if changed is not None and not began and now - changed > SHORTEST:  # too far back
            self._intake.incomplete = why
            spans = [{"updated_from": now - (now - changed) / 2}]
        elif began or changed is None:
            start = asked.get("date_from") or now - FARTHEST
            end = asked.get("date_to") or now + timedelta(days=1)
            middle = start + (end - start) / 2
            if end - start > SHORTEST:
                spans = [{"date_from": middle, "date_to": end}, {"date_from": start, "date_to": middle}]
        if not spans:
            self._intake.incomplete = why
            self._ended = not began
        return spans


def _around(asked: Asked, placed: list[datetime]) -> list[Asked]:
    """The spans after and before the orders of a list that was cut, the newest first."""
    if not placed:
        return []
    last, first = max(placed), min(placed)
    early, late = asked.get("date_from"), asked.get("date_to")
    after: list[Asked] = [{"date_from": last}] if early is None or last > early else []
    return after + ([{"date_to": first}] if late is None or first < late else [])
