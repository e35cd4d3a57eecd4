"""Which of our lines each line of an edited order is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midas_pipelines.fourseller.models import read_order
from midas_pipelines.sync.orders.changes.edits import GONE, Pair, changed_lines, pair
from midas_pipelines.sync.orders.model.lines import SoldLine
from midas_pipelines.sync.orders.model.sale import read_sale
from midas_pipelines_tests.sync.orders.paper import line, order_json

ITEMS = {"A": (1, None), "B": (2, None), "V": (3, 7), "P-A": (1, None)}
"""What the shop has, by SKU or by 4Seller's product id; anything else is unmapped."""


@dataclass(frozen=True)
class Ours:
    """A row of `marketplace_order_lines`, as far as pairing looks at it."""

    line: int
    sku: str | None
    quantity: int = 1
    fourseller_product_id: str | None = None
    item: tuple[int, int | None] | None = None
    allocated: int = 1
    released: int = 0
    backordered: int = 0
    title: str = "Part"
    price: Decimal = Decimal("10.00")
    exception: str | None = None

    @property
    def product_id(self) -> int | None:
        return self.item and self.item[0]

    @property
    def variant_id(self) -> int | None:
        return self.item and self.item[1]

    @property
    def order_item_id(self) -> int:
        return 100 + self.line


def ours(number: int, sku: str | None, quantity: int = 1, **fields: Any) -> Ours:
    """Our line of what the shop has; of nothing it has, without stock."""
    item = fields.pop("item", ITEMS.get(sku or ""))
    return Ours(number, sku, quantity, item=item, **{"allocated": quantity if item else 0} | fields)


def paired(now: Sequence[dict[str, Any]], standing: Sequence[Ours]) -> list[Pair]:
    """The lines as 4Seller has them now, paired with ours."""
    sale = read_sale(read_order(order_json(items=list(now))))
    sold = []
    for one in sale.lines:
        item = ITEMS.get(one.fourseller_product_id or "") or ITEMS.get(one.sku or "")
        sold.append(SoldLine(sale, one, item, max(0, one.quantity) if item else 0, one.line))
    rows_: Any = standing
    return pair(sale, sold, rows_)


A, B, U = ours(1, "A"), ours(2, "B"), ours(2, "U")

CASES: dict[str, tuple[list[dict[str, Any]], list[Ours], dict[int, int], list[int], list[int]]] = {
    # now, ours, {place now: our line}, places now that are new, our lines that are gone
    "the same": ([line("A"), line("B")], [A, B], {1: 1, 2: 2}, [], []),
    "another order of lines": ([line("B"), line("A")], [A, B], {1: 2, 2: 1}, [], []),
    "the first is gone": ([line("B")], [A, B], {1: 2}, [], [1]),
    "the last is gone": ([line("A")], [A, B], {1: 1}, [], [2]),
    "one more at the end": ([line("A"), line("B"), line("V")], [A, B], {1: 1, 2: 2}, [3], []),
    "one more in front": ([line("V"), line("A"), line("B")], [A, B], {2: 1, 3: 2}, [1], []),
    "one in place of another": ([line("A"), line("V")], [A, B], {1: 1}, [2], [2]),
    "all other ones": ([line("V"), line("W")], [A, B], {}, [1, 2], [1, 2]),
    "an unmapped one in place of another": ([line("A"), line("W")], [A, U], {1: 1}, [2], [2]),
    "one item on two lines": ([line("A", 1), line("A", 2)], [A, ours(2, "A", 2)], {1: 1, 2: 2}, [], []),
    "the first of two of one item is gone": ([line("A", 2)], [A, ours(2, "A", 2)], {1: 1}, [], [2]),
    "a product id filled in": ([line("A", product_id="P-A")], [A], {1: 1}, [], []),
    "a product id taken away": ([line("A")], [ours(1, "A", fourseller_product_id="P-A")], {1: 1}, [], []),
    "a SKU filled in": ([line("A")], [ours(1, None)], {1: 1}, [], []),
    "one that says nothing of itself, moved": ([line(None), line("B")], [U, ours(3, None)], {1: 3}, [2], [2]),
    "a product id for an unmapped SKU": ([line("AMZ", product_id="P-A")], [ours(1, "AMZ")], {1: 1}, [], []),
    "another SKU of the same item": (
        [line("A-NEW", product_id="P-A")],
        [ours(1, "A", fourseller_product_id="P-A")],
        {1: 1},
        [],
        [],
    ),
    "one that a person mapped": ([line("THEIRS", 3)], [ours(1, "THEIRS", item=(1, None))], {1: 1}, [], []),
    "one that a person mapped, moved": (
        [line("B"), line("THEIRS")],
        [ours(1, "THEIRS", item=(1, None)), B],
        {1: 2, 2: 1},
        [],
        [],
    ),
    "one that was gone comes again": (
        [line("B"), line("A", 2)],
        [ours(1, "A", 0, allocated=1, released=1), B],
        {1: 2, 2: 1},
        [],
        [],
    ),
    "one that is gone stays so": ([line("B")], [ours(1, "A", 0, allocated=1, released=1), B], {1: 2}, [], []),
    "one that is gone and holds units still": (
        [line("B")],
        [ours(1, "A", 0, allocated=1), B],
        {1: 2},
        [],
        [1],
    ),
    "one of two of one item, of which the other is gone": (
        [line("B"), line("A", 2)],
        [ours(1, "A", 0, allocated=1, released=1), ours(2, "A", 2)],
        {2: 2},
        [1],
        [],
    ),
    "no lines at all": ([], [A, B], {}, [], [1, 2]),
}


@pytest.mark.parametrize(("now", "standing", "kept", "added", "dropped"), CASES.values(), ids=CASES)
def test_which_line_is_which(
    now: list[dict[str, Any]],
    standing: list[Ours],
    kept: dict[int, int],
    added: list[int],
    dropped: list[int],
) -> None:
    found = paired(now, standing)
    known = {sold.line.line: row.line for sold, row in found if row is not None}
    assert {place: ours for place, ours in known.items() if place != GONE} == kept
    assert [sold.line.line for sold, row in found if row is None] == added
    assert [row.line for sold, row in found if row is not None and sold.line.line == GONE] == dropped


CHANGES: dict[str, tuple[list[dict[str, Any]], list[Ours], bool]] = {
    "nothing": ([line("A"), line("B")], [A, B], False),
    "the order of lines": ([line("B"), line("A")], [A, B], False),
    "a product id filled in": ([line("A", product_id="P-A")], [A], False),
    "spaces around the SKU": ([line(" A ")], [A], False),
    "a title": ([line("A", title="Another")], [A], False),
    "a quantity": ([line("A", 2)], [A], True),
    "a price": ([line("A", price="9.99")], [A], True),
    "a price written otherwise": ([line("A", price="10")], [A], False),
    "a line more": ([line("A"), line("B")], [A], True),
    "a line less": ([line("A")], [A, B], True),
    "the item of an unmapped line": ([line("AMZ", product_id="P-A")], [ours(1, "AMZ")], True),
}


@pytest.mark.parametrize(("now", "standing", "changes"), CHANGES.values(), ids=CHANGES)
def test_what_counts_as_a_change(now: list[dict[str, Any]], standing: list[Ours], changes: bool) -> None:
    assert bool(changed_lines(paired(now, standing))) is changes


SOLD = st.builds(
    line,
    st.sampled_from(["A", "B", "V", "U", "W", None]),
    st.integers(0, 3),
    product_id=st.sampled_from(["P-A", "P-X", None]),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(now=st.lists(SOLD, max_size=6), before=st.lists(SOLD, max_size=6))
def test_each_line_is_paired_once_and_numbers_stay_their_own(
    now: list[dict[str, Any]], before: list[dict[str, Any]]
) -> None:
    standing = [
        ours(number, one["sku"], one["quantity"], fourseller_product_id=one["product_id"])
        for number, one in enumerate(before, start=1)
    ]
    found = paired(now, standing)
    places = sorted(sold.line.line for sold, _ in found if sold.line.line != GONE)
    assert places == list(range(1, len(now) + 1))
    used = [row.line for _, row in found if row is not None]
    assert len(used) == len(set(used))
    numbers = [sold.number for sold, _ in found]
    assert len(numbers) == len(set(numbers))
    assert all(sold.number > len(before) for sold, row in found if row is None)
    left = {row.line for row in standing} - set(used)
    assert all(not row.quantity and not row.allocated for row in standing if row.line in left)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(before=st.lists(SOLD, max_size=6), order=st.randoms(use_true_random=False))
def test_lines_that_only_moved_are_all_found(before: list[dict[str, Any]], order: Any) -> None:
    standing = [
        ours(number, one["sku"], one["quantity"], fourseller_product_id=one["product_id"])
        for number, one in enumerate(before, start=1)
    ]
    now = list(before)
    order.shuffle(now)
    found = paired(now, standing)
    assert len([sold for sold, row in found if row is not None and sold.line.line != GONE]) == len(before)
    assert len(found) == len(before)
