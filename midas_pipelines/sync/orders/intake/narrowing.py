"""Reads orders in narrower time spans where 4Seller refuses a page: too deep in a list, or too far back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadItem
from midas_pipelines.fourseller.pages import OrderPage
from midas_pipelines.sync.orders.intake.pages import OrderPages

SHORTEST = timedelta(minutes=1)
FARTHEST = timedelta(days=3650)
"""How far back a changed order may have been placed."""


class Narrowing:
    """One query for orders, split into narrower spans where it is refused; the newest span is read first.

    A span that is refused even at one minute is skipped, and `intake.read_all` set to False, so that no watermark moves
    past it.
    """

    def __init__(self, client: FourSeller, intake: OrderPages) -> None:
        self._client = client
        self._intake = intake
        self._ended = False  # what is older than this is refused too

    async def pages(self, **asked: Any) -> AsyncIterator[OrderPage]:
        """The pages of every span.

        Args:
            asked: `updated_from`, `date_from`, `date_to`, as the client takes them.
        """
        if self._ended:
            return
        began = False
        try:
            async for page in self._client.order_pages(**asked):
                began = True
                yield page
            self._intake.next_listing()
            return
        except BadItem:
            self._intake.leave_listing()
        async for page in self._narrower(asked, began=began):
            yield page

    async def _narrower(self, asked: dict[str, Any], *, began: bool) -> AsyncIterator[OrderPage]:
        now = datetime.now(UTC)
        spans = []
        changed = asked.get("updated_from")
        if changed is not None and not began and now - changed > SHORTEST:  # too far back
            self._intake.read_all = False
            spans = [{"updated_from": now - (now - changed) / 2}]
        elif began or changed is None:
            start = asked.get("date_from") or now - FARTHEST
            end = asked.get("date_to") or now + timedelta(days=1)
            middle = start + (end - start) / 2
            if end - start > SHORTEST:
                spans = [{"date_from": middle, "date_to": end}, {"date_from": start, "date_to": middle}]
        if not spans:
            self._intake.read_all, self._ended = False, True
        for span in spans:
            async for page in self.pages(**(asked | span)):
                yield page
