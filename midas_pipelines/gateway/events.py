"""Reading a webhook's body into an event: its type, what it is about, and its data. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from midas_pipelines.store.webhooks import ORDER
from midas_pipelines.sync.orders.set_aside import short_id

ORDER_TYPES = frozenset({"order.created", "order.updated", "order.cancelled"})
PRODUCT_TYPES = frozenset({"inventory.updated", "product.updated", "product.deleted"})
LONGEST_TYPE = 100
LONGEST_SUBJECT = 200


class BadEvent(Exception):
    """The body is not an event; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a webhook said. `subject` is None where nothing names an order or a product."""

    type: str
    subject: str | None
    data: dict[str, Any]


def read_event(body: bytes) -> Event:
    """The event in a body, as `{"type", "timestamp", "data"}`. Raises BadEvent."""
    value = _parse(body)
    if not isinstance(value, dict):
        raise BadEvent("The body should be a JSON object.")
    kind, data = value.get("type"), value.get("data")
    if not isinstance(kind, str) or not kind.strip():
        raise BadEvent("The event should say its `type`.")
    if not isinstance(data, dict):
        raise BadEvent("The event's `data` should be the whole order or product.")
    return Event(kind.strip()[:LONGEST_TYPE], _subject(kind, data), data)


def _parse(body: bytes) -> Any:
    try:
        value = _without_nul(json.loads(body.decode(), parse_constant=_refuse))
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair cannot be stored
    except (ValueError, RecursionError):
        raise BadEvent("The body is not JSON in UTF-8 that can be stored.") from None
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _without_nul(value: Any) -> Any:
    """The value without NUL characters, which PostgreSQL cannot store."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nul(part) for part in value]
    return value


def _subject(kind: str, data: dict[str, Any]) -> str | None:
    given = data.get("id") or data.get("product_id")
    if not isinstance(given, str | int) or isinstance(given, bool):
        return None
    what = kind.partition(".")[0]
    if what == "order":
        return f"{ORDER}{short_id(str(given))}"
    named = "product" if what == "inventory" else what
    return f"{named[:10]}:{str(given)[:LONGEST_SUBJECT]}"
