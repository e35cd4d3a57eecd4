"""What a person may read of a payload: fields that are known to name nobody; the rest is masked."""

from __future__ import annotations

from typing import Any

SHOWN = frozenset(
    [
        "type",
        "timestamp",
        "id",
        "sku",
        "product_id",
        "order_id",
        "title",
        "description",
        "status",
        "currency",
        "price",
        "total",
        "shipping_cost",
        "tax",
        "discount",
        "quantity",
        "track_quantity",
        "created_at",
        "updated_at",
        "sales_channel",
        "carrier",
        "category",
        "brand",
        "condition",
        "weight",
        "dimensions",
        "color",
        "size",
        "country",
        "forgotten",
    ]
)
"""Fields of the contract without personal data."""

MASKED = "(hidden)"
MOST = 500


def without_persons(payload: Any, *, field: str = "") -> Any:
    """The payload with every value masked but those of known fields; names of unknown fields are masked too."""
    if isinstance(payload, dict):
        parts = list(payload.items())[:MOST]
        return {
            _named(str(name), place): without_persons(part, field=str(name))
            for place, (name, part) in enumerate(parts)
        }
    if isinstance(payload, list):
        return [without_persons(part, field=field) for part in payload[:MOST]]
    return payload if payload is None or isinstance(payload, bool) or field in SHOWN else MASKED


def _named(name: str, place: int) -> str:
    """The field's name where it is one that a program gives, such as `postal_code`; a value may stand as a name."""
    return (
        name
        if name.isascii() and name.isidentifier() and name.islower() and len(name) <= 30
        else f"field {place + 1}"
    )
