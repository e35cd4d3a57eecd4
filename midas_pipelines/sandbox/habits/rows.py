"""Habits of rows: how products and orders look in every answer and webhook, whatever is stored."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from midas_pipelines.sandbox.habits.habit import Habit, Use, serial
from midas_pipelines.sandbox.state import Json

HALF_CHARACTER, CONTROL_CHARACTER = (
    "\ue000",
    "\ue001",
)  # written into texts; made into bytes as the answer leaves
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
TEXTS_OF_DIGITS = ("sku", "product_id", "postal_code", "phone", "line2", "state", "number")
NUMBERS = ("price", "quantity", "total", "shipping_cost", "weight", "dimensions")


def each(row: Any, change: Callable[[str, Any], Any]) -> Any:
    """The row with each value, however deep, as `change` of its name and itself."""
    if isinstance(row, dict):
        return {name: each(change(name, value), change) for name, value in row.items()}
    return [each(value, change) for value in row] if isinstance(row, list) else row


def throughout(change: Callable[[str, Any], Any]) -> Callable[[Json, Use], None]:
    """A row hook that changes values by their names."""
    return lambda row, _: row.update(each(row, change))


def as_text(name: str, value: Any) -> Any:
    """A number as a text with thousands marked: "1,010.00"."""
    if name not in NUMBERS or isinstance(value, bool) or value is None:
        return value
    try:
        return f"{value:,}" if isinstance(value, int) else f"{Decimal(str(value)):,}"
    except ArithmeticError:
        return value


def as_number(name: str, value: Any) -> Any:
    """A text of digits as a number, also where a text has a `+` or dashes between them."""
    digits = str(value).translate(str.maketrans("", "", "+- "))
    if name not in TEXTS_OF_DIGITS or not isinstance(value, str) or not digits.isdecimal():
        return value
    return int(digits)


def number_ids(row: Json, _: Use) -> None:
    """Ids of digits as numbers."""
    row.update(each(row, lambda name, value: int(value) if name in IDS and _digits(value) else value))


def _digits(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal()


IDS = ("id", "product_id")


def lists_for(*names: str) -> Callable[[Json, Use], None]:
    """A row hook that shows these objects as `[]`."""
    return lambda row, _: row.update({name: [] for name in names if name in row})


def odd_dates(row: Json, _: Use) -> None:
    """Dates in other forms, one form to a row."""
    row.update(created_at=DATES[serial(row) % len(DATES)], updated_at=DATES[serial(row) % len(DATES)])


def masked(row: Json, use: Use) -> None:
    """Empty tracking, customer and address."""
    if not use.nth(row):
        return
    nothing = NOTHING[serial(row) % len(NOTHING)]
    row["tracking"] = dict.fromkeys(("carrier", "number", "url"), nothing)
    for part in ("customer", "shipping_address"):
        row[part] = dict.fromkeys(row.get(part) or {}, nothing)


def sparse(row: Json, _: Use) -> None:
    """Only the id, the status and lines of SKU and quantity."""
    lines = [{name: line.get(name) for name in ("sku", "quantity")} for line in row.get("items") or []]
    kept = {"id": row["id"], "status": row.get("status"), "items": lines, "customer": None}
    row.clear()
    row.update(kept)


def spoiled(mark: str) -> Callable[[Json, Use], None]:
    """A row hook that puts a mark into the buyer's name and the titles of each Nth order."""

    def change(row: Json, use: Use) -> None:
        if use.nth(row):
            row["customer"] = {**(row.get("customer") or {}), "name": f"Sample {mark}"}
            row["items"] = [{**line, "title": f"Part {mark}"} for line in row.get("items") or []]

    return change


def not_a_number(row: Json, use: Use) -> None:
    """NaN for the total of each Nth order."""
    if use.nth(row):
        row["total"] = float("nan")


def odd_quantity(row: Json, use: Use) -> None:
    """Quantities below zero, null, as texts, not whole: one kind to a row."""
    if use.nth(row):
        row["inventory"] = {
            **(row.get("inventory") or {}),
            "quantity": QUANTITIES[serial(row) // max(1, int(use.number)) % len(QUANTITIES)],
        }


def image_texts(row: Json, _: Use) -> None:
    """Pictures by address alone."""
    row["images"] = [one.get("url") if isinstance(one, dict) else one for one in row.get("images") or []]


def unknown_word(row: Json, _: Use) -> None:
    """A status word that is in no table."""
    row["status"] = WORDS.get(str(row.get("status")), "somewhere")


def goods(row: Json) -> Decimal:
    """The sum of an order's lines."""
    lines = row.get("items") or []
    return sum((Decimal(str(one.get("price") or 0)) * one.get("quantity", 0) for one in lines), Decimal(0))


def add(row: Json, amount: Decimal) -> None:
    """Moves the total."""
    row["total"] = f"{Decimal(str(row.get('total') or 0)) + amount:.2f}"


def tax_included(row: Json, _: Use) -> None:
    """A fifth on top of the net price, within the prices and the total as they are."""
    row.update(taxes_included=True, tax_total=f"{goods(row) / 6:.2f}")


def line_discounts(row: Json, _: Use) -> None:
    """One unit of currency off each line."""
    lines = row.get("items") or []
    row["items"] = [{**line, "discount": "1.00"} for line in lines]
    add(row, Decimal(-len(lines)))


def gift_cards(row: Json, _: Use) -> None:
    """A part paid by gift card, the total without it."""
    row["gift_card"] = "2.50"
    add(row, Decimal("-2.50"))


def fees(row: Json, _: Use) -> None:
    """A named fee on top."""
    row["fees"] = [{"name": "handling", "amount": "1.75"}]
    add(row, Decimal("1.75"))


def both(sentence: str, act: Callable[[Json, Use], None], number: float = 1) -> Habit:
    """A habit of products and orders alike."""
    return Habit(sentence, number, product=act, order=act)


HABITS = {
    "numbers-as-texts": both('Prices, totals and quantities are texts ("1,010.00").', throughout(as_text)),
    "texts-as-numbers": both("SKUs, postal codes, phones of digits are numbers.", throughout(as_number)),
    "number-ids": Habit(
        "New ids are digits alone, numbers in answers and texts in webhooks.",
        product=lambda row, use: number_ids(row, use) if use.call.name else None,
        order=lambda row, use: number_ids(row, use) if use.call.name else None,
    ),
    "objects-as-lists": Habit(
        "Customer, address, tracking, attributes and shipping are [].",
        product=lists_for("attributes", "shipping"),
        order=lists_for("customer", "shipping_address", "tracking"),
    ),
    "odd-dates": both("Dates are zero, empty, RFC 822, 23:59:60, a number or null, by row.", odd_dates),
    "masked-values": Habit(
        'Tracking, customer and address of each Nth order hold "", "***", "N/A" and the like.', order=masked
    ),
    "sparse-orders": Habit(
        "Orders have an id, a status and countable lines, and nothing else.", order=sparse
    ),
    "half-characters": Habit("Each Nth order holds a cut UTF-8 character.", 3, order=spoiled(HALF_CHARACTER)),
    "control-characters": Habit(
        "Each Nth order holds a raw control character.", 3, order=spoiled(CONTROL_CHARACTER)
    ),
    "not-a-number": Habit("Each Nth order has a total of NaN.", 3, order=not_a_number),
    "odd-quantities": Habit(
        "Each Nth product shows a quantity of -3, null, a text, 2.5 or true.", product=odd_quantity
    ),
    "images-as-texts": Habit("Pictures are addresses, not objects.", product=image_texts),
    "unknown-statuses": Habit("Orders have status words that are in no table.", order=unknown_word),
    "tax-included": Habit("Prices hold the tax, which is named too (taxes_included).", order=tax_included),
    "line-discounts": Habit("Each line has a discount, which the total lacks.", order=line_discounts),
    "gift-cards": Habit("A gift card paid a part, which the total lacks.", order=gift_cards),
    "fees": Habit("The total holds a named fee.", order=fees),
}
