"""Habits of lists: empty, short, late, capped, with other page sizes than requested."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime, timedelta

from midas_pipelines.sandbox.habits.habit import Habit, Reply, Use
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
            self._keep(product)
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
                self._drop(key)
        self._reads += 1

    def _take_up(self, event: str, row: Json) -> None:
        if event.startswith("order."):
            self.orders[row["id"]] = row
        elif event != "product.deleted":
            self._keep(row)
        elif self._ghosts is None:
            self._drop(row["id"])
        elif self._ghosts:
            self._leaving.append((time.monotonic() + self._ghosts, row["id"]))


def empty(page: Json, use: Use) -> None:
    """The product list, but no look-up of a SKU, has no rows."""
    if use.call.name == "listProducts" and not use.call.query["sku"] and use.among_the_first():
        page.update(data=[], total=0)


def finds_nothing(page: Json, use: Use) -> None:
    """A look-up of a SKU has no rows."""
    if use.call.query.get("sku") and use.among_the_first():
        page.update(data=[], total=0)


def short(page: Json, use: Use) -> None:
    """The rows from `total - N` on are missing."""
    total = page["total"] if page["total"] is not None else page["offset"] + len(page["data"])
    left = max(0, total - int(use.number) - page["offset"])
    page["data"] = page["data"][:left]


def capped(page: Json, use: Use) -> None:
    """The total stops at N; the rows go on."""
    page["total"] = min(page["total"], int(use.number))


def deep_refused(use: Use) -> Reply | None:
    """400 for an offset of more than N."""
    if use.call.name in LISTS and use.call.query["offset"] > use.number:
        return refusal(f"The offset must not be above {use.number:g}.")
    return None


def small_pages(use: Use) -> None:
    """The limit is lowered, and the answer says so."""
    if use.call.name in LISTS:
        use.call.query["limit"] = min(use.call.query["limit"], int(use.number))


def few_rows(page: Json, use: Use) -> None:
    """Fewer rows than the answer's own limit says."""
    page["data"] = page["data"][: int(use.number)]


def first_page_only(use: Use) -> None:
    """The offset is not read."""
    if use.call.name in LISTS:
        use.call.query["offset"] = 0


def no_far_past(use: Use) -> Reply | None:
    """400 for a date more than N days ago."""
    past = datetime.now(UTC) - timedelta(days=use.number)
    if any(
        given and moment(given) < past for name, given in use.call.query.items() if name.endswith("_from")
    ):
        return refusal(f"One may read {use.number:g} days back.")
    return None


def refusal(sentence: str) -> Reply:
    """400 in the contract's words."""
    return Reply(400, {"error": {"code": "bad_parameter", "message": sentence}})


HABITS = {
    "empty-lists": Habit(
        "The first N product lists answer 200 with no rows and a total of 0 (0: all).", page=empty
    ),
    "empty-lookups": Habit("The first N look-ups of a SKU find nothing (0: all).", page=finds_nothing),
    "short-lists": Habit("Lists end N rows before their total.", 10, page=short),
    "capped-totals": Habit("The total of a list is never above N; the rows go on.", 100, page=capped),
    "huge-totals": Habit(
        "The total of a list has 30 digits.", page=lambda page, _: page.update(total=10**30)
    ),
    "no-totals": Habit("The total of a list is null.", page=lambda page, _: page.update(total=None)),
    "late-lists": Habit(
        "Lists and look-ups of a SKU show a write N seconds later.",
        2,
        late=lambda number: {"seconds": number},
    ),
    "late-lists-by-reads": Habit(
        "Lists and look-ups of a SKU show a write after N more of them.",
        3,
        late=lambda number: {"reads": number},
    ),
    "ghosts": Habit(
        "A deleted product is listed for N seconds more (0: for ever); by its id it is 404.",
        0,
        late=lambda number: {"ghosts": number},
    ),
    "deep-offsets-refused": Habit("An offset above N is refused with 400.", 100, ask=deep_refused),
    "small-pages": Habit("Pages hold at most N rows, and say so as their limit.", 20, ask=small_pages),
    "few-rows": Habit("Pages hold at most N rows, under the limit that was asked for.", 20, page=few_rows),
    "first-page-only": Habit("Every page is the first one.", ask=first_page_only),
    "short-history": Habit("A date from more than N days ago is refused with 400.", 30, ask=no_far_past),
}
