"""Builds the desired listing of an item: content, quantity, and the reason why it cannot be listed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from types import EllipsisType
from typing import Any

from pydantic import ValidationError

from midas_pipelines.fourseller.models import Attributes, Image, Inventory, Product, ProductDraft, Shipping
from midas_pipelines.storefront.catalog import ItemKey, ShopItem

LONGEST_SKU, LONGEST_TITLE = 100, 500
"""Characters that the contract lets a SKU and a title have."""

SOURCE = "midastechnical"
"""The mark the contract asks for in a product's metadata."""

NOT_ON_SALE = frozenset({"inactive", "draft", "archived", "deleted", "removed", "disabled"})
NOT_ON_SALE |= {"suspended", "paused", "ended", "hidden"}
"""Words of hubs for a product that nobody can buy; any other word counts as active."""

_encode = json.JSONEncoder(sort_keys=True).encode

VARIANT_ATTRIBUTES = {"color": "color", "colour": "color", "size": "size"}


def unlistable(item: ShopItem, title_limit: int) -> str | None:
    """Why 4Seller cannot list the item, in words for the operator; None when it can.

    Args:
        item: as the shop has it.
        title_limit: the longest title 4Seller takes, in characters (`MIDAS_TITLE_LIMIT`).
    """
    if not item.sku:
        return "It has no SKU: give it one in the shop."
    if len(item.sku) > LONGEST_SKU:
        return f"Its SKU has {len(item.sku)} characters, 4Seller takes {LONGEST_SKU}: shorten it."
    if not item.name.strip():
        return "Its name is empty: give it one in the shop."
    limit = min(title_limit, LONGEST_TITLE)
    if len(title(item)) > limit:
        return f"Its title has {len(title(item))} characters, 4Seller takes {limit}: shorten its name."
    if item.stock_odd:
        return "Its stock is not a whole number below 2,147,483,648: set it right in the shop."
    if item.price <= 0:
        return f"Its selling price is {item.price} USD: set a price above zero, or a discount below 100 %."
    return None


def title(item: ShopItem) -> str:
    """The name with its white space folded, and the option of a variant behind it."""
    name = " ".join(item.name.split())
    return f"{name} ({item.option})" if item.option else name


def draft(item: ShopItem, quantity: int, price: Decimal) -> ProductDraft:
    """The desired product, with quantity and price (USD) after the rules."""
    assert item.sku is not None
    weight = None if item.weight is None else format(item.weight, "f")
    kind, _, value = (item.option or "").partition(": ")
    name = VARIANT_ATTRIBUTES.get(kind.strip().lower())
    return ProductDraft(
        title=title(item),
        sku=item.sku,
        price=price,
        description=item.description or "",
        currency="USD",
        category=item.category,
        brand=item.brand,
        condition="new",
        images=[Image(url=url, alt=title(item)) for url in item.images],
        attributes=Attributes(weight=weight, dimensions=item.dimensions, **({name: value} if name else {})),
        inventory=Inventory(quantity=quantity, track_quantity=True),
        shipping=Shipping(weight=weight, dimensions=item.dimensions),
        status="active",
        metadata=identity(item.key),
    )


def identity(key: ItemKey) -> dict[str, Any]:
    """The metadata that marks a product as ours, with its item."""
    return {"source": SOURCE, "product_id": key[0], "variant_id": key[1]}


def content_hash(product: ProductDraft | Product, price: Decimal | EllipsisType | None = ...) -> str:
    """SHA-256 of what a buyer sees of the product except its quantity; at another price, where one is given.

    The same for a draft and for that draft read back: a field that is missing, null or empty counts as the same,
    and so do `8.5` and `"8.50"`.
    """
    return hashlib.sha256(_encode(content(product, price)).encode()).hexdigest()


def content(product: ProductDraft | Product, price: Decimal | EllipsisType | None = ...) -> dict[str, Any]:
    """What a buyer sees of the product except its quantity, in one normalized form."""
    fields = {
        "title": product.title,
        "sku": product.sku,
        "price": _plain(product.price if price is ... else price),
        "description": product.description,
        "currency": product.currency,
        "category": product.category,
        "brand": product.brand,
        "condition": product.condition,
        "images": [(image.url, image.alt or None) for image in product.images or []],
        "attributes": _measures(product.attributes, ("weight", "dimensions", "color", "size")),
        "shipping": _measures(product.shipping, ("weight", "dimensions")),
        "status": product.status if (product.status or "").casefold() in NOT_ON_SALE else "active",
    }
    return {name: value for name, value in fields.items() if value}  # without what is empty


def _plain(number: object) -> str | None:
    return None if number is None or number == "" else _normal(str(number))


@lru_cache(10_000)
def _normal(text: str) -> str:
    """A number as its shortest text; what is none, as it is."""
    try:
        return format(Decimal(text).normalize(), "f")
    except ArithmeticError:
        return text


def _measures(group: Attributes | Shipping | None, names: tuple[str, ...]) -> dict[str, str]:
    return {name: plain for name in names if group is not None and (plain := _plain(getattr(group, name)))}


WORDS = ("title", "description", "category", "brand", "condition")
CONTENT = (*WORDS, "images", "attributes", "shipping", "currency", "status")
"""The parts of a product that `content` covers."""

FIELDS = ("price", "quantity", "content", *CONTENT)
"""The fields that can be pinned."""

Pins = Mapping[str, Any]
"""Field -> {"value": as 4Seller shows it, "held": whether it waits for a decision}."""


LISTED_PIN = {"value": "listed", "held": False}
"""The pin of a listing that stays, with quantity 0, though the shop no longer sells the item."""


def pin(product: Product, field: str, *, held: bool = False) -> dict[str, Any]:
    """The pin of a field as the product shows it."""
    return {"value": shown_value(product, field), "held": held}


def shown_value(product: Product, field: str) -> Any:
    """A field of the product as JSON keeps it."""
    if field == "price":
        return None if product.price is None else format(product.price, "f")
    if field == "quantity":
        return None if product.inventory is None else product.inventory.quantity
    parts = product.model_dump(mode="json", include=set(CONTENT))
    return parts if field == "content" else parts.get(field)


def followed(pins: Pins | None, product: Product) -> dict[str, Any] | None:
    """The pins with the values that the product shows now; None where nothing is pinned."""
    if not pins:
        return None
    kept = {name: old for name, old in pins.items() if name != "listing"}  # it is there
    return {name: pin(product, name, held=bool(old.get("held"))) for name, old in kept.items()}


def is_kept_off(pins: Pins | None) -> bool:
    """Whether the item's listing was removed on 4Seller, and stays so until that is decided or released."""
    return bool((pins or {}).get("listing", LISTED_PIN) != LISTED_PIN)


def overlaid(draft: ProductDraft, pins: Pins | None) -> ProductDraft:
    """The draft with each pinned field as it was pinned; a value that 4Seller would not accept is skipped."""
    for name, kept in (pins or {}).items():
        try:
            draft = ProductDraft.model_validate(draft.model_dump() | _given(draft, name, kept.get("value")))
        except ValidationError:
            continue
    return draft


def _given(draft: ProductDraft, name: str, value: Any) -> dict[str, Any]:
    """The parts of a draft that a pinned value covers."""
    if name == "price":
        return {} if value is None else {"price": Decimal(str(value))}
    if name == "quantity":
        return {} if value is None else {"inventory": Inventory(quantity=value)}
    if name == "content":
        return {part: _part(draft, part, (value or {}).get(part)) for part in CONTENT}
    return {name: _part(draft, name, value)} if name in CONTENT else {}


def _part(draft: ProductDraft, name: str, value: Any) -> Any:
    """A part as pinned, except required parts that are missing."""
    return value or getattr(draft, name) if name in ("title", "currency") else value


def pinned_quantity(pins: Pins | None, otherwise: int) -> int:
    """The quantity that is pinned, or the other one."""
    value = (pins or {}).get("quantity", {}).get("value")
    return otherwise if value is None else int(value)


def draft_quantity(draft: ProductDraft) -> int:
    """The quantity a draft carries; 0 without one."""
    return (draft.inventory.quantity or 0) if draft.inventory is not None else 0


def held_fields(pins: Pins | None) -> list[str]:
    """The pinned fields that wait for a decision."""
    return [name for name, kept in (pins or {}).items() if kept.get("held")]


def with_pins(pins: Pins | None, added: Mapping[str, Any]) -> dict[str, Any]:
    """The pins and these."""
    return {**(pins or {}), **added}


def without_pins(pins: Pins | None, names: Iterable[str]) -> dict[str, Any] | None:
    """The pins but these; None where none is left."""
    gone = set(names)
    return {name: kept for name, kept in (pins or {}).items() if name not in gone} or None
