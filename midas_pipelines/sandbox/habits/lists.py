"""Habits of lists: empty, short, late, capped, with other page sizes than requested."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime, timedelta

from midas_pipelines.sandbox.habits.habit import Reply, Use, habit
from midas_pipelines.sandbox.state import Json, State, moment

LISTS = ("listProducts", "listOrders")


class LateState(State):
    """A copy of the state that gets each change later, as a search index or a replica does."""

    def __init__(
        self, source: State, *, seconds: float = 0, reads: float = 0, ghosts: float | None = None
    ) -> None:
        super().__init__()
        self._seconds, self._list_reads, self._ghosts = seconds, reads, ghosts
        self._reads = 0
        self._waiting: deque[tuple[float, float, str, Json]] = deque()
        self._leaving: list[tuple[float, str]] = []
        for product in source.products.values():
            self.keep(product)
        self.orders.update(source.orders)
        source.listeners.append(self.hear)

    def hear(self, event: str, row: Json) -> None:
        """Remembers a change for later."""
        self._waiting.append((time.monotonic() + self._seconds, self._reads + self._list_reads, event, row))

    def read(self) -> None:
        """Applies the changes that are due; called before each list."""
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now and self._waiting[0][1] <= self._reads:
            self._take_up(*self._waiting.popleft()[2:])
        for due, key in self._leaving:
            if due <= now:
                self.drop(key)
        self._reads += 1

    def _take_up(self, event: str, row: Json) -> None:
        if event.startswith("order."):
            self.orders[row["id"]] = row
        elif event != "product.deleted":
            self.keep(row)
        elif self._ghosts is None:
            self.drop(row["id"])
        elif self._ghosts:
            self._leaving.append((time.monotonic() + self._ghosts, row["id"]))


@habit("page", calls=("listProducts",))
def empty_lists(page: Json, use: Use) -> None:
    """The first N product lists answer 200 with no rows and a total of 0 (0: all)."""
    if not use.call.query["sku"] and use.among_the_first():
        page.update(data=[], total=0)


@habit("page", calls=("listProducts",))
def empty_lookups(page: Json, use: Use) -> None:
    """The first N look-ups of a SKU find nothing (0: all)."""
    if use.call.query["sku"] and use.among_the_first():
        page.update(data=[], total=0)


@habit("page", number=10)
def short_lists(page: Json, use: Use) -> None:
    """Lists end N rows before their total."""
    total = page["total"] if page["total"] is not None else page["offset"] + len(page["data"])
    page["data"] = page["data"][: max(0, total - int(use.number) - page["offset"])]


@habit("page", number=100)
def capped_totals(page: Json, use: Use) -> None:
    """The total of a list is never above N; the rows go on."""
    page["total"] = min(page["total"], int(use.number))


@habit("page")
def huge_totals(page: Json, _: Use) -> None:
    """The total of a list has 30 digits."""
    page["total"] = 10**30


@habit("page")
def no_totals(page: Json, _: Use) -> None:
    """The total of a list is null."""
    page["total"] = None


@habit("late", number=2)
def late_lists(number: float) -> dict[str, float]:
    """Lists and look-ups of a SKU show a write N seconds later."""
    return {"seconds": number}


@habit("late", number=3)
def late_lists_by_reads(number: float) -> dict[str, float]:
    """Lists and look-ups of a SKU show a write after N more of them."""
    return {"reads": number}


@habit("late", number=0)
def ghosts(number: float) -> dict[str, float]:
    """A deleted product is listed for N seconds more (0: for ever); by its id it is 404."""
    return {"ghosts": number}


@habit("ask", calls=LISTS, number=100)
def deep_offsets_refused(use: Use) -> Reply | None:
    """An offset above N is refused with 400."""
    return _refusal("The offset is too large.") if use.call.query["offset"] > use.number else None


@habit("ask", calls=LISTS, number=20)
def small_pages(use: Use) -> None:
    """Pages hold at most N rows, and say so as their limit."""
    use.call.query["limit"] = min(use.call.query["limit"], int(use.number))


@habit("page", number=20)
def few_rows(page: Json, use: Use) -> None:
    """Pages hold at most N rows, under the limit that was asked for."""
    page["data"] = page["data"][: int(use.number)]


@habit("ask", calls=LISTS)
def first_page_only(use: Use) -> None:
    """Every page is the first one."""
    use.call.query["offset"] = 0


@habit("ask", calls=LISTS, number=30)
def short_history(use: Use) -> Reply | None:
    """A date from more than N days ago is refused with 400."""
    past = datetime.now(UTC) - timedelta(days=use.number)
    dates = [given for name, given in use.call.query.items() if name.endswith("_from") and given]
    return _refusal("The date is too long ago.") if any(moment(given) < past for given in dates) else None


def _refusal(sentence: str) -> Reply:
    """400 in the contract's words."""
    return Reply(400, {"error": {"code": "bad_parameter", "message": sentence}})
