"""Habits of rows: how products and orders look in every answer and webhook, whatever is stored."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from midas_pipelines.sandbox.habits.habit import Use, habit, serial
from midas_pipelines.sandbox.state import Json

HALF_CHARACTER, CONTROL_CHARACTER = "\ue000", "\ue001"
"""Written into texts; made into bytes as the answer leaves."""

DATES: tuple[Any, ...] = (
    "0000-00-00 00:00:00",
    "",
    "Fri, 27 Nov 2026 10:00:00 +0000",
    "2026-11-27T23:59:60Z",
    "20261127",
    None,
    1795773600,
)
NOTHING: tuple[Any, ...] = ("", " ", "N/A", "***", "null", "-", None)
QUANTITIES: tuple[Any, ...] = (-3, None, "7", "", 2.5, True)
WORDS = {
    "pending": "awaiting_stock_check",
    "processing": "label_printed",
    "shipped": "in_transit_to_hub",
    "delivered": "closed",
    "cancelled": "closed",
    "refunded": "settled_with_buyer",
}
IDS = ("id", "product_id")
TEXTS_OF_DIGITS = ("sku", "product_id", "postal_code", "phone", "line2", "state", "number")
NUMBERS = ("price", "quantity", "total", "shipping_cost", "weight", "dimensions")
OBJECTS = ("attributes", "shipping", "customer", "shipping_address", "tracking")


def each(row: Any, change: Callable[[str, Any], Any]) -> Any:
    """The row with each value, however deep, as `change` of its name and itself."""
    if isinstance(row, dict):
        return {name: each(change(name, value), change) for name, value in row.items()}
    return [each(value, change) for value in row] if isinstance(row, list) else row


@habit("product", "order")
def numbers_as_texts(row: Json, _: Use) -> None:
    """Prices, totals and quantities are texts ("1,010.00")."""

    def as_text(name: str, value: Any) -> Any:
        if name not in NUMBERS or isinstance(value, bool) or value is None:
            return value
        try:
            return f"{value:,}" if isinstance(value, int) else f"{Decimal(str(value)):,}"
        except ArithmeticError:
            return value

    row.update(each(row, as_text))


@habit("product", "order")
def texts_as_numbers(row: Json, _: Use) -> None:
    """SKUs, postal codes, phones of digits are numbers."""

    def as_number(name: str, value: Any) -> Any:
        digits = str(value).translate(str.maketrans("", "", "+- "))
        if name not in TEXTS_OF_DIGITS or not isinstance(value, str) or not digits.isdecimal():
            return value
        return int(digits)

    row.update(each(row, as_number))


@habit("product", "order")
def number_ids(row: Json, use: Use) -> None:
    """New ids are digits alone, numbers in answers and texts in webhooks."""

    def as_id(name: str, value: Any) -> Any:
        digits = name in IDS and isinstance(value, str) and value.isascii() and value.isdecimal()
        return int(value) if digits else value

    if use.call.name:
        row.update(each(row, as_id))


@habit("product", "order")
def objects_as_lists(row: Json, _: Use) -> None:
    """Customer, address, tracking, attributes and shipping are []."""
    row.update({name: [] for name in OBJECTS if name in row})


@habit("product", "order")
def odd_dates(row: Json, _: Use) -> None:
    """Dates are zero, empty, RFC 822, 23:59:60, a number or null, by row."""
    row.update(created_at=DATES[serial(row) % len(DATES)], updated_at=DATES[serial(row) % len(DATES)])


@habit("order")
def masked_values(row: Json, use: Use) -> None:
    """Tracking, customer and address of each Nth order hold "", "***", "N/A" and the like."""
    if use.nth(row):
        nothing = NOTHING[serial(row) % len(NOTHING)]
        row["tracking"] = dict.fromkeys(("carrier", "number", "url"), nothing)
        for part in ("customer", "shipping_address"):
            row[part] = dict.fromkeys(row.get(part) or {}, nothing)


@habit("order")
def sparse_orders(row: Json, _: Use) -> None:
    """Orders have an id, a status and countable lines, and nothing else."""
    lines = [{name: line.get(name) for name in ("sku", "quantity")} for line in row.get("items") or []]
    kept = {"id": row["id"], "status": row.get("status"), "items": lines, "customer": None}
    row.clear()
    row.update(kept)


@habit("order", number=3)
def half_characters(row: Json, use: Use) -> None:
    """Each Nth order holds a cut UTF-8 character."""
    _spoil(row, use, HALF_CHARACTER)


@habit("order", number=3)
def control_characters(row: Json, use: Use) -> None:
    """Each Nth order holds a raw control character."""
    _spoil(row, use, CONTROL_CHARACTER)


def _spoil(row: Json, use: Use, mark: str) -> None:
    """Puts a mark into the buyer's name and the titles."""
    if use.nth(row):
        row["customer"] = {**(row.get("customer") or {}), "name": f"Sample {mark}"}
        row["items"] = [{**line, "title": f"Part {mark}"} for line in row.get("items") or []]


@habit("order", number=3)
def not_a_number(row: Json, use: Use) -> None:
    """Each Nth order has a total of NaN."""
    if use.nth(row):
        row["total"] = float("nan")


@habit("product")
def odd_quantities(row: Json, use: Use) -> None:
    """Each Nth product shows a quantity of -3, null, a text, 2.5 or true."""
    if use.nth(row):
        quantity = QUANTITIES[serial(row) // max(1, int(use.number)) % len(QUANTITIES)]
        row["inventory"] = {**(row.get("inventory") or {}), "quantity": quantity}


@habit("product")
def images_as_texts(row: Json, _: Use) -> None:
    """Pictures are addresses, not objects."""
    row["images"] = [one.get("url") if isinstance(one, dict) else one for one in row.get("images") or []]


@habit("order")
def unknown_statuses(row: Json, _: Use) -> None:
    """Orders have status words that are in no table."""
    row["status"] = WORDS.get(str(row.get("status")), "somewhere")


@habit("order")
def tax_included(row: Json, _: Use) -> None:
    """Prices hold the tax, which is named too (taxes_included)."""
    lines = row.get("items") or []
    goods = sum(Decimal(str(one.get("price") or 0)) * one.get("quantity", 0) for one in lines)
    row.update(taxes_included=True, tax_total=f"{goods / 6:.2f}")


@habit("order")
def line_discounts(row: Json, _: Use) -> None:
    """Each line has a discount, which the total lacks."""
    row["items"] = [{**line, "discount": "1.00"} for line in row.get("items") or []]
    _add(row, -len(row["items"]))


@habit("order")
def gift_cards(row: Json, _: Use) -> None:
    """A gift card paid a part, which the total lacks."""
    row["gift_card"] = "2.50"
    _add(row, "-2.50")


@habit("order")
def fees(row: Json, _: Use) -> None:
    """The total holds a named fee."""
    row["fees"] = [{"name": "handling", "amount": "1.75"}]
    _add(row, "1.75")


def _add(row: Json, amount: int | str) -> None:
    """Moves the total."""
    row["total"] = f"{Decimal(str(row.get('total') or 0)) + Decimal(amount):.2f}"
