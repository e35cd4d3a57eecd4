"""Values of any type where the contract has another: imported all the same, what cannot be read as missing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midas_pipelines.fourseller.models import read_order
from midas_pipelines.sandbox.state import State, now_text
from midas_pipelines.sync.orders.intake.batch import why_unreadable
from midas_pipelines.sync.orders.model.sale import read_sale
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, Report, line, order_json
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import VAULT

pytestmark = pytest.mark.both_databases


def of_line(**fields: Any) -> Raw:
    """An order of one line, odd in these fields."""
    return {"items": [line("A") | fields]}


MOST = 2**31 - 1

ODD: dict[str, tuple[Raw, set[str]]] = {  # what is noted on the order as unreadable
    "a phone in numbers": ({"customer": {"phone": 15551234567}}, set()),
    "a buyer in words": ({"customer": "Ann"}, {"customer"}),
    "a buyer that is a list": ({"customer": []}, {"customer"}),
    "a postal code in numbers": ({"shipping_address": {"postal_code": 90210}}, set()),
    "an address that is a list": ({"shipping_address": []}, {"shipping_address"}),
    "a second line that is false": ({"shipping_address": {"line2": False}}, set()),
    "a product id in numbers": (of_line(product_id=7), set()),
    "a title in numbers": (of_line(title=7), set()),
    "a quantity in words": (of_line(quantity="1"), set()),
    "a quantity that is true": (of_line(quantity=True), {"quantity"}),
    "half a unit": (of_line(quantity=1.5), {"quantity"}),
    "a whole unit written as a fraction": (of_line(quantity=1.0), set()),
    "more than there are numbers for": (of_line(quantity=MOST + 1), {"quantity"}),
    "beyond all numbers": (of_line(quantity=1e99), {"quantity"}),
    "no price": (of_line(price=None), set()),
    "an empty price": (of_line(price=""), set()),
    "a price in words": (of_line(price="ten"), {"price"}),
    "a price too large for its column": (of_line(price="999999999"), {"price"}),
    "lines that are one": ({"items": {"sku": "A", "quantity": 1}}, set()),
    "a line that is null": ({"items": [None, line("A")]}, set()),
    "a line that is a text": ({"items": ["A", line("A")]}, {"items"}),
    "a date of nothing": ({"updated_at": ""}, set()),
    "a date in seconds": ({"created_at": 1767323045}, set()),
    "a date without its dashes": ({"created_at": "20261127"}, {"created_at"}),
    "a date past all calendars": ({"created_at": "10000-01-01T00:00:00Z"}, {"created_at"}),
    "a parcel that is a list": ({"tracking": []}, {"tracking"}),
    "a parcel in words": ({"tracking": "1Z"}, {"tracking"}),
    "a parcel of nothing": ({"tracking": {"carrier": "", "number": " ", "url": "N/A"}}, set()),
    "no currency": ({"currency": ""}, set()),
    "a currency in numbers": ({"currency": 7}, set()),
    "a status in numbers": ({"status": 3}, set()),
    "a status in objects": ({"status": {"name": "paid"}}, {"status"}),
    "a channel in numbers": ({"sales_channel": 3}, set()),
    "a total with a comma": ({"total": "1,000.00"}, set()),
    "a total with its sign": ({"total": "$10.00"}, set()),
    "an empty total": ({"total": ""}, set()),
    "a total too large for its column": ({"total": "999999999999"}, {"total"}),
    "no dates": ({"created_at": None, "updated_at": None}, set()),
    "a field that nobody knows": ({"x": {"y": [1, None, "z"]}}, set()),
}


@pytest.mark.parametrize("report", [paper.polled, paper.told])
def test_each_is_imported_with_its_stock_and_what_was_unreadable_is_noted(
    world: World, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = world.sandbox.state  # which compares dates: a hub with odd ones does not
    monkeypatch.setattr(state, "find_orders", lambda **_: State.find_orders(state))
    product = add_product(world.database, sku="A", stock_quantity=1000)
    report(world, *(order_json(order_id=name, **fields) for name, (fields, _) in ODD.items()))
    assert paper.took(world, *ODD) == [1] * len(ODD)
    assert desk.stock(world, product) == 1000 - len(ODD)
    for name, (_, fields) in ODD.items():
        notes = rows(
            world.database,
            "SELECT detail FROM order_processing_logs WHERE step = 'unreadable' AND marketplace_order_id = :id",
            id=name,
        )
        assert [note for (note,) in notes] == [
            f"4Seller sent {', '.join(sorted(fields))} in a form that cannot be read: counted as missing."
        ] * bool(fields)
    report(world, *(order_json(order_id=name, **fields) for name, (fields, _) in ODD.items()))
    assert desk.stock(world, product) == 1000 - len(ODD)


@pytest.mark.parametrize("report", [paper.polled, paper.told])
def test_an_id_is_one_order_however_it_is_spelled(world: World, report: Report) -> None:
    product = add_product(world.database, sku="12345", stock_quantity=9)
    for spelled in (700001, "700001", 700001.0):
        report(world, order_json(order_id=spelled, items=[line(12345)], updated_at=now_text()))  # type: ignore[arg-type]
    assert (desk.order(world, "700001").outcome, desk.stock(world, product)) == ("imported", 8)


@pytest.mark.parametrize("report", [paper.polled, paper.told])
def test_a_sale_of_unknown_date_does_not_vanish_behind_the_beginning(world: World, report: Report) -> None:
    world.changes["orders_since"] = datetime(2020, 1, 1, tzinfo=UTC)
    product = add_product(world.database, sku="A", stock_quantity=9)
    report(world, order_json(created_at="20261127", updated_at=None))
    assert (desk.order(world, "X-1").placed_at, desk.stock(world, product)) == (None, 8)


VALUES: list[Any] = [
    None,
    "",
    " ",
    "***",
    "N/A",
    True,
    False,
    0,
    -3,
    7,
    1.5,
    1e99,
    float("inf"),
    [],
    {},
    [1],
    ["x"],
]
VALUES += [
    {"a": {"b": 1}},
    "two",
    "1,010.00",
    "\x00",
    "\ud83d",
    "20261127",
    10**30,
    "x" * 300,
    [[]],
    "0000-00-00",
]
FIELDS = [
    *[
        (name,)
        for name in ("status", "created_at", "updated_at", "currency", "total", "shipping_cost", "tax")
    ],
    *[(name,) for name in ("sales_channel", "customer", "shipping_address", "tracking", "discount")],
    *[("customer", name) for name in ("email", "name", "phone", "extra")],
    *[("shipping_address", name) for name in ("line1", "line2", "city", "state", "postal_code", "country")],
    *[("tracking", name) for name in ("carrier", "number", "url")],
    *[("line", name) for name in ("product_id", "title", "price")],
]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(VALUES), min_size=1, max_size=4),
        min_size=20,
        max_size=20,
    )
)
def test_any_change_of_optional_fields_leaves_the_sale_countable(changes: list[dict[Any, Any]]) -> None:
    for change in changes:
        raw = order_json(customer={"name": "Testa"}, shipping_address={"city": "Faketown"}, tracking={})
        for path, value in change.items():
            part = raw["items"][0] if path[0] == "line" else raw if len(path) == 1 else raw.get(path[0])
            if isinstance(part, dict):
                part[path[-1]] = value
        order = read_order(raw)
        sale = read_sale(order)
        assert why_unreadable(order) is None
        assert [(one.sku, one.quantity) for one in sale.lines] == [("A", 1)]
        assert abs(sale.total) < 10**8


UNUSUAL: dict[str, Any] = {
    "a number without end": float("inf"),
    "no number": float("nan"),
    "lists in lists": json.loads("[" * 300 + "]" * 300),
    "half a surrogate": "\ud83d",
    "a NUL": "a\x00b",
}


@pytest.mark.parametrize("note", UNUSUAL.values(), ids=UNUSUAL)
def test_whatever_json_can_spell_is_sealed_and_opened(note: Any) -> None:
    sale = read_sale(read_order(order_json(note=note, tax_note=note)))
    sealed = VAULT.seal(sale.raw)
    assert "\x00" not in sealed
    assert VAULT.open(sealed)["id"] == "X-1"
