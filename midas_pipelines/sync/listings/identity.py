"""Finds the item of a 4Seller product: by our own metadata first, then by its SKU in any spelling. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from midas_pipelines.fourseller.models import Product
from midas_pipelines.fourseller.spelling import folded
from midas_pipelines.storefront.catalog import ItemKey

SOURCE = "midastechnical"
"""The mark the contract asks for in a product's metadata."""


def identity(key: ItemKey) -> dict[str, Any]:
    """The metadata that marks a product as ours, with its item."""
    return {"source": SOURCE, "product_id": key[0], "variant_id": key[1]}


def owner(product: Product) -> ItemKey | None:
    """The item that our metadata names; None for a product that is not marked as ours. Ids may come as texts."""
    marked: Mapping[str, Any] = product.metadata or {}
    if str(marked.get("source") or "").strip().lower() != SOURCE:
        return None
    try:
        variant = str(marked.get("variant_id") or "").strip()
        return int(str(marked.get("product_id")).strip()), int(variant) if variant else None
    except ValueError:
        return None


class Known:
    """Unmapped products of a complete list, found by SKU or by our metadata without a call."""

    def __init__(self, products: Iterable[Product]) -> None:
        self._by_sku: dict[str, list[Product]] = {}
        self._by_owner: dict[ItemKey, list[Product]] = {}
        for product in products:
            self._by_sku.setdefault(folded(product.sku or ""), []).append(product)
            whose = owner(product)
            if whose is not None:
                self._by_owner.setdefault(whose, []).append(product)

    def find(self, sku: str, key: ItemKey) -> list[Product]:
        """Those under the SKU, in any spelling, and those marked as the item's."""
        return [*self._by_sku.get(folded(sku), ()), *self._by_owner.get(key, ())]


def meant(sku: str, key: ItemKey, products: Iterable[Product]) -> list[Product]:
    """Those of the products that may be this item's: of its SKU, marked as its own, or of its SKU in another spelling.

    The surest come first. Another spelling does not count on a product that is marked as another item's.
    """
    ranked: list[tuple[int, Product]] = []
    for product in {one.id: one for one in products}.values():
        whose, shown = owner(product), product.sku or ""
        if shown == sku:
            ranked.append((0 if whose == key else 1, product))
        elif whose == key:
            ranked.append((2, product))
        elif whose is None and shown and folded(shown) == folded(sku):
            ranked.append((3, product))
    return [product for _, product in sorted(ranked, key=lambda one: one[0])]
