"""Decides what an item's listing should show, and how to change it: `plan` is pure, `Planner` reads what it needs.

`push.py` applies it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from types import EllipsisType
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Attributes, Image, Inventory, Product, ProductDraft, Shipping
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.store.stock.rules import NO_RULE, Rule, available, channel_price, read_rules
from midas_pipelines.storefront.catalog import ItemKey, ShopItem, read_items
from midas_pipelines.storefront.types import unfit
from midas_pipelines.sync.listings.pins import LISTED_PIN, is_kept_off, overlaid, pinned_quantity
from midas_pipelines.text import to_json

POLICED = ("price", "content", "listing")
"""Fields whose edits on 4Seller a policy may keep."""

LONGEST_SKU, LONGEST_TITLE = 100, 500
"""Characters that the contract lets a SKU and a title have."""

SOURCE = "midastechnical"
"""The mark the contract asks for in a product's metadata."""

NOT_ON_SALE = frozenset({"inactive", "draft", "archived", "deleted", "removed", "disabled"})
NOT_ON_SALE |= {"suspended", "paused", "ended", "hidden"}
"""Words of hubs for a product that no one can buy; any other word counts as active."""

VARIANT_ATTRIBUTES = {"color": "color", "colour": "color", "size": "size"}


def unlistable(item: ShopItem, title_limit: int) -> str | None:
    """Why 4Seller cannot list the item, in words for the operator; None when it can. `title_limit` is in characters."""
    if not item.sku:
        return "It has no SKU: give it one in the shop."
    if len(item.sku) > LONGEST_SKU:
        return f"Its SKU has {len(item.sku)} characters, 4Seller takes {LONGEST_SKU}: shorten it."
    if not item.name.strip():
        return "Its name is empty: give it one in the shop."
    limit = min(title_limit, LONGEST_TITLE)
    if len(title(item)) > limit:
        return f"Its title has {len(title(item))} characters, 4Seller takes {limit}: shorten its name."
    if item.stock_odd:
        return "Its stock is not a whole number below 2,147,483,648: set it right in the shop."
    if item.price <= 0:
        return f"Its selling price is {item.price} USD: set a price above zero, or a discount below 100 %."
    return None


def title(item: ShopItem) -> str:
    """The name with its white space folded, and the option of a variant behind it."""
    name = " ".join(item.name.split())
    return f"{name} ({item.option})" if item.option else name


def draft(item: ShopItem, quantity: int, price: Decimal) -> ProductDraft:
    """The desired product, with quantity and price (USD) after the rules."""
    assert item.sku is not None
    weight = None if item.weight is None else format(item.weight, "f")
    kind, _, value = (item.option or "").partition(": ")
    name = VARIANT_ATTRIBUTES.get(kind.strip().lower())
    return ProductDraft(
        title=title(item),
        sku=item.sku,
        price=price,
        description=item.description or "",
        currency="USD",
        category=item.category,
        brand=item.brand,
        condition="new",
        images=[Image(url=url, alt=title(item)) for url in item.images],
        attributes=Attributes(weight=weight, dimensions=item.dimensions, **({name: value} if name else {})),
        inventory=Inventory(quantity=quantity, track_quantity=True),
        shipping=Shipping(weight=weight, dimensions=item.dimensions),
        status="active",
        metadata=identity(item.key),
    )


def identity(key: ItemKey) -> dict[str, Any]:
    """The metadata that marks a product as ours, with its item."""
    return {"source": SOURCE, "product_id": key[0], "variant_id": key[1]}


def content_hash(product: ProductDraft | Product, price: Decimal | EllipsisType | None = ...) -> str:
    """SHA-256 of what a buyer sees of the product except its quantity; at another price, where one is given.

    The same for a draft and for that draft read back: a field that is missing, null or empty counts as the same,
    and so do `8.5` and `"8.50"`.
    """
    return hashlib.sha256(to_json(content(product, price)).encode()).hexdigest()


def content(product: ProductDraft | Product, price: Decimal | EllipsisType | None = ...) -> dict[str, Any]:
    """What a buyer sees of the product except its quantity, in one normalized form."""
    fields = {  # in one order always: a hash is made of it
        "title": product.title,
        "sku": product.sku,
        "price": _plain(product.price if price is ... else price),
        "description": product.description,
        "currency": product.currency,
        "category": product.category,
        "brand": product.brand,
        "condition": product.condition,
        "images": [(image.url, image.alt or None) for image in product.images or []],
        "attributes": _measures(product.attributes, ("weight", "dimensions", "color", "size")),
        "shipping": _measures(product.shipping, ("weight", "dimensions")),
        "status": product.status if (product.status or "").casefold() in NOT_ON_SALE else "active",
    }
    return {name: value for name, value in fields.items() if value}  # without what is empty


def _plain(number: object) -> str | None:
    return None if number is None or number == "" else _normal(str(number))


@lru_cache(10_000)
def _normal(text: str) -> str:
    """A number as its shortest text; what is none, as it is."""
    try:
        return format(Decimal(text).normalize(), "f")
    except ArithmeticError:
        return text


def _measures(group: Attributes | Shipping | None, names: tuple[str, ...]) -> dict[str, str]:
    return {name: plain for name in names if group is not None and (plain := _plain(getattr(group, name)))}


def draft_quantity(draft: ProductDraft) -> int:
    """The quantity a draft carries; 0 without one."""
    return (draft.inventory.quantity or 0) if draft.inventory is not None else 0


class Action(StrEnum):
    """The action of a change on 4Seller."""

    CREATE = "create"
    UPDATE = "update"
    QUANTITY = "quantity"
    DELETE = "delete"
    NOTHING = "nothing"
    QUARANTINED = "quarantined"
    LOOK_UP = "look_up"  # looks up the result of a create under the SKU the item had then
    WAIT = "wait"  # another worker holds what it needs; the next run tries again


@dataclass(frozen=True, slots=True)
class Change:
    """One step from the acknowledged to the desired state."""

    mapping: Mapping
    action: Action
    draft: ProductDraft | None = None
    content_hash: str | None = None
    quantity: int | None = None
    reason: str | None = None
    shop_sku: str | None = None  # of an item that cannot be listed: its SKU in the shop, or else its name
    shared: bool = False  # quarantined because its SKU is another item's
    aside: bool = False  # removed from 4Seller, yet for sale in the shop: counts as quarantined
    protected_fields: frozenset[str] = frozenset()  # whose edits on 4Seller must not be overwritten unread
    read_at: datetime | None = None  # when the shop's tables were read, by the database's clock
    unread: bool = False  # what its listing shows is not known: it is read before it is written over
    send_until: float = 0.0  # by our monotonic clock: nothing of it is under way any more then

    @property
    def sku(self) -> str | None:
        """The SKU the item should have on 4Seller, or the one it has when it is taken off."""
        return self.draft.sku if self.draft is not None else self.mapping.sku or self.shop_sku

    @property
    def writes(self) -> bool:
        """Whether it sends anything to 4Seller."""
        return self.action not in (Action.NOTHING, Action.QUARANTINED, Action.WAIT)


def plan(mapping: Mapping, item: ShopItem | None, title_limit: int, rule: Rule = NO_RULE) -> Change:
    """The change from the acknowledged state to the desired one, by the shop's tables and the item's merged rules.

    `item` is None when it is gone or now has variants.
    """
    if item is None or not item.active:
        return _taken_off(mapping, "It is no longer sold in the shop.")
    if rule.exclude:
        return _taken_off(mapping, "A rule excludes it from this channel: see `midas rules explain`.")
    pins = mapping.pinned_fields
    if pins and mapping.fourseller_product_id is None and is_kept_off(pins):
        return Change(mapping, Action.NOTHING, reason="It was removed on 4Seller, and that was accepted.")
    price = channel_price(item.price, rule)
    reason = unlistable(item, title_limit)
    if reason is None and (unfit_price := unfit(mappings.c.acked_price, price)) is not None:
        reason = f"Its selling price {price} {unfit_price}: correct it in the shop."
    quantity = available(item.on_hand, rule)
    quantity = pinned_quantity(pins, quantity) if pins else quantity
    if reason is not None:
        return replace(_set_aside(mapping, reason, quantity), shop_sku=item.sku or title(item))
    wanted = draft(item, quantity, price)
    wanted = overlaid(wanted, pins) if pins else wanted
    digest = content_hash(wanted)
    if mapping.fourseller_product_id is None:
        action = Action.CREATE
    elif mapping.acked_hash != digest:
        action = Action.UPDATE
    elif mapping.acked_quantity != quantity:
        action = Action.QUANTITY
    else:
        action = Action.NOTHING
    own = {field for field in POLICED if rule.policy(field) != "source_wins"}
    protected = frozenset(own | set(pins or {}))
    return Change(mapping, action, wanted, digest, quantity, protected_fields=protected)


class Planner:
    """Items of the shop with their rules, read once, in a fixed number of queries."""

    def __init__(self, connection: sa.Connection, keys: Iterable[ItemKey], title_limit: int) -> None:
        self._items = read_items(connection, list(keys))
        self._rules = read_rules(connection, {key: item.category_id for key, item in self._items.items()})
        self.title_limit = title_limit

    def item(self, mapping: Mapping) -> ShopItem | None:
        """The item as the shop has it; None when it is gone or now has variants."""
        return self._items.get(mapping.key)

    def rule(self, mapping: Mapping) -> Rule:
        """The item's merged rules."""
        return self._rules.get(mapping.key, NO_RULE)

    def plan(self, mapping: Mapping) -> Change:
        """What the item needs."""
        return plan(mapping, self.item(mapping), self.title_limit, self.rule(mapping))


def _taken_off(mapping: Mapping, reason: str) -> Change:
    listed = mapping.fourseller_product_id is not None or mapping.in_doubt
    pinned = (mapping.pinned_fields or {}).get("listing") == LISTED_PIN
    if pinned and mapping.fourseller_product_id is not None:
        action = Action.NOTHING if mapping.acked_quantity == 0 else Action.QUANTITY
        return Change(mapping, action, content_hash=mapping.acked_hash, quantity=0)
    return Change(mapping, Action.DELETE if listed else Action.NOTHING, reason=reason)


def _set_aside(mapping: Mapping, reason: str, quantity: int) -> Change:
    """Leaves a listing as it is but keeps its quantity correct, so that it cannot oversell."""
    sku_lost = mapping.fourseller_product_id is not None and mapping.sku is None  # another item has it now
    if sku_lost or mapping.in_doubt:
        return Change(mapping, Action.DELETE, reason=reason, aside=True)
    if mapping.fourseller_product_id is not None and mapping.acked_quantity != quantity:
        return Change(mapping, Action.QUANTITY, quantity=quantity, reason=reason)
    return Change(mapping, Action.QUARANTINED, quantity=quantity, reason=reason)


REPLACES = (Action.UPDATE, Action.DELETE)
"""What changes content, price or being there of a listing that 4Seller has."""


def held_back(change: Change, reason: str) -> Change:
    """What may be sent of such a change that waits: of an update its new quantity."""
    if change.action is Action.UPDATE and change.quantity != change.mapping.acked_quantity:
        return only_quantity(change)
    return Change(change.mapping, Action.WAIT, reason=reason)


def only_quantity(change: Change) -> Change:
    """The part of a change that an inventory push may send; the rest stays dirty for the product sync."""
    if change.action in (Action.UPDATE, Action.QUANTITY):
        same = change.quantity == change.mapping.acked_quantity
        return replace(change, action=Action.NOTHING if same else Action.QUANTITY)
    if change.action is Action.DELETE:
        return Change(change.mapping, Action.NOTHING)
    return change
