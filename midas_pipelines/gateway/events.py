"""Reading a webhook's body into an event: its type, what it is about, and its data. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from midas_pipelines.fourseller.http.body import read_json
from midas_pipelines.fourseller.lenient import id_in
from midas_pipelines.store.gateway.webhooks import ORDER
from midas_pipelines.sync.orders.changes.quarantine import short_id

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
    try:
        value = read_json(body)
    except ValueError:
        raise BadEvent("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise BadEvent("The body should be a JSON object.")
    kind, data = value.get("type"), value.get("data")
    if not isinstance(kind, str) or not kind.strip():
        raise BadEvent("The event should say its `type`.")
    if not isinstance(data, dict):
        raise BadEvent("The event's `data` should be the whole order or product.")
    return Event(kind.strip()[:LONGEST_TYPE], _subject(kind, data), data)


def _subject(kind: str, data: dict[str, Any]) -> str | None:
    if kind.partition(".")[0] in ("product", "inventory"):
        given = id_in(data, "id") or id_in(data, "product_id")
        return None if given is None else f"product:{given[:LONGEST_SUBJECT]}"
    order = data.get("order")  # of whatever kind: an order's events are found when its buyer is erased
    within = id_in(order, "id") if isinstance(order, dict) else None
    given = within or id_in(data, "order_id") or id_in(data, "id")
    return None if given is None else f"{ORDER}{short_id(given)}"
