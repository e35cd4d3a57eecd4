"""Pins: fields of a listing that stay as a person, or a policy, left them on 4Seller, whatever the shop says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from midas_pipelines.fourseller.models import Inventory, Product, ProductDraft

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


def followed(pins: Pins | None, product: Product) -> dict[str, Any]:
    """The pins with the values that the product shows now."""
    kept = {name: old for name, old in (pins or {}).items() if name != "listing"}  # it is there
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
