"""Reading a marketplace order into a `Sale`: what was sold, for how much, in what state. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from midas_pipelines.fourseller.models import Order, OrderItem
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.payloads import Vault
from midas_pipelines.storefront.json_text import to_json
from midas_pipelines.storefront.types import to_cents

LARGEST_AMOUNT = Decimal(10) ** 8
"""The shop's amounts are DECIMAL(10,2): below a hundred million."""

TAX_FIELDS = ("tax", "tax_total", "total_tax", "sales_tax", "taxes")
DISCOUNT_FIELDS = ("discount", "discount_total", "total_discount", "discounts")
"""Names marketplaces use for what the contract does not have; the whole payload is kept anyway."""

MAY_BE_LONGER = {"title": 255, "sku": 255, "product_id": 100, "channel": 50, "word": 50}


class UnreadableSaleError(Exception):
    """The order cannot be put into the shop's tables; the message says why."""


@dataclass(frozen=True, slots=True)
class SaleLine:
    """One line as sold. `quantity` is as it came, 1 where it was missing; `odd` marks one that a person must see."""

    line: int
    sku: str | None
    fourseller_product_id: str | None
    title: str
    quantity: int
    price: Decimal
    odd: bool
    total: Decimal  # price times quantity; a quantity below one counts for nothing


@dataclass(frozen=True, slots=True)
class Sale:
    """One marketplace order. Amounts are in `currency`, kept as the source gave them."""

    order_id: str
    sales_channel: str | None
    status: OrderStatus
    status_word: str
    known_status: bool
    paid: bool
    currency: str
    total: Decimal
    shipping_cost: Decimal
    tax: Decimal
    discount: Decimal
    lines: tuple[SaleLine, ...]
    placed_at: datetime
    updated_at: datetime | None
    shipped: bool
    address: dict[str, Any]
    raw: dict[str, Any]
    lines_total: Decimal
    content_hash: str  # of what the buyer may still change: lines, amounts and where the parcel goes
    sealed: str | None  # `raw`, where it was sealed when it was read

    @property
    def adds_up(self) -> bool:
        """Whether lines + shipping + tax - discount = total, to the cent."""
        return self.lines_total + self.shipping_cost + self.tax - self.discount == self.total

    @property
    def order_number(self) -> str:
        """The number of the shop's order: at most 50 characters, the same for the same marketplace order."""
        number = f"4S-{self.order_id}"
        return (
            number if len(number) <= 50 else f"4S-{hashlib.sha256(self.order_id.encode()).hexdigest()[:40]}"
        )

    @property
    def takes_stock(self) -> bool:
        """Whether the goods have left or will leave: not when it was cancelled, or refunded and never shipped."""
        if self.status is OrderStatus.CANCELLED:
            return False
        return self.status is not OrderStatus.REFUNDED or self.shipped


def read_sale(order: Order, vault: Vault | None = None) -> Sale:
    """The sale behind an order as it came, sealed at once with a `vault`: whoever imports it has one thing less to do.

    Raises:
        UnreadableSaleError: the shop's tables cannot hold it.
    """
    if len(order.id) > 200:
        raise UnreadableSaleError("Its id is longer than 200 characters.")
    state, came = order.state, order.raw
    lines = tuple(_line(number, item) for number, item in enumerate(order.items, start=1))
    shipping, tax, discount = (
        order.shipping_cost or Decimal(0),
        _extra(came, TAX_FIELDS),
        _extra(came, DISCOUNT_FIELDS),
    )
    goods = sum((line.total for line in lines), Decimal(0))
    total = order.total if order.total is not None else goods + shipping + tax - discount
    _check_amounts((total, shipping, tax, discount, goods))
    raw = storable(came)
    address = _address(order) if raw is came else storable(_address(order))
    amounts = (to_cents(total), to_cents(shipping), to_cents(tax), to_cents(discount))
    return Sale(
        order_id=storable(order.id),
        sales_channel=_cut(order.sales_channel, "channel"),
        status=state.status,
        status_word=_cut(state.word, "word") or "",
        known_status=state.known,
        paid=state.word.strip().lower() != "unpaid",
        currency=storable(order.currency or "USD").upper()[:10],
        total=amounts[0],
        shipping_cost=amounts[1],
        tax=amounts[2],
        discount=amounts[3],
        lines=lines,
        placed_at=order.created_at or order.updated_at or datetime.now(UTC),
        updated_at=order.updated_at,
        shipped=order.tracking is not None and order.tracking.number is not None,
        address=address,
        raw=raw,
        lines_total=goods,
        content_hash=_digest(lines, amounts, address),
        sealed=vault.seal(raw) if vault is not None else None,
    )


def _digest(lines: Iterable[SaleLine], amounts: Iterable[Decimal], address: dict[str, Any]) -> str:
    sold = [(one.line, one.sku, one.fourseller_product_id, one.quantity, one.price) for one in lines]
    return hashlib.sha256(to_json([sold, amounts, sorted(address.items())]).encode()).hexdigest()


def _line(number: int, item: OrderItem) -> SaleLine:
    quantity = 1 if item.quantity is None else item.quantity
    price = item.price or Decimal(0)
    if abs(price) >= LARGEST_AMOUNT:
        raise UnreadableSaleError(f"The price on line {number} is too large for the shop's tables.")
    price = to_cents(price)
    sku = _cut(item.sku, "sku") or ""
    return SaleLine(
        line=number,
        sku=sku.strip() or None,
        fourseller_product_id=_cut(item.product_id, "product_id"),
        title=_cut(item.title, "title") or sku or f"Line {number}",
        quantity=quantity,
        price=price,
        odd=item.quantity is None or item.quantity < 1,
        total=to_cents(price * max(0, quantity)),
    )


def _extra(raw: dict[str, Any], names: Iterable[str]) -> Decimal:
    """The first of these fields that holds an amount, or a list of amounts; 0 without one."""
    for name in names:
        value = raw.get(name)
        if value is None:
            continue
        parts = value if isinstance(value, list) else [value]
        amounts = [_amount(part.get("amount") if isinstance(part, dict) else part) for part in parts]
        if any(amount is not None for amount in amounts):
            return sum((amount for amount in amounts if amount is not None), Decimal(0))
    return Decimal(0)


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        return None
    return abs(amount) if amount.is_finite() else None


def _check_amounts(amounts: Iterable[Decimal]) -> None:
    if any(abs(amount) >= LARGEST_AMOUNT for amount in amounts):
        raise UnreadableSaleError(
            "An amount is too large for the shop's tables, which hold less than 100,000,000."
        )


def _address(order: Order) -> dict[str, Any]:
    who = order.customer.model_dump(mode="json") if order.customer else {}
    where = order.shipping_address.model_dump(mode="json") if order.shipping_address else {}
    return {**who, **where}


def _cut(text: str | None, field: str) -> str | None:
    return None if text is None else str(storable(text))[: MAY_BE_LONGER[field]]


def storable(value: Any) -> Any:
    """The value without NUL characters and half surrogates, which JSON may spell and a database cannot store."""
    if isinstance(value, str):
        return value if value.isascii() and "\x00" not in value else _cleaned(value)
    spelled = to_json(value)
    return _cleaned(value) if "\\u0000" in spelled or "\\ud" in spelled else value


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_cleaned(name): _cleaned(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_cleaned(part) for part in value]
    return value
