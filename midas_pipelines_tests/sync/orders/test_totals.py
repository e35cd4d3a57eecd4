"""Orders that add up in one way or another, and those that add up in none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from midas_pipelines.fourseller.models import read_order
from midas_pipelines.sync.orders.model.sale import read_sale
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, line, order_json
from midas_pipelines_tests.sync.world import World


def two(**fields: Any) -> list[Raw]:
    """Lines of 2 at 40.00 and 1 at 20.00: 100.00, with these fields on each."""
    return [line("A", 2, price="40.00", **fields), line("B", 1, price="20.00", **fields)]


ADD_UP: dict[str, Raw] = {  # goods 100.00 and shipping 5.00, unless it says otherwise
    "the contract's own": {"total": "105.00"},
    "tax on top": {"tax": "8.00", "total": "113.00"},
    "tax in the prices, and said": {"tax": "17.50", "taxes_included": True, "total": "105.00"},
    "tax in the prices, and not said": {"tax_total": "17.50", "total": "105.00"},
    "tax in the prices by another name": {"vat": "17.50", "prices_include_tax": "true", "total": "105.00"},
    "tax in the prices, and a discount": {
        "tax": "17.50",
        "taxesIncluded": True,
        "discount": "5.00",
        "total": "100.00",
    },
    "tax lines": {
        "tax_lines": [{"title": "State", "price": "6.00"}, {"title": "City", "price": "2.00"}],
        "total": "113.00",
    },
    "tax of goods and of shipping": {"tax": "8.00", "shipping_tax": "0.40", "total": "113.40"},
    "taxes by region": {"taxes": {"state": "6.00", "city": "2.00"}, "total": "113.00"},
    "discount of the order": {"discount": "10.00", "total": "95.00"},
    "discount of each line": {"items": two(discount="3.00"), "total": "99.00"},
    "discount of each piece": {"items": two(discount="3.00"), "total": "96.00"},
    "discount in totals of lines": {
        "items": [
            line("A", 2, price="40.00", line_total="70.00"),
            line("B", 1, price="20.00", line_total="20.00"),
        ],
        "total": "95.00",
    },
    "discounted prices": {
        "items": [
            line("A", 2, price="40.00", discounted_price="30.00"),
            line("B", 1, price="20.00", discounted_price="20.00"),
        ],
        "total": "85.00",
    },
    "tax of each line": {"items": two(tax={"amount": "4.00"}), "total": "113.00"},
    "discount that the prices have already": {"discount_total": "12.00", "total": "105.00"},
    "coupon and promotion": {"coupon_amount": "5.00", "promotion": {"amount": "-2.50"}, "total": "97.50"},
    "codes of discounts": {
        "discount_codes": [{"code": "SAVE", "amount": "10.00", "type": "fixed"}],
        "total": "95.00",
    },
    "a gift card": {"gift_cards": [{"last4": "1234", "amount": "30.00"}], "total": "75.00"},
    "a gift card that paid a part": {"gift_card_amount": "30.00", "total": "105.00"},
    "points": {"points_discount": {"value": "1.25", "currency": "USD"}, "total": "103.75"},
    "store credit and a tip": {"store_credit": "5", "tip": 2, "total": "102.00"},
    "handling": {"handling_fee": "3.00", "total": "108.00"},
    "insurance and gift wrap": {"shipping_insurance": "2.20", "gift_wrap": "4.00", "total": "111.20"},
    "two fees alike": {"handling": "2.00", "payment_fee": "2.00", "total": "109.00"},
    "a list of fees": {
        "fees": [{"name": "COD", "amount": "3.00"}, {"name": "eco", "amount": "0.50"}],
        "total": "108.50",
    },
    "adjustments of both signs": {
        "adjustments": [{"label": "Coupon", "amount": "-5.00"}, {"label": "Handling", "amount": "1.50"}],
        "total": "101.50",
    },
    "totals of their own": {
        "totals": {"subtotal": "100.00", "tax": "8.00", "discount": "4.00"},
        "total": "109.00",
    },
    "free shipping": {"shipping_discount": "5.00", "total": "100.00"},
    "a discount of the shipping fee": {"shipping_fee_discount": "2.00", "total": "103.00"},
    "shipping by another name": {
        "shipping_cost": None,
        "delivery_fee": "5.00",
        "taxes_included": True,
        "total": "105.00",
    },
    "rounding": {"rounding_adjustment": "-0.01", "total": "104.99"},
    "a fee of the marketplace's": {"commission_fee": "9.00", "total": "105.00"},
    "everything at once": {
        "tax": "8.00",
        "coupons": [{"discount": "6.00"}],
        "gift_card": "20.00",
        "handling": "3.00",
        "insurance": {"amount": "1.10"},
        "total": "91.10",
    },
    "an amount of two currencies": {
        "total_discount_set": {"shop_money": {"amount": "10.00"}, "presentment_money": {"amount": "9.00"}},
        "total": "95.00",
    },
}

MARKED: dict[str, Raw] = {
    "a cent too much": {"total": "105.01"},
    "a cent too little, with tax": {"tax": "8.00", "total": "112.99"},
    "a cent beside included tax": {"tax": "17.50", "taxes_included": True, "total": "105.01"},
    "included tax that is added": {"tax": "17.50", "taxes_included": True, "total": "122.50"},
    "a cent beside fees and coupons": {"handling": "3.00", "coupon": "5.00", "total": "102.99"},
    "a line is missing": {"items": two()[:1], "tax": "8.00", "total": "113.00"},
    "a line is missing, tax in the prices": {
        "items": two()[:1],
        "tax": "20",
        "taxes_included": True,
        "total": "105.00",
    },
    "a rate is no amount": {"tax_rate": "8.00", "total": "113.00"},
    "a percentage is no amount": {"discount_percent": "10", "total": "95.00"},
    "a number of points is no amount": {"points_count": 5, "total": "100.00"},
    "what was refunded is no reduction": {"tax_refunded": "3.00", "total": "102.00"},
    "part of an address is no fee": {"billing_address": {"insurance": "3.00"}, "total": "108.00"},
    "less than nothing": {"gift_card": "205.00", "total": "-100.00"},
}


def order(fields: Raw) -> Raw:
    return order_json() | {"items": two(), "shipping_cost": "5.00", "currency": "USD"} | fields


@pytest.mark.parametrize("fields", ADD_UP.values(), ids=ADD_UP)
def test_an_order_adds_up(fields: Raw) -> None:
    sale = read_sale(read_order(order(fields)))
    assert sale.adds_up
    assert sale.lines_total + sale.shipping_cost + sale.tax - sale.discount == Decimal(fields["total"])


@pytest.mark.parametrize("fields", MARKED.values(), ids=MARKED)
def test_what_adds_up_in_no_way_is_marked(fields: Raw) -> None:
    assert not read_sale(read_order(order(fields))).adds_up


def test_an_order_of_no_lines_or_below_zero_is_imported_and_shown_to_a_person(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    paper.polled(
        world,
        order_json(order_id="empty", items=[], total="10.00"),
        order_json(order_id="below", total="-10.00"),
    )
    assert desk.order(world, "empty").exception == "quantity,total_mismatch"
    assert desk.order(world, "below").exception == "total_mismatch"
    assert rows(world.database, "SELECT payment_status FROM orders") == [("pending",), ("pending",)]
    assert desk.on_shelf(world) == {"A": 8}
    paper.polled(world, order_json(order_id="empty", total="10.00", updated_at="2099-01-01T00:00:00Z"))
    assert (desk.order(world, "empty").exception, desk.on_shelf(world)) == (None, {"A": 7})


def test_prices_with_tax_add_up_however_the_order_changes(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    paid = {"tax": "2.00", "taxes_included": True}
    paper.polled(world, order_json(**paid))
    paper.polled(world, order_json(total="20.00", quantity=2, updated_at="2099-01-01T00:00:00Z", **paid))
    bare = {"id": "X-1", "status": "processing", "total": "20.00", "handling": "9.00", **paid}
    paper.told(world, bare | {"updated_at": "2099-01-02T00:00:00Z"})
    order = desk.order(world, "X-1")
    assert (order.status, order.exception, order.tax) == ("processing", None, Decimal("0.00"))
    desk.assert_whole(world)
