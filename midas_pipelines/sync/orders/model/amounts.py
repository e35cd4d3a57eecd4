"""The amounts of a marketplace order: exact, in its own currency, compared to that currency's smallest unit. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from midas_pipelines.fourseller.lenient import read_money
from midas_pipelines.storefront.currencies import MINOR_UNITS
from midas_pipelines.storefront.types import CENT, shortest

LARGEST_AMOUNT = Decimal(10) ** 8
"""The shop's amounts are DECIMAL(10,2): below a hundred million."""

ZERO = Decimal("0.00")

TAX_FIELDS = ("tax", "tax_total", "total_tax", "sales_tax", "taxes")
DISCOUNT_FIELDS = ("discount", "discount_total", "total_discount", "discounts")
"""Names that marketplaces use for amounts that are not in the contract."""


def sound(amount: Decimal) -> Decimal | None:
    """The amount to four digits after the point; None for one that the shop's tables cannot hold."""
    if not amount:
        return ZERO
    if amount.adjusted() < 8:  # first: `quantize` fails on a larger amount
        cents = amount.quantize(CENT, ROUND_HALF_UP)
        if abs(cents) < LARGEST_AMOUNT:
            return cents if cents == amount else shortest(amount)
    return None


def in_minor_units(amount: Decimal, currency: str | None) -> Decimal:
    """The amount rounded half-up to the smallest unit of its currency; to cents while that is unknown."""
    return amount.quantize(Decimal(1).scaleb(-MINOR_UNITS.get(currency or "", 2)), ROUND_HALF_UP)


def adds_up(
    total: Decimal,
    currency: str | None,
    *,
    goods: Decimal,
    shipping: Decimal,
    tax: Decimal,
    discount: Decimal,
) -> bool:
    """Whether goods + shipping + tax - discount = total, to the smallest unit of the currency."""
    expected = goods + shipping + tax - discount
    return expected == total or in_minor_units(expected, currency) == in_minor_units(total, currency)


def extra(raw: dict[str, Any], names: Iterable[str]) -> Decimal:
    """The first of these fields that holds an amount other than 0, or a list of amounts; 0 without one.

    A discount may be written with a minus or without: its size counts.
    """
    for name in names:
        value = raw.get(name)
        if value is None:
            continue
        parts = value if isinstance(value, list) else [value]
        amounts = [read_amount(part) for part in parts]
        total = sound(sum(filter(None, amounts), Decimal(0)).copy_abs())
        if total:
            return total
    return ZERO


def read_amount(value: Any) -> Decimal | None:
    """The amount in a field; None where it cannot be read or the shop's tables cannot hold it."""
    try:
        amount = read_money(value)
    except (ValueError, ArithmeticError):
        return None
    return None if amount is None else sound(amount)
