"""Recognizes 4Seller's own form of our content: other capitals, images at its own URLs, HTML removed. Pure.

`observed_hash` of a mapping is the form in which 4Seller last showed the item, in its answer to our write or in a list;
`acked_hash` is what we sent for it. While the form stays, nothing was edited.
"""

from __future__ import annotations

import html
import re
from decimal import Decimal
from typing import Any, TypeVar

from midas_pipelines.fourseller.models import Product, ProductDraft
from midas_pipelines.fourseller.spelling import folded
from midas_pipelines.store.items.claims import Mapping
from midas_pipelines.sync.listings.content import content, content_hash

TAG = re.compile(r"<[^>]*>")
Listed = TypeVar("Listed", Product, ProductDraft)


def form(product: Product) -> str:
    """Hash of the content that 4Seller shows, price and quantity apart."""
    return content_hash(priced(product, None))


def priced(listed: Listed, price: Decimal | None) -> Listed:
    """The same at another price."""
    return listed.model_copy(update={"price": price})


def keeps_form(mapping: Mapping, product: Product) -> bool:
    """Whether 4Seller still shows its form of the acknowledged content."""
    return mapping.acked_hash is not None and mapping.observed_hash == form(product)


def is_confirmed(mapping: Mapping, draft: ProductDraft) -> bool:
    """Whether the draft's content is the one that 4Seller confirmed, whatever its price."""
    return mapping.acked_hash == content_hash(priced(draft, mapping.acked_price))


def alike(draft: ProductDraft, product: Product) -> bool:
    """Whether the product may be 4Seller's form of the draft: same letters and digits, same number of images."""
    ours, theirs = content(priced(draft, None)), content(priced(product, None))
    return bool(_bare(ours) == _bare(theirs))


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _bare(part) for name, part in value.items()}
    if isinstance(value, list):
        return len(value)
    text = folded(TAG.sub(" ", html.unescape(str(value))))
    return "".join(character for character in text if character.isalnum())
