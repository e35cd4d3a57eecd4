"""Where a line's units are, and what of an order has changed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midas_pipelines.sync.orders.changes.edits import shift
from midas_pipelines.sync.orders.model.sale import (
    PARTS,
    Content,
    changed_parts,
    digest,
    digest_of_fields,
    read_content,
    write_content,
)
from midas_pipelines.sync.orders.stock.units import away, left_to_ship, on_order, on_shelf


@dataclass(frozen=True)
class Line:
    """A line of which so many units were sold, taken, given back, shipped and returned."""

    quantity: int = 0
    allocated: int = 0
    released: int = 0
    shipped: int = 0
    returned: int = 0
    product_id: int | None = 1


UNITS: dict[str, tuple[Line, tuple[int, int, int, int]]] = {  # held, on the shelf, away, left to ship
    "of nothing": (Line(), (0, 0, 0, 0)),
    "all on the shelf": (Line(5, 5), (5, 5, 0, 5)),
    "oversold": (Line(5, 2), (2, 2, 0, 2)),
    "some left": (Line(5, 5, shipped=2), (5, 3, 2, 3)),
    "all left": (Line(5, 5, shipped=5), (5, 0, 5, 0)),
    "one back after it left": (Line(5, 5, 1, shipped=5, returned=1), (4, 0, 4, 0)),
    "all back after they left": (Line(5, 5, 5, shipped=5, returned=5), (0, 0, 0, 0)),
    "given back before any left": (Line(5, 5, 5), (0, 0, 0, 0)),
    "the rest given back after some left": (Line(5, 5, 3, shipped=2), (2, 0, 2, 0)),
    "some left, the rest given back, one returned": (Line(5, 5, 4, shipped=2, returned=1), (1, 0, 1, 0)),
    "one given back, two left, one of them returned": (Line(5, 5, 2, shipped=2, returned=1), (3, 2, 1, 2)),
    "more shipped than was taken": (Line(5, 2, shipped=5), (2, 0, 2, 0)),
    "no item of the shop's": (Line(5, product_id=None), (0, 0, 0, 5)),
    "no item, some left": (Line(5, shipped=2, product_id=None), (0, 0, 0, 3)),
    "no item, more left than was sold": (Line(1, shipped=2, product_id=None), (0, 0, 0, 0)),
    "an item that is gone": (Line(5, 4, product_id=None), (4, 4, 0, 4)),
}


@pytest.mark.parametrize(("line", "units"), UNITS.values(), ids=UNITS)
def test_where_the_units_are(line: Line, units: tuple[int, int, int, int]) -> None:
    assert (on_order(line), on_shelf(line), away(line), left_to_ship(line)) == units


@pytest.mark.parametrize(("line", "units"), UNITS.values(), ids=UNITS)
def test_where_they_are_when_everything_is_known_to_have_left(
    line: Line, units: tuple[int, int, int, int]
) -> None:
    assert (on_shelf(line, all_shipped=True), away(line, all_shipped=True)) == (0, units[0])


def possible() -> list[Line]:
    """Every line of up to three units that can come about."""
    return [
        Line(3, taken, released, shipped, returned)
        for taken, released, shipped, returned in product(range(4), repeat=4)
        if returned <= min(released, shipped) and released - returned + shipped <= taken
    ]


@pytest.mark.parametrize("all_shipped", [False, True])
def test_each_unit_that_was_taken_is_in_one_place(all_shipped: bool) -> None:
    for line in possible():
        assert (
            on_shelf(line, all_shipped=all_shipped) + away(line, all_shipped=all_shipped) + line.released
            == line.allocated
        )
        assert 0 <= left_to_ship(line) <= line.allocated


def test_an_edit_gives_back_no_unit_that_has_left() -> None:
    for line, wanted, backordered in product(possible(), range(6), range(3)):
        if line.returned:  # an order of which goods have left is edited by a person
            continue
        take, less = shift(
            wanted=wanted,
            allocated=line.allocated,
            released=line.released,
            backordered=backordered,
            shipped=line.shipped,
        )
        has = on_order(line) + take
        assert has >= min(on_order(line), line.shipped)
        assert 0 <= less <= backordered
        assert has + backordered - less == max(wanted, line.shipped)


# what has changed


def content(lines: str = "", amounts: str = "", buyer: str = "", address: str = "") -> Content:
    named = {"lines": lines, "amounts": amounts, "buyer": buyer, "address": address}
    return {part: digest for part, digest in named.items() if digest}


KNOWN = content("l1", "a1", "b1", "s1")
DIFFERENCES: dict[str, tuple[Content, set[str]]] = {
    "nothing": (KNOWN, set()),
    "nothing is told": ({}, set()),
    "lines": (content("l2", "a1", "b1", "s1"), {"lines"}),
    "amounts, and the buyer is not told": (content("l1", "a2", "", "s1"), {"amounts"}),
    "buyer alone is told": (content(buyer="b2"), {"buyer"}),
    "all": (content("l2", "a2", "b2", "s2"), set(PARTS)),
}


@pytest.mark.parametrize(("told", "parts"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_which_parts_differ(told: Content, parts: set[str]) -> None:
    assert changed_parts(told, KNOWN) == parts
    assert changed_parts(told, {}) == told.keys()


def test_digests_are_read_as_they_were_written() -> None:
    for parts in product(["a0" * 7 + "f", ""], repeat=4):
        written = write_content(content(*parts))
        assert read_content(written) == content(*parts)
        assert len(written) <= 64
    for other in (None, "", "Jane Doe", "a.b.c.d", "x" * 15, "a" * 16):  # a word of the buyer is no digest
        assert read_content(other) == {}


LINES = [("A", "", 1, "10.00"), ("B", "P-1", 2, "5.00"), ("", "", 1, "0.00")]


def test_the_order_of_lines_is_no_difference() -> None:
    assert len({digest(order) for order in permutations(LINES)}) == 1


@pytest.mark.parametrize(
    "other", [LINES[:2], [*LINES, LINES[0]], [("A", "", 2, "10.00"), *LINES[1:]], LINES[:1]]
)
def test_other_lines_are_a_difference(other: list[tuple[object, ...]]) -> None:
    assert digest(other) != digest(LINES)


def test_no_lines_and_no_fields_are_nothing_told() -> None:
    assert digest([]) is None
    assert digest_of_fields({}) is None
    assert digest_of_fields({"name": None, "email": None}) is None


def test_a_field_that_is_null_is_a_field_that_is_not_there() -> None:
    assert digest_of_fields({"name": "Ann", "email": None}) == digest_of_fields({"name": "Ann"})
    assert digest_of_fields({"name": "Ann", "email": ""}) != digest_of_fields({"name": "Ann"})


WORDS = st.text("ab\x00", max_size=2)
FIELDS = st.dictionaries(WORDS, st.none() | WORDS | st.integers(0, 2), max_size=3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(FIELDS, FIELDS)
def test_fields_have_one_digest_exactly_when_they_say_the_same(
    one: dict[str, object], other: dict[str, object]
) -> None:
    said = [{name: part for name, part in fields.items() if part is not None} for fields in (one, other)]
    assert (digest_of_fields(one) == digest_of_fields(other)) is (said[0] == said[1])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.text() | st.integers() | st.lists(st.text()))
def test_any_part_has_a_digest_without_the_marks_between_digests(part: object) -> None:
    made = digest([part]) or ""
    assert (len(made), {".", "-"} & set(made)) == (15, set())
