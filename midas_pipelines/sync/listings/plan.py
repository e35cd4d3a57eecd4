"""Decides how to change one item on 4Seller: `plan` is pure, `Planner` reads what it needs, `push.py` applies it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from midas_pipelines.fourseller.models import ProductDraft
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.store.stock.rules import NO_RULE, Rule, available, channel_price, read_rules
from midas_pipelines.storefront.catalog import ItemKey, ShopItem, read_items
from midas_pipelines.storefront.schema import has_product_status
from midas_pipelines.storefront.types import unfit
from midas_pipelines.sync.listings.content import (
    LISTED_PIN,
    content_hash,
    draft,
    is_kept_off,
    overlaid,
    pinned_quantity,
    title,
    unlistable,
)

POLICED = ("price", "content", "listing")
"""Fields whose edits on 4Seller a policy may keep."""


class Action(StrEnum):
    """The action of a change on 4Seller."""

    CREATE = "create"
    UPDATE = "update"
    QUANTITY = "quantity"
    DELETE = "delete"
    NOTHING = "nothing"
    QUARANTINED = "quarantined"
    SETTLE = "settle"  # looks up the result of a create under the SKU the item had then
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
    shop_sku: str | None = (
        None  # what the shop calls an item that cannot be listed: its SKU, or else its name
    )
    shared: bool = False  # quarantined because its SKU is another item's
    aside: bool = False  # removed from 4Seller, yet for sale in the shop: counts as quarantined
    guarded: frozenset[str] = frozenset()  # whose edits on 4Seller must not be overwritten unread
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
    """The change from the acknowledged state to the desired one, by the shop's tables and the channel's rules.

    Args:
        mapping: the item's tie to 4Seller, with what was last confirmed.
        item: as the shop has it, or None when it is gone or now has variants.
        title_limit: the longest title 4Seller takes, in characters.
        rule: the item's merged rules on this channel.
    """
    if item is None or not item.active:
        return _taken_off(mapping, "It is no longer sold in the shop.")
    if rule.exclude:
        return _taken_off(mapping, "A rule excludes it from this channel: see `midas rules explain`.")
    if is_kept_off(mapping.pinned_fields) and mapping.fourseller_product_id is None:
        return Change(mapping, Action.NOTHING, reason="It was removed on 4Seller, and that was accepted.")
    price = channel_price(item.price, rule)
    reason = unlistable(item, title_limit)
    if reason is None and (unfit_price := unfit(mappings.c.acked_price, price)) is not None:
        reason = f"Its selling price {price} {unfit_price}: correct it in the shop."
    quantity = pinned_quantity(mapping.pinned_fields, available(item.on_hand, rule))
    if reason is not None:
        return replace(_set_aside(mapping, reason, quantity), shop_sku=item.sku or title(item))
    wanted = overlaid(draft(item, quantity, price), mapping.pinned_fields)
    digest = content_hash(wanted)
    if mapping.fourseller_product_id is None:
        action = Action.CREATE
    elif mapping.acked_hash != digest:
        action = Action.UPDATE
    elif mapping.acked_quantity != quantity:
        action = Action.QUANTITY
    else:
        action = Action.NOTHING
    own = {field for field in POLICED if rule.policy(field, mapping.policy_override) != "source_wins"}
    guarded = frozenset(own | set(mapping.pinned_fields or {}))
    return Change(mapping, action, wanted, digest, quantity, guarded=guarded)


class Planner:
    """Items of the shop with their rules, read together in a fixed number of queries.

    Args:
        connection: read once, here.
        keys: the items.
        title_limit: the longest title 4Seller takes, in characters.
    """

    def __init__(self, connection: sa.Connection, keys: Iterable[ItemKey], title_limit: int) -> None:
        self._items = read_items(connection, list(keys), has_status=has_product_status(connection))
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
    if (
        mapping.fourseller_product_id is not None
        and (mapping.pinned_fields or {}).get("listing") == LISTED_PIN
    ):
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


def only_quantity(change: Change) -> Change:
    """The part of a change that an inventory push may send; the rest stays dirty for the product sync."""
    if change.action in (Action.UPDATE, Action.QUANTITY):
        same = change.quantity == change.mapping.acked_quantity
        return replace(change, action=Action.NOTHING if same else Action.QUANTITY)
    if change.action is Action.DELETE:
        return Change(change.mapping, Action.NOTHING)
    return change
