"""Reads what 4Seller answered to a write: a 2xx is no proof, the body shows what holds. Pure."""

from __future__ import annotations

from midas_pipelines.fourseller.models import InventoryLevel, Product, ProductDraft
from midas_pipelines.sync.differences import shown_quantity
from midas_pipelines.sync.pins import draft_quantity


def not_taken(draft: ProductDraft, answer: Product) -> str | None:
    """What the answer shows otherwise than it was sent, in words for the operator; None when all was taken.

    Price, quantity and status have to be as sent. Words and pictures may come back in 4Seller's own form. What the
    answer leaves out says nothing.
    """
    quantity = draft_quantity(draft)
    other = []
    if answer.price is not None and answer.price != draft.price:
        other.append(f"the price {answer.price} for {draft.price}")
    if shown_quantity(answer) not in (None, quantity):
        other.append(f"the quantity {shown_quantity(answer)} for {quantity}")
    if answer.status and draft.status and answer.status.casefold() != draft.status.casefold():
        other.append(f"the status {answer.status[:30]} for {draft.status}")
    return _sentence(other)


def quantity_not_taken(quantity: int, answer: InventoryLevel) -> str | None:
    """The same for a quantity alone."""
    shown = answer.quantity
    return None if shown in (None, quantity) else _sentence([f"the quantity {shown} for {quantity}"])


def _sentence(other: list[str]) -> str | None:
    return f"4Seller answered well but shows {', '.join(other)}; it is sent again." if other else None
