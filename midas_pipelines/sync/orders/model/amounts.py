"""The taxes, fees and discounts with which a marketplace order adds up to its total. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from itertools import combinations
from typing import Any

from midas_pipelines.fourseller.lenient import read_money
from midas_pipelines.fourseller.models import Order
from midas_pipelines.storefront.types import ZERO, same_amount, sound

TAX_FIELDS = ("tax", "tax_total", "total_tax", "sales_tax", "taxes")
DISCOUNT_FIELDS = ("discount", "discount_total", "total_discount", "discounts")
"""Names that marketplaces use for amounts that are not in the contract."""
PLAIN_FIELDS = frozenset((*TAX_FIELDS, *DISCOUNT_FIELDS))


def read_amount(value: Any) -> Decimal | None:
    """The amount in a field; None where it cannot be read or the shop's tables cannot hold it."""
    try:
        amount = read_money(value)
    except (ValueError, ArithmeticError):
        return None
    return None if amount is None else sound(amount)


def words(name: str) -> set[str]:
    """The words of a name in snake_case, camelCase or plain text, in the singular."""
    return {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


TAX, REDUCTION, FEE = "tax", "reduction", "fee"
KINDS = tuple(  # by the words in a name, the first match; gift wrap is a fee, a fee's discount is a discount
    (words(text), kind)
    for kind, text in (
        (REDUCTION, "discount coupon promo promotion voucher rebate reduction deduction subsidy"),
        (REDUCTION, "allowance credit"),
        (FEE, "fee handling insurance wrap wrapping tip tipping surcharge duty duties customs donation"),
        (FEE, "deposit packaging charge rounding adjustment protection warranty"),
        (FEE, "freight postage shipping delivery"),
        (REDUCTION, "gift point reward loyalty markdown wallet cashback bonus saving"),
        (TAX, "tax taxes vat gst hst pst qst iva tva mwst"),
    )
)
INCLUDED = words("included inclusive include incl including")
NO_AMOUNT = INCLUDED | words(
    "rate percent percentage id code count number type at date name quantity currency paid refund refunded due excl "
    "excluding before after net gross with without address method status"
)
"""Words in the names of fields that hold no amount, or a subtotal."""
DESCRIBED_BY = ("type", "kind", "name", "label", "title", "method", "description", "reason")
HELD_IN = ("amount", "value", "total", "price", "sum", "discount", "tax", "fee", "shop_money", "money")
LINE_TOTALS = ("line_total", "row_total", "total", "total_price", "subtotal", "line_amount", "extended_price")
UNIT_PRICES = ("discounted_price", "sale_price", "final_price", "paid_price", "net_price", "unit_price")
READ_ELSEWHERE = {*Order.model_fields, "billing_address", "metadata"}
MOST = 10  # the most amounts to combine; the number of sums is two to that power


def extras(
    raw: dict[str, Any], *, total: Decimal | None, currency: str | None, goods: Decimal, shipping: Decimal
) -> tuple[Decimal, Decimal]:
    """The taxes and fees added to the prices, and the discounts subtracted, with which the order adds up to the marketplace's
    `total`, if it gave one, in the smallest unit of its currency; those of the plain fields where nothing adds up. `goods` is
    price times quantity of all lines."""
    flags = [words(name) for name, value in raw.items() if value in (True, "true", "True", "1", "yes")]
    included = any(said & {"tax", "taxe", "vat", "gst"} and said & INCLUDED for said in flags)
    plain = (ZERO if included else extra(raw, TAX_FIELDS), extra(raw, DISCOUNT_FIELDS))
    if total is None or same_amount(goods + shipping + plain[0] - plain[1], total, currency):
        return plain
    items = raw.get("items")
    items = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    amounts = [amount for kind, amount in _named(raw, items) if not (included and kind == TAX)][:MOST]
    others = [_goods_by(name, items) for name in (*LINE_TOTALS, *UNIT_PRICES)] if items else []
    for base in (goods, *(one for one in others if one is not None)):
        for size in range(len(amounts), -1, -1):  # most named amounts count
            for chosen in combinations(amounts, size):
                parts = (base - goods, *chosen)
                if same_amount(goods + shipping + sum(parts), total, currency):
                    added = sum((one for one in parts if one > 0), ZERO)
                    return added, added - sum(parts)
    return plain


def extra(raw: dict[str, Any], names: Iterable[str]) -> Decimal:
    """The first of these fields that holds an amount other than 0, or a list of amounts, whatever its sign; 0 without one."""
    found = (one for name in names if name in raw for _, one in _amounts_in(name, raw[name], None))
    return next(filter(None, (sound(amount.copy_abs()) for amount in found)), ZERO)


def _named(raw: dict[str, Any], items: list[dict[str, Any]]) -> list[tuple[str, Decimal]]:
    """The named amounts of the order and of its lines with their kinds; a discount is negative."""
    fields = [(name, value) for name, value in raw.items() if name not in READ_ELSEWHERE]
    found = [one for name, value in fields for one in _amounts_in(name, value, None)]
    of_lines: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for item in items:
        for name in item.keys() - {*LINE_TOTALS, *UNIT_PRICES}:
            for kind, amount in _amounts_in(name, item[name], None):
                of_lines[name, kind] += amount
                of_lines[f"{name} of each", kind] += amount * _pieces(item)
    sums = {(kind, amount) for (_, kind), amount in of_lines.items()}
    return [one for one in (*found, *sorted(sums)) if one[1]]


def _amounts_in(name: str, value: Any, above: str | None) -> list[tuple[str, Decimal]]:
    kind, sums = _kind_of(name) or above, defaultdict[str, Decimal](Decimal)
    if isinstance(value, list):  # its entries are summed by kind
        for entry in value:
            said = " ".join(str(entry.get(key)) for key in DESCRIBED_BY) if isinstance(entry, dict) else ""
            of_entry, amount = _kind_of(said) or kind, _held(entry)
            if of_entry is not None and amount is not None:
                sums[of_entry] += amount
    else:
        amount = _held(value)
        if isinstance(value, dict) and (kind is None or amount is None):
            return [one for part, inside in value.items() for one in _amounts_in(part, inside, kind)]
        if kind and amount is not None and (isinstance(value, dict) or not words(name) & NO_AMOUNT):
            sums[kind] = amount
    return [
        (kind, amount if kind == FEE else amount.copy_abs() if kind == TAX else -amount.copy_abs())
        for kind, amount in sums.items()
    ]


def _kind_of(name: str) -> str | None:
    found = words(name)
    return next((kind for known, kind in KINDS if known & found), None)


def _held(value: Any) -> Decimal | None:
    """The amount in a field, or in an object with its currency or its name."""
    if isinstance(value, dict):
        return next((held for key in HELD_IN if (held := _held(value.get(key))) is not None), None)
    return read_amount(value)


def _goods_by(name: str, items: list[dict[str, Any]]) -> Decimal | None:
    """The total of the lines by another price field, where every line has it."""
    held = [(_held(item.get(name)), _pieces(item) if name in UNIT_PRICES else 1) for item in items]
    amounts = [amount * count for amount, count in held if amount is not None]
    return sum(amounts, Decimal(0)) if len(amounts) == len(items) else None


def _pieces(item: dict[str, Any]) -> Decimal:
    return read_amount(item.get("quantity")) or Decimal(1)
