"""Reads a marketplace order into a `Sale`: lines, amounts, status, and the digests that tell an edit from a repetition. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b, sha256
from typing import Any

from midas_pipelines.fourseller.models import Order, OrderItem, read_order
from midas_pipelines.fourseller.status import SHIPPED_STATES, OrderStatus, local_status
from midas_pipelines.storefront.types import ZERO, same_amount, sound
from midas_pipelines.sync.orders.model.amounts import PLAIN_FIELDS, extras
from midas_pipelines.text import to_json, writable, writable_in

PARTS = ("lines", "amounts", "buyer", "address")
DIGEST = re.compile("[0-9a-f]{15}")
Content = dict[str, str]
"""A digest of each of these parts that a message has."""


def write_content(content: Content) -> str:
    """The value of the column `content_hash`: at most 64 characters."""
    return ".".join(content.get(part, "") for part in PARTS)


def read_content(written: str | None) -> Content:
    """The digests of a `content_hash`; what has another form is none."""
    found = zip(PARTS, (written or "").split("."), strict=False)
    return {part: one for part, one in found if DIGEST.fullmatch(one)}


def changed_parts(content: Content, known: Content) -> set[str]:
    """The parts of the content that differ from `known`."""
    return {part for part, one in content.items() if known.get(part) != one}


def some_parts(content: Content, parts: Collection[str]) -> Content:
    """Only these parts of the content."""
    return {part: one for part, one in content.items() if part in parts}


def digest(parts: Iterable[Any]) -> str | None:
    """A digest, 15 characters, of values, whatever their order; None without any."""
    return _digest(sorted(parts, key=repr))


def digest_of_fields(part: dict[str, Any]) -> str | None:
    """A digest of the fields that hold something; None when none does."""
    return _digest(sorted([item for item in part.items() if item[1] is not None]))


def _digest(parts: list[Any]) -> str | None:
    return blake2b(to_json(parts).encode(), digest_size=8).hexdigest()[:15] if parts else None


LONGEST_ID = 170
"""Characters of an order's id: a stock movement's reference adds the line number, and holds 200."""
LONGEST_NAME = 200
"""Characters of the name under which an order is stored."""
LONGEST = {"title": 255, "sku": 255, "product_id": 100, "channel": 50, "word": 50}
"""Characters of texts that are cut to their columns."""
Named = tuple[str | None, str | None]
"""The identifiers of a line: 4Seller's product id, and the SKU."""


@dataclass(slots=True)  # not frozen, which takes three times as long to make: never changed all the same
class SaleLine:
    """One line as sold. `quantity` is as received, 1 where it was missing; `needs_review` marks a missing or invalid one."""

    line: int
    sku: str | None
    fourseller_product_id: str | None
    title: str
    quantity: int
    price: Decimal
    needs_review: bool
    total: Decimal  # price times quantity, exact; a quantity below one counts for nothing
    unsaid: Collection[str] = ()  # which of title, quantity and price were missing

    @property
    def named(self) -> Named:
        """The line's own identifiers."""
        return (self.fourseller_product_id, self.sku)


@dataclass(slots=True)
class Sale:
    """One marketplace order, once read never changed but for `sealed`. Amounts are in `currency`, exactly as received; a missing
    field is None."""

    order_id: str
    sales_channel: str | None
    status: OrderStatus
    status_word: str
    known_status: bool
    paid: bool
    currency: str | None
    total: Decimal
    shipping_cost: Decimal
    tax: Decimal  # with the fees: all that is added to the prices
    discount: Decimal
    lines: tuple[SaleLine, ...]
    placed_at: datetime | None
    ordered_at: datetime  # `placed_at`, or the best substitute
    updated_at: datetime | None
    shipped_as: OrderStatus | None  # the status that says it left; a tracking number proves only a label
    buyer: dict[str, Any]
    ship_to: dict[str, Any]
    raw: dict[str, Any]
    lines_total: Decimal
    content: Content  # digests of the parts that the buyer may change
    sealed: str | None = None  # `raw`, once it is sealed
    read_at: datetime | None = None  # before 4Seller was asked, by the database's clock; None for an event
    unreadable_reason: str | None = None  # why its content could not be read, though its status could
    left_out: str | None = None  # why it is not imported, in words; a known order is updated all the same
    says_shipping: bool = True  # whether its shipping cost was there
    unreadable: tuple[str, ...] = ()  # fields that could not be read and count as missing

    @property
    def adds_up(self) -> bool:
        """Whether lines + shipping + tax - discount = total >= 0, to the smallest unit of the currency."""
        expected = self.lines_total + self.shipping_cost + self.tax - self.discount
        return self.total >= 0 and same_amount(expected, self.total, self.currency)

    @property
    def priced(self) -> str:
        """The total in words."""
        return f"{self.total} {self.currency or ''}".rstrip()

    @property
    def address(self) -> dict[str, Any]:
        """The buyer and the delivery address, as the shop stores them."""
        return {**self.buyer, **self.ship_to}

    @property
    def order_number(self) -> str:
        """The number of the shop's order: at most 50 characters, the same for the same marketplace order."""
        if len(self.order_id) <= 47:
            return f"4S-{self.order_id}"
        return f"4S-{sha256(self.order_id.encode()).hexdigest()[:40]}"

    @property
    def unread(self) -> str:
        """The fields that could not be read, in one sentence."""
        return f"4Seller sent {', '.join(self.unreadable)} in a form that cannot be read: counted as missing."

    @property
    def shipped(self) -> bool:
        """Whether a status says that the goods have left."""
        return self.shipped_as is not None

    @property
    def shop_status(self) -> str:
        """The shop's word for the status of a new order: one refunded after it left stays shipped there."""
        refunded = self.status is OrderStatus.REFUNDED
        return local_status(self.shipped_as if refunded and self.shipped_as else self.status)

    @property
    def takes_stock(self) -> bool:
        """Whether the goods have left or will leave: not when it was cancelled, or refunded and never shipped."""
        if self.status is OrderStatus.CANCELLED:
            return False
        return self.status is not OrderStatus.REFUNDED or self.shipped


def read_sale(order: Order, read_at: datetime | None = None) -> Sale:
    """Reads an order into a sale; a value that the shop's tables cannot hold counts as missing. `read_at` as in a sale."""
    raw, spelled = order.raw, to_json(order.raw)
    if "\\ufffd" in spelled or "\ufffd" in spelled:  # it may have characters that no database holds
        raw = writable_in(raw)
        order = read_order(raw)
    state, unreadable = order.state, list(order.unreadable)

    def held(amount: Decimal | None, name: str) -> Decimal | None:
        found = None if amount is None else sound(amount)
        if found is None and amount is not None:
            unreadable.append(name)
        return found

    lines = tuple([_line(number, item, held) for number, item in enumerate(order.items, start=1)])
    said_shipping = held(order.shipping_cost, "shipping_cost")
    shipping = said_shipping or ZERO
    goods = held(sum([line.total for line in lines], Decimal(0)), "price") or ZERO
    given = held(order.total, "total")
    currency = (order.currency or "").strip().upper()[:10] or None
    tax = discount = ZERO
    if given != goods + shipping or not raw.keys().isdisjoint(PLAIN_FIELDS):
        total = given if lines else None
        tax, discount = extras(raw, total=total, currency=currency, goods=goods, shipping=shipping)
    total = (sound(goods + shipping + tax - discount) or ZERO) if given is None else given
    buyer, ship_to = order.customer or {}, order.shipping_address or {}
    sold = [(one.sku, one.fourseller_product_id, one.quantity, str(one.price)) for one in lines]
    digests = {
        "lines": digest(sold),
        "amounts": None if given is None else _digest([given, shipping, tax, discount]),
        "buyer": digest_of_fields(buyer),
        "address": digest_of_fields(ship_to),
    }
    return Sale(
        order_id=order.id,
        sales_channel=(order.sales_channel or "")[: LONGEST["channel"]] or None,
        status=state.status,
        status_word=state.word[: LONGEST["word"]],
        known_status=state.known,
        paid=not state.unpaid,
        currency=currency,
        total=total,
        shipping_cost=shipping,
        tax=tax,
        discount=discount,
        lines=lines,
        placed_at=order.created_at,
        ordered_at=order.created_at or order.updated_at or datetime.now(UTC),
        updated_at=order.updated_at,
        shipped_as=state.status if state.status in SHIPPED_STATES else None,
        buyer=buyer,
        ship_to=ship_to,
        raw=raw,
        lines_total=goods,
        content={part: one for part, one in digests.items() if one is not None},
        read_at=read_at,
        unreadable=tuple(dict.fromkeys(unreadable)),
        says_shipping=said_shipping is not None,
    )


def _line(number: int, item: OrderItem, held: Callable[[Decimal | None, str], Decimal | None]) -> SaleLine:
    quantity = 1 if item.quantity is None else item.quantity
    said_price = held(item.price, "price")
    price = said_price or ZERO
    total = held(price * max(0, quantity), "price")
    if total is None:
        price = total = ZERO
    sku = (item.sku or "")[: LONGEST["sku"]].strip() or None
    said = (("title", item.title), ("quantity", item.quantity), ("price", said_price))
    return SaleLine(
        line=number,
        sku=sku,
        fourseller_product_id=item.product_id and item.product_id[: LONGEST["product_id"]],
        title=(item.title or "")[: LONGEST["title"]] or sku or f"Line {number}",
        quantity=quantity,
        price=price,
        needs_review=item.quantity is None or item.quantity < 1,
        total=total,
        unsaid=[name for name, value in said if value is None],
    )


def short_id(order_id: str) -> str:
    """The id as the column holds it: one that is too long is cut, with a digest to keep it unique."""
    name = writable(order_id)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:150]}~{sha256(name.encode()).hexdigest()[:32]}"
