"""Values of any type where the contract has another: imported where that loses nothing, else set aside by the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from midas_pipelines.fourseller.pages import read_order
from midas_pipelines.store.payloads import Vault
from midas_pipelines.sync.orders.sales import read_sale
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, line
from midas_pipelines_tests.sync.test_orders import order_json
from midas_pipelines_tests.sync.world import World


def of_line(**fields: Any) -> Raw:
    """An order of one line, odd in these fields."""
    return {"items": [line("A") | fields]}


MOST = 2**31 - 1

ODD: dict[str, tuple[Raw, str | None]] = {  # the field for which it is set aside; None where it is imported
    "a phone in numbers": ({"customer": {"phone": 15551234567}}, "customer.phone"),
    "a buyer in words": ({"customer": "Ann"}, "customer"),
    "a buyer that is a list": ({"customer": []}, "customer"),
    "a postal code in numbers": (
        {"shipping_address": {"postal_code": 90210}},
        "shipping_address.postal_code",
    ),
    "an address that is a list": ({"shipping_address": []}, "shipping_address"),
    "a second line that is false": ({"shipping_address": {"line2": False}}, "shipping_address.line2"),
    "a SKU in numbers": (of_line(sku=12345), "items.0.sku"),
    "a product id in numbers": (of_line(product_id=7), "items.0.product_id"),
    "a title in numbers": (of_line(title=7), "items.0.title"),
    "a quantity in words": (of_line(quantity="1"), "items.0.quantity"),
    "a quantity that is true": (of_line(quantity=True), "items.0.quantity"),
    "half a unit": (of_line(quantity=1.5), "items.0.quantity"),
    "a whole unit written as a fraction": (of_line(quantity=1.0), None),
    "more than there are numbers for": (of_line(quantity=MOST + 1), "items.0.quantity"),
    "as many as there are numbers for": (of_line(quantity=MOST, price="0.01"), None),
    "as many, twice": ({"items": [line("A", MOST, price="0")] * 2}, None),
    "as few as there are numbers for": (of_line(quantity=-MOST - 1), None),
    "no price": (of_line(price=None), None),
    "an empty price": (of_line(price=""), "items.0.price"),
    "a price in words": (of_line(price="ten"), "items.0.price"),
    "lines that are one": ({"items": {"sku": "A"}}, "items"),
    "a line that is null": ({"items": [None, line("A")]}, "items.0"),
    "a date of nothing": ({"updated_at": ""}, "updated_at"),
    "a date in seconds": ({"created_at": 1767323045}, "created_at"),
    "a date past all calendars": ({"created_at": "10000-01-01T00:00:00Z"}, "created_at"),
    "a parcel that is a list": ({"tracking": []}, "tracking"),
    "a parcel in words": ({"tracking": "1Z"}, "tracking"),
    "a parcel's number in numbers": ({"tracking": {"number": 123}}, "tracking.number"),
    "no currency": ({"currency": ""}, None),
    "a currency in numbers": ({"currency": 7}, "currency"),
    "a status in numbers": ({"status": 3}, "status"),
    "a channel in numbers": ({"sales_channel": 3}, "sales_channel"),
    "a total with a comma": ({"total": "1,000.00"}, "total"),
    "a total with its sign": ({"total": "$10.00"}, "total"),
    "an empty total": ({"total": ""}, "total"),
    "no day it was placed": ({"created_at": None}, None),
    "no dates": ({"created_at": None, "updated_at": None}, None),
    "a field that nobody knows": ({"x": {"y": [1, None, "z"]}}, None),
}


def test_each_is_imported_or_set_aside_for_the_field_that_is_odd(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=1000)
    orders = [order_json(order_id=name, **fields) for name, (fields, _) in ODD.items()]
    ends = dict(zip(ODD, desk.told(world, *orders), strict=True))
    assert ends == {name: "set_aside" if field else "applied" for name, (_, field) in ODD.items()}
    for name, (_, field) in ODD.items():
        order = desk.order(world, name)
        assert (order.reason is None) is (field is None), name
        assert f"`{field}`" in (order.reason or "`None`"), name
    assert world.import_orders().failed == 0


def test_an_id_in_numbers_is_set_aside_under_it_and_imported_when_it_is_text(world: World) -> None:
    paper.polled(world, order_json(order_id=12345))  # type: ignore[arg-type]
    assert (desk.order(world, "12345").outcome, desk.alerts(world)) == ("set_aside", ["order_set_aside"])
    paper.polled(world, order_json(order_id="12345"))
    assert (desk.order(world, "12345").outcome, desk.alerts(world)) == ("imported", [])


UNUSUAL: dict[str, Any] = {
    "a number without end": float("inf"),
    "no number": float("nan"),
    "lists in lists": json.loads("[" * 300 + "]" * 300),
    "half a surrogate": "\ud83d",
    "a NUL": "a\x00b",
}


@pytest.mark.parametrize("key", [None, SecretStr(Fernet.generate_key().decode())], ids=["no key", "a key"])
@pytest.mark.parametrize("note", UNUSUAL.values(), ids=UNUSUAL)
def test_whatever_json_can_spell_is_sealed_and_opened(note: Any, key: SecretStr | None) -> None:
    vault = Vault(key)
    sale = read_sale(read_order(order_json(note=note, tax_note=note)), vault)
    assert "\x00" not in str(sale.sealed)
    assert vault.open(str(sale.sealed))["id"] == "X-1"
