"""Compares what 4Seller shows with what the shop wants and with what was confirmed, field by field. Pure.

The base of the comparison is what 4Seller last confirmed: a field that differs from it was edited on 4Seller; one that
does not is a change of the shop's that is still on its way. Where the last acknowledged value is unknown, because a write
of ours may or may not have arrived, no difference counts as an edit. What 4Seller does not show is no edit either.

Hubs keep content in a form of their own: other capitals, images at other URLs, HTML removed. `observed_hash` of a mapping
is the form in which 4Seller last showed the item, in its answer to our write or in a list; `acked_hash` is what we sent
for it. While the form stays, nothing was edited.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from midas_pipelines.fourseller.models import Product, ProductDraft
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.storefront.types import LARGEST_AMOUNT, to_cents
from midas_pipelines.sync.listings.pins import CONTENT, followed, overlaid, pin
from midas_pipelines.sync.listings.plan import (
    NOT_ON_SALE,
    Change,
    content,
    content_hash,
    draft_quantity,
)
from midas_pipelines.text import folded

LONGEST_SHOWN = 60
PARTS = frozenset({*CONTENT, "sku"})
NEVER_EMPTY = ("title", "sku", "currency", "status")
"""What each product has: empty, it was not shown."""

OPTIONAL = frozenset({"category", "brand"})
"""Parts that a draft may lack; where a hub leaves out others, it does not show all it has."""

TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which 4Seller and the shop differ; `edited` where 4Seller's side changed."""

    field: str  # listing|price|quantity|content
    shop: str
    fourseller: str
    edited: bool
    seen: bool = True  # False where 4Seller does not show the field


def differences(change: Change, product: Product) -> list[Difference]:
    """The differences between the product and the change, which must have a draft."""
    draft, mapping = change.draft, change.mapping
    assert draft is not None
    found = []
    price, quantity = product.price, shown_quantity(product)
    if price != draft.price:
        edited = price_edited(mapping, product)
        found.append(Difference("price", str(draft.price), str(price), edited, price is not None))
    if quantity != change.quantity:
        # Acknowledged values are cleared where they have to be sent again.
        edited = None not in (quantity, mapping.acked_quantity) and quantity != mapping.acked_quantity
        found.append(
            Difference("quantity", str(change.quantity), str(quantity), edited, quantity is not None)
        )
    if not _same_content(change, product, draft):
        shop, fourseller = _parts(draft, filled(product, draft))
        found.append(Difference("content", shop, fourseller, content_edited(mapping, product)))
    return found


def _same_content(change: Change, product: Product, draft: ProductDraft) -> bool:
    shown = filled(product, draft)
    if content_hash(shown, draft.price) == change.content_hash:
        return True
    if hidden(product):  # too little to know its form again by
        return alike(draft, shown)
    return keeps_form(change.mapping, product) and is_confirmed(change.mapping, draft)


def hidden(product: Product) -> frozenset[str]:
    """The parts of its content that 4Seller does not show, or not readably."""
    left_out = PARTS - product.model_fields_set
    empty = {name for name in NEVER_EMPTY if not getattr(product, name)}
    return (product.unseen & PARTS) | empty | (left_out if left_out - OPTIONAL else set())


def filled(product: Product, draft: ProductDraft) -> Product:
    """The product with the parts that 4Seller does not show as they should be."""
    unseen = {name: getattr(draft, name) for name in hidden(product)}
    return product.model_copy(update=unseen) if unseen else product


def content_edited(mapping: Mapping, product: Product) -> bool:
    """Whether its content was edited on 4Seller, price and quantity apart."""
    if mapping.acked_hash is None or hidden(product) or keeps_form(mapping, product):
        return False
    return mapping.acked_hash != content_hash(product, mapping.acked_price)


def price_edited(mapping: Mapping, product: Product) -> bool:
    """Whether its price was edited on 4Seller."""
    return None not in (mapping.acked_price, product.price) and product.price != mapping.acked_price


def shown_quantity(product: Product) -> int | None:
    """The quantity the product shows, or None where it has none."""
    return product.inventory.quantity if product.inventory is not None else None


def seen(mapping: Mapping, product: Product) -> dict[str, object]:
    """What the product shows, as the columns that hold what 4Seller confirmed, where it differs from them."""
    price = mapping.acked_price if product.price is None else product.price
    words = content_hash(product, price)
    same = price == mapping.acked_price and words != mapping.acked_hash and keeps_form(mapping, product)
    shown: dict[str, object] = {
        "acked_hash": mapping.acked_hash if same or hidden(product) else words,
        "acked_price": storable(price),
        "acked_quantity": shown_quantity(product),
    }
    return {name: value for name, value in shown.items() if getattr(mapping, name) != value}


def storable(price: Decimal | None) -> Decimal | None:
    """The price in cents; None for one that somebody on 4Seller made too large for our column."""
    return to_cents(price) if price is not None and price < LARGEST_AMOUNT else None


def keep_edits(change: Change, product: Product) -> Change:
    """The update with each protected field as the product, just read, shows it; edits found are held for reconcile."""
    assert change.draft is not None
    mapping = change.mapping
    pins = followed(mapping.pinned_fields, product)
    if "price" in change.protected_fields - pins.keys() and price_edited(mapping, product):
        pins["price"] = pin(product, "price", held=True)
    if "content" in change.protected_fields - pins.keys() and content_edited(mapping, product):
        pins["content"] = pin(product, "content", held=True)
    draft = overlaid(change.draft, pins)
    return replace(
        change,
        mapping=replace(mapping, pinned_fields=pins or None),
        draft=draft,
        content_hash=content_hash(draft),
        quantity=draft_quantity(draft),
    )


def _parts(draft: ProductDraft, product: Product) -> tuple[str, str]:
    """The parts that differ, each side's in short."""
    ours, theirs = content(draft), content(product)
    names = [
        name for name in sorted({*ours, *theirs} - {"price"}) if str(ours.get(name)) != str(theirs.get(name))
    ]
    return _shown(names, ours), _shown(names, theirs)


def _shown(names: list[str], values: dict[str, object]) -> str:
    return "; ".join(f"{name}: {str(values.get(name, '(none)'))[:LONGEST_SHOWN]}" for name in names)


# 4Seller's own form of our content


def form(product: Product) -> str:
    """Hash of the content that 4Seller shows, price and quantity apart."""
    return content_hash(product, None)


def keeps_form(mapping: Mapping, product: Product) -> bool:
    """Whether 4Seller still shows its form of the acknowledged content."""
    return mapping.acked_hash is not None and mapping.observed_hash == form(product)


def is_confirmed(mapping: Mapping, draft: ProductDraft) -> bool:
    """Whether the draft's content is the one that 4Seller confirmed, whatever its price."""
    return mapping.acked_hash == content_hash(draft, mapping.acked_price)


def alike(draft: ProductDraft, product: Product) -> bool:
    """Whether the product may be 4Seller's form of the draft: same letters and digits, same number of images."""
    ours, theirs = content(draft, None), content(product, None)
    return ours == theirs or bool(_bare(ours) == _bare(theirs))


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _bare(part) for name, part in value.items()}
    if isinstance(value, list):
        return len(value)
    text = folded(TAG.sub(" ", html.unescape(str(value))))
    return "".join(character for character in text if character.isalnum())


# 4Seller's answer to a write: a 2xx is no proof, the body shows what was applied


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
    return f"4Seller accepted the write but shows {', '.join(other)}; it is sent again." if other else None


def content_taken(draft: ProductDraft, answer: Product, before: Mapping) -> bool:
    """Whether the answer shows new content where new content was sent."""
    if before.acked_hash is None or is_confirmed(before, draft) or alike(draft, filled(answer, draft)):
        return True
    as_sent_before = content_hash(answer, before.acked_price) == before.acked_hash
    return not keeps_form(before, answer) and not as_sent_before


def shown_form(draft: ProductDraft, answer: Product) -> str | None:
    """The form of the answer; None where it is as sent, or shows too little: the next list will show it."""
    if hidden(answer) or content(answer, None) == content(draft, None):
        return None
    return form(answer)
