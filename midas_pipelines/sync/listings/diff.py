"""Compares a listing with the desired state, field by field, and finds which side changed. Pure.

The base of the comparison is what 4Seller last confirmed: a field that differs from it was edited on 4Seller; one that
does not is a change of the shop's that is still on its way. Where the last acknowledged value is unknown, because a write of ours may or may
not have arrived, no difference counts as an edit. A price or quantity that 4Seller does not show is no edit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from midas_pipelines.fourseller.models import Product, ProductDraft
from midas_pipelines.store.items.claims import Mapping
from midas_pipelines.storefront.types import to_cents
from midas_pipelines.sync.listings.content import content, content_hash
from midas_pipelines.sync.listings.hub_form import is_confirmed, keeps_form, priced
from midas_pipelines.sync.listings.pins import CONTENT, draft_quantity, followed, overlaid, pin
from midas_pipelines.sync.listings.plan import Change
from midas_pipelines.sync.orders.model.amounts import LARGEST_AMOUNT

LONGEST_SHOWN = 60


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
    if product.price is None or product.price != draft.price:
        found.append(
            Difference(
                "price",
                str(draft.price),
                str(product.price),
                price_edited(mapping, product),
                product.price is not None,
            )
        )
    quantity = shown_quantity(product)
    if quantity != change.quantity:
        # Acknowledged values are cleared where they have to be sent again.
        edited = None not in (quantity, mapping.acked_quantity) and quantity != mapping.acked_quantity
        found.append(
            Difference("quantity", str(change.quantity), str(quantity), edited, quantity is not None)
        )
    unseen = {name: getattr(draft, name) for name in product.unseen & set(CONTENT)}
    same = content_hash(priced(product, draft.price).model_copy(update=unseen)) == change.content_hash
    if not same and not (keeps_form(mapping, product) and is_confirmed(mapping, draft)):
        shop, fourseller = _parts(draft, product)
        found.append(Difference("content", shop, fourseller, content_edited(mapping, product)))
    return found


def content_edited(mapping: Mapping, product: Product) -> bool:
    """Whether its content was edited on 4Seller, price and quantity apart."""
    if mapping.acked_hash is None or product.unseen & set(CONTENT) or keeps_form(mapping, product):
        return False
    return mapping.acked_hash != content_hash(priced(product, mapping.acked_price))


def price_edited(mapping: Mapping, product: Product) -> bool:
    """Whether its price was edited on 4Seller."""
    return None not in (mapping.acked_price, product.price) and product.price != mapping.acked_price


def shown_quantity(product: Product) -> int | None:
    """The quantity the product shows, or None where it has none."""
    return product.inventory.quantity if product.inventory is not None else None


def seen(mapping: Mapping, product: Product) -> dict[str, object]:
    """What the product shows, as the columns that hold what 4Seller confirmed, where it differs from them."""
    price = mapping.acked_price if product.price is None else product.price
    words = content_hash(priced(product, price))
    same = price == mapping.acked_price and words != mapping.acked_hash and keeps_form(mapping, product)
    shown: dict[str, object] = {
        "acked_hash": mapping.acked_hash if same or product.unseen & set(CONTENT) else words,
        "acked_price": storable(price),
        "acked_quantity": shown_quantity(product),
    }
    return {name: value for name, value in shown.items() if getattr(mapping, name) != value}


def storable(price: Decimal | None) -> Decimal | None:
    """The price in cents; None for one that somebody on 4Seller made too large for our column."""
    return to_cents(price) if price is not None and price < LARGEST_AMOUNT else None


def keep_edits(change: Change, product: Product) -> Change:
    """The change with every protected field as the product shows it now; edits found are held for reconcile.

    Args:
        change: an update whose `guarded` fields are not to be written over unread.
        product: as 4Seller has it this moment.
    """
    assert change.draft is not None
    mapping = change.mapping
    pins = followed(mapping.pinned_fields, product) or {}
    if "price" in change.guarded - pins.keys() and price_edited(mapping, product):
        pins["price"] = pin(product, "price", held=True)
    if "content" in change.guarded - pins.keys() and content_edited(mapping, product):
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
        name
        for name in sorted({*ours, *theirs} - {"price"})
        if _same(ours.get(name)) != _same(theirs.get(name))
    ]
    return _shown(names, ours), _shown(names, theirs)


def _same(value: object) -> str:
    return str(value)


def _shown(names: list[str], values: dict[str, object]) -> str:
    return "; ".join(f"{name}: {str(values.get(name, '(none)'))[:LONGEST_SHOWN]}" for name in names)
