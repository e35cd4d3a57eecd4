"""Amounts: in any currency, in fractions of its smallest unit, with taxes and discounts of any shape, however large."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midas_pipelines.fourseller.models import read_order
from midas_pipelines.store.orders.checks import unbalanced_orders
from midas_pipelines.storefront.types import LARGEST_AMOUNT, sound
from midas_pipelines.sync.orders.model.amounts import DISCOUNT_FIELDS, TAX_FIELDS, extra
from midas_pipelines.sync.orders.model.sale import read_sale
from midas_pipelines_tests.shop import add_product, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, line, order_json
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import VAULT


def one(quantity: int, price: Any, **fields: Any) -> Raw:
    """An order over one line."""
    return {"items": [line("A", quantity, price=price)], **fields}


# what is kept, of whole orders

KEPT: dict[str, tuple[Raw, str, str, bool]] = {  # total, the shop's total, whether it adds up
    "yen have no fraction": (one(2, 500, currency="JPY", total=1000), "1000.00", "1000.00", True),
    "a yen too much": (one(2, 500, currency="JPY", total=1001), "1001.00", "1001.00", False),
    "dinars have thousandths": (one(3, "1.234", currency="KWD", total="3.702"), "3.702", "3.70", True),
    "half a cent of dinars": (one(1, "1.235", currency="KWD", total="1.235"), "1.235", "1.24", True),
    "shipping of a thousandth": (
        one(3, "1.234", currency="KWD", shipping_cost="0.001", total="3.703"),
        "3.703",
        "3.70",
        True,
    ),
    "a thousandth too much": (one(3, "1.234", currency="KWD", total="3.703"), "3.703", "3.70", False),
    "a thousandth of a dollar is nothing": (one(1, "1.234", total="1.23"), "1.23", "1.23", True),
    "a currency in small letters": (one(1, "10", currency="eur", total="10"), "10.00", "10.00", True),
    "no currency": (one(1, "10", currency="", total="10"), "10.00", "10.00", True),
    "prices of a hundredth": (one(1000, "0.0100", total="10.00"), "10.00", "10.00", True),
    "prices of a third": (one(3, "0.3333", total="1.00"), "1.00", "1.00", True),
    "prices of an eighth": (one(8, "0.125", total="1.00"), "1.00", "1.00", True),
    "binary fractions": (one(3, 0.1, total=0.3), "0.30", "0.30", True),
    "a binary sum": (one(3, 10.1, total=30.299999999999997), "30.30", "30.30", True),
    "half a cent in all": (one(1, "0.335", total="0.335"), "0.335", "0.34", True),
    "less than nothing": (one(1, "10", total="-10.00"), "-10.00", "-10.00", False),
    "nothing to pay": (one(1, "10", discount="10.00", total="0"), "0.00", "0.00", True),
    "the largest": (one(1, "99999999.99", total="99999999.99"), "99999999.99", "99999999.99", True),
    "a price left out": (one(1, None, total="10.00"), "10.00", "10.00", False),
}


def test_the_total_is_kept_as_it_came_and_in_whole_cents_in_the_shop(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=5000)
    paper.polled(world, *(order_json(order_id=name, **fields) for name, (fields, _, _, _) in KEPT.items()))
    cents = "SELECT total_amount FROM orders WHERE order_number = :number"
    found = {}
    for name in KEPT:
        order = desk.order(world, name)
        in_shop = Decimal(str(value(world.database, cents, number=f"4S-{name}")))
        found[name] = (order.total, in_shop, order.exception)
    assert found == {
        name: (Decimal(total), Decimal(shop), None if adds_up else "total_mismatch")
        for name, (_, total, shop, adds_up) in KEPT.items()
    }
    unbalanced = {row["order_number"] for row in unbalanced_orders(world.database)}
    assert unbalanced <= {f"4S-{name}" for name, (_, _, _, adds_up) in KEPT.items() if not adds_up}


EXTRAS: dict[str, tuple[Raw, str, str]] = {  # tax, discount
    "a list of taxes": ({"taxes": [{"amount": "0.50"}, {"amount": "0.33"}]}, "0.83", "0"),
    "a tax with its currency": ({"tax": {"amount": "0.83", "currency": "USD"}}, "0.83", "0"),
    "no tax by one name, some by another": ({"tax": 0, "total_tax": "0.83"}, "0.83", "0"),
    "an empty tax and some by another": ({"tax": "", "total_tax": "0.83"}, "0.83", "0"),
    "the same tax by two names": ({"tax": "0.83", "total_tax": "0.83"}, "0.83", "0"),
    "discounts of both signs": ({"discounts": [{"amount": "-5"}, {"amount": "3"}]}, "0", "2"),
    "discounts that cancel out": ({"discounts": [{"amount": "-5"}, {"amount": "5"}]}, "0", "0"),
    "tax and discount": ({"sales_tax": 1, "total_discount": "-2"}, "1", "2"),
    "a tax that is true": ({"tax": True}, "0", "0"),
    "a tax without end": ({"tax": "Infinity", "discount": "NaN"}, "0", "0"),
    "a discount in percent": ({"discount": "10%"}, "0", "0"),
    "a discount of words": ({"discount": {"amount": "ten"}, "discounts": [None, "x", []]}, "0", "0"),
    "a discount in lists of lists": ({"discounts": [[{"amount": 1}]]}, "0", "0"),
    "a name that is none of the table's": ({"tax_lines": [{"price": "0.83"}]}, "0", "0"),
}


@pytest.mark.parametrize(("fields", "tax", "discount"), EXTRAS.values(), ids=EXTRAS)
def test_the_shape_of_taxes_and_discounts(fields: Raw, tax: str, discount: str) -> None:
    assert extra(fields, TAX_FIELDS) == Decimal(tax)
    assert extra(fields, DISCOUNT_FIELDS) == Decimal(discount)


def test_what_is_added_and_taken_off_is_on_the_order(world: World) -> None:
    add_product(world.database, sku="A")
    extras = {"taxes": [{"amount": "0.50"}, {"amount": "0.33"}], "discounts": [{"amount": "-2.00"}]}
    paper.polled(world, order_json(shipping_cost="4.99", total="13.82", **extras))
    order = desk.order(world, "X-1")
    assert (order.lines_total, order.shipping_cost) == (Decimal("10.00"), Decimal("4.99"))
    assert (order.tax, order.discount, order.exception) == (Decimal("0.83"), Decimal("2.00"), None)
    desk.assert_whole(world)


OF_A_LINE: dict[str, Raw] = {
    "a tax of the line": one(1, "10.00", total="10.80") | {"items": [line("A", tax="0.80")]},
    "a discount of the line": {"items": [line("A", discount="1.00")], "total": "9.00"},
    "tax lines": {"tax_lines": [{"price": "0.83"}], "total": "10.83"},
}


def test_what_lines_and_lists_say_of_the_total_counts(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    paper.polled(world, *(order_json(order_id=name, **fields) for name, fields in OF_A_LINE.items()))
    assert [desk.order(world, name).exception for name in OF_A_LINE] == [None] * len(OF_A_LINE)
    desk.assert_whole(world)


def test_a_total_that_nothing_explains_is_shown_to_a_person(world: World) -> None:
    add_product(world.database, sku="A")
    paper.polled(world, order_json(total="10.80"))
    assert desk.order(world, "X-1").exception == "total_mismatch"
    assert "is not the total" in value(
        world.database, "SELECT detail FROM order_processing_logs WHERE step = 'total_mismatch'"
    )


@pytest.mark.parametrize(
    ("currency", "price", "total", "adds_up"),
    [
        ("JPY", "333.4", "1000", True),
        ("JPY", "333.6", "1000", False),
        ("USD", "3.3334", "10.00", True),
        ("USD", "3.3356", "10.00", False),
        ("KWD", "3.3334", "10.000", True),
        ("KWD", "3.3336", "10.000", False),
    ],
)
def test_a_total_adds_up_to_the_smallest_unit_of_its_currency(
    currency: str, price: str, total: str, adds_up: bool
) -> None:
    sale = read_sale(read_order(order_json(**one(3, price, currency=currency, total=total))))
    assert sale.adds_up is adds_up


# how large

FAR = "1E+1000000"
HUGE: dict[str, Raw] = {
    "a tax": {"tax": FAR},
    "taxes in a list": {"taxes": [{"amount": FAR}, {"amount": FAR}]},
    "a discount": {"discount": "-" + FAR},
    "a total": {"total": FAR},
    "a total below zero": {"total": "-" + FAR},
    "shipping": {"shipping_cost": FAR},
    "a price": one(1, FAR),
    "a price of nothing sold": one(0, FAR),
    "a total that rounds up to too much": {"total": "99999999.999"},
    "lines that are too much together": {"items": [line("A", price="60000000")] * 2},
}


def test_an_exponent_that_no_memory_holds_stops_no_other_order(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=99)
    orders = [order_json(order_id=name, **fields) for name, fields in HUGE.items()]
    paper.put(world, *orders, order_json(order_id="X-2"))
    report = world.import_orders()
    assert (report.imported, report.failed) == (len(HUGE) + 1, 0)


@pytest.mark.parametrize("amount", ["1E-1000000", "-1E-1000000", "0E+1000000", "0E-1000000", "-0"])
def test_an_amount_of_almost_nothing_is_nothing(amount: str) -> None:
    sale = read_sale(read_order(order_json(shipping_cost=amount, tax=amount, discount=amount)))
    assert (sale.shipping_cost, sale.tax, sale.discount, sale.adds_up) == (0, 0, 0, True)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_any_amount_fits_the_tables_or_is_none(amount: Decimal) -> None:
    kept = sound(amount)
    if kept is None:
        assert abs(amount) >= LARGEST_AMOUNT - 1
    else:
        assert abs(kept) < LARGEST_AMOUNT
        assert abs(kept - amount) <= Decimal("0.00005")
        assert -4 <= int(kept.as_tuple().exponent) <= -2


def test_what_the_contract_does_not_have_is_kept_for_the_person_who_looks(world: World) -> None:
    add_product(world.database, sku="A")
    paper.polled(world, order_json(total="10.83", tax_lines=[{"title": "CA", "price": "0.83"}]))
    payload = VAULT.open(desk.order(world, "X-1").payload)
    assert (payload["total"], payload["tax_lines"]) == ("10.83", [{"title": "CA", "price": "0.83"}])
