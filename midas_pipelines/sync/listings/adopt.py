"""Finds the 4Seller products of an item, by our own metadata first, then by its SKU in any spelling; removes products."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import Ambiguous, BadItem, Conflict, NotFound
from midas_pipelines.fourseller.listed import ListedProducts
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.pins import overlaid, pin
from midas_pipelines.sync.listings.plan import SOURCE, Action, Change, content_hash
from midas_pipelines.sync.threads import in_thread
from midas_pipelines.text import folded


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
    """Unmapped products of a complete list, found by SKU or by our metadata without a call; kept by their ids alone."""

    def __init__(self, listed: ListedProducts) -> None:
        self.listed = listed
        self._by_sku: dict[str, list[str]] = {}
        self._by_owner: dict[ItemKey, list[str]] = {}
        for product in listed.untied():
            self._by_sku.setdefault(folded(product.sku or ""), []).append(product.id)
            whose = owner(product)
            if whose is not None:
                self._by_owner.setdefault(whose, []).append(product.id)

    def find(self, sku: str, key: ItemKey) -> list[Product]:
        """Those under the SKU, in any spelling, and those marked as the item's."""
        ids = [*self._by_sku.get(folded(sku), ()), *self._by_owner.get(key, ())]
        return list(self.listed.products(ids).values()) if ids else []


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


def kept_by_policy(change: Change, product: Product) -> dict[str, Any] | None:
    """The pins of an item that takes over a listing: what a policy does not leave to the shop stays until it is decided."""
    pins = dict(change.mapping.pinned_fields or {})
    for field in sorted((change.protected_fields & {"price", "content"}) - pins.keys()):
        pins[field] = pin(product, field, held=True)
    return pins or None


async def adoptable(
    change: Change, client: FourSeller, context: SyncContext, known: Known | None, *, look: bool
) -> list[Product]:
    """The products that are this item's and tied to no other, the surest first; `look` asks 4Seller too."""
    # What an earlier create made has the SKU that the mapping held then.
    sku = change.sku if change.action is Action.CREATE else change.mapping.sku
    key = change.mapping.key
    if not sku:
        return []
    found = known.find(sku, key) if known is not None else []
    if look:
        # 4Seller may have stored another spelling, and look for that one alone.
        for spelling in dict.fromkeys((sku, sku.lower(), sku.upper())):
            looked_up = meant(sku, key, await client.find_by_sku(spelling))
            found += looked_up
            if looked_up or not change.mapping.in_doubt:
                break
    found = meant(sku, key, found)
    return await in_thread(_free, context, found, change.mapping.id, sku) if found else []


def _free(context: SyncContext, found: list[Product], mapping_id: int, sku: str) -> list[Product]:
    """Those of the products that are no other item's: neither tied to one, nor of a SKU that one has in the shop."""
    ids = [product.id for product in found]
    others = [product.sku for product in found if product.sku != sku]
    tied = sa.select(mappings.c.fourseller_product_id).where(
        mappings.c.fourseller_product_id.in_(ids), mappings.c.id != mapping_id
    )
    sold: set[str | None] = set()
    with context.database.reading() as connection:
        taken = set(connection.scalars(tied))
        for column in (products.c.sku, product_variants.c.sku) if others else ():
            sold |= set(connection.scalars(sa.select(column).where(column.in_(others))))
    return [product for product in found if product.id not in taken and product.sku not in sold]


def as_adopted(change: Change, product: Product) -> Change:
    """The change for a listing that the item takes over: what a policy keeps is as the listing shows it."""
    pins = kept_by_policy(change, product)
    if change.draft is None or pins == (change.mapping.pinned_fields or None):
        return change
    wanted = overlaid(change.draft, pins)
    mapping = replace(change.mapping, pinned_fields=pins)
    return replace(change, mapping=mapping, draft=wanted, content_hash=content_hash(wanted))


async def remove(client: FourSeller, product_id: str) -> None:
    """Deletes a product and checks that it is gone; one that stays is set to quantity 0.

    Raises:
        Conflict: 4Seller has it still; its quantity is 0.
        FourSellerError: a call failed.
    """
    why = "it answered well"
    try:
        await client.delete_product(product_id)
        await client.product(product_id)
    except NotFound:
        return
    except (Ambiguous, BadItem, Conflict) as refused:
        why = str(refused)
    with suppress(NotFound):
        left = await client.set_quantity(product_id, 0, datetime.now(UTC))
        raise Conflict(
            f"4Seller still has product {product_id} after its deletion ({why}). Its quantity was set to {left.quantity}, "
            "and the deletion is tried again.",
            item=product_id,
            status=409,
        )
