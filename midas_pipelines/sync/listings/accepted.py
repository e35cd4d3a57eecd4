"""Checks 4Seller's answer to a write: a 2xx is no proof, the body shows what was applied. Pure."""

from __future__ import annotations

from midas_pipelines.fourseller.models import InventoryLevel, Product, ProductDraft
from midas_pipelines.store.items.claims import Mapping
from midas_pipelines.sync.listings.content import content_hash
from midas_pipelines.sync.listings.diff import shown_quantity
from midas_pipelines.sync.listings.hub_form import alike, form, is_confirmed, keeps_form, priced
from midas_pipelines.sync.listings.pins import draft_quantity

NOT_ON_SALE = frozenset(
    [
        "inactive",
        "draft",
        "archived",
        "deleted",
        "removed",
        "disabled",
        "suspended",
        "paused",
        "ended",
        "hidden",
    ]
)
"""Words of hubs for a product that nobody can buy."""


def not_taken(draft: ProductDraft, answer: Product, before: Mapping) -> str | None:
    """The differences between the answer and what was sent, in words for the operator; None when all was applied.

    Price and quantity have to be as sent, and what was sent as active has to be on sale, whatever 4Seller calls that
    ("live", "published"). Content and images may come back in 4Seller's own form, but not as
    they were `before` the write. A field missing in the answer is not checked.
    """
    quantity = draft_quantity(draft)
    other = []
    if answer.price is not None and answer.price != draft.price:
        other.append(f"the price {answer.price} for {draft.price}")
    if shown_quantity(answer) not in (None, quantity):
        other.append(f"the quantity {shown_quantity(answer)} for {quantity}")
    if draft.status == "active" and (answer.status or "").casefold() in NOT_ON_SALE:
        other.append(f"the status {(answer.status or '')[:30]} for {draft.status}")
    if not content_taken(draft, answer, before):
        other.append("the old content and images")
    return _sentence(other)


def content_taken(draft: ProductDraft, answer: Product, before: Mapping) -> bool:
    """Whether the answer shows new content where new content was sent."""
    if (
        answer.title is None
        or before.acked_hash is None
        or is_confirmed(before, draft)
        or alike(draft, answer)
    ):
        return True
    as_sent_before = content_hash(priced(answer, before.acked_price)) == before.acked_hash
    return not keeps_form(before, answer) and not as_sent_before


def shown_form(draft: ProductDraft, answer: Product) -> str | None:
    """The form of the answer; None where it is as sent, or shows too little: the next list will show it."""
    sent = content_hash(priced(draft, None))
    return None if answer.title is None or form(answer) == sent else form(answer)


def quantity_not_taken(quantity: int, answer: InventoryLevel) -> str | None:
    """The same for a quantity alone."""
    shown = answer.quantity
    return None if shown in (None, quantity) else _sentence([f"the quantity {shown} for {quantity}"])


def _sentence(other: list[str]) -> str | None:
    return f"4Seller accepted the write but shows {', '.join(other)}; it is sent again." if other else None
