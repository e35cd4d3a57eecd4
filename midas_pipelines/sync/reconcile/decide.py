"""Deciding what becomes of an item whose listing was read back: `decide` is pure, `apply.py` carries it out.

Comparing takes reading 4Seller's row into a model, building the listing that the shop wants, and hashing both. Its result
follows from its inputs, so where all of them are those that were found equal last time (`judged_key`), the item is equal
again. Only what is new or different is compared in full.
"""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from typing import Any

from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.items.mappings import UNTIED, Mapping
from midas_pipelines.store.stock.rules import NO_RULE, Rule
from midas_pipelines.storefront.catalog import ShopItem
from midas_pipelines.sync.listings.diff import (
    Difference,
    alike,
    differences,
    form,
    hidden,
    is_confirmed,
    seen,
    shown_quantity,
)
from midas_pipelines.sync.listings.pins import (
    followed,
    held_fields,
    is_kept_off,
    pin,
    with_pins,
    without_pins,
)
from midas_pipelines.sync.listings.plan import Action, Change, Planner

EQUAL, CHANGING, DIFFERING, NOT_SEEN, NO_ITEM = "equal", "changing", "differing", "not seen", "no item"
OVERDUE_AFTER = 2  # intervals of the sync of changed products


@dataclass(frozen=True, slots=True)
class FoundConflict:
    """A difference that somebody other than us made, the policy for it, and whose word it takes."""

    difference: Difference
    policy: str
    resolution: str | None = None  # marketplace, where the policy resolves it at once
    delta: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a read-back means for one item."""

    change: Change
    outcome: str = EQUAL
    conflicts: tuple[FoundConflict, ...] = ()
    differences: tuple[Difference, ...] = ()
    excused: bool = False  # its quantity differs too, which says nothing yet
    push: bool = False
    values: Dict[str, Any] = field(default_factory=dict)  # for the mapping row, beside what was observed
    needs_sales: bool = False  # a sale that is not imported yet may explain its quantity


def is_on_its_way(mapping: Mapping, now: datetime, interval: int) -> bool:
    """Whether a change of the item only waits for its turn: no push of it has failed, and none is overdue.

    Args:
        now: by the database's clock.
        interval: minutes between two syncs of changed products.
    """
    due = now - timedelta(minutes=OVERDUE_AFTER * interval)
    return mapping.dirty_since is not None and mapping.dirty_since >= due and not mapping.attempts


def expected(mapping: Mapping, planner: Planner) -> Change:
    """The change to what 4Seller should show. A field that waits for a person's decision should be as in the shop, though
    no push writes over it until then; any other pinned field should be as pinned."""
    held = held_fields(mapping.pinned_fields)
    kept = without_pins(mapping.pinned_fields, held)
    return planner.plan(replace(mapping, pinned_fields=kept) if held else mapping)


def decide(
    mapping: Mapping,
    planner: Planner,
    product: Product | None,
    *,
    gone: bool = True,
    free: bool = True,
    recent: bool = False,
    on_its_way: bool = False,
    sales_in: bool = True,
    hub_ahead: timedelta = timedelta(),
) -> Decision:
    """What to make of one item.

    Args:
        mapping: its row; `pinned_fields` as they were before this read.
        planner: has its item as the shop has it now, and the rules.
        product: as 4Seller showed it; None when it was not in the listing.
        gone: 4Seller surely has no product of it; not to be in a list proves nothing.
        free: the row is ours to write: not claimed, not confirmed since the read began.
        recent: it was confirmed so shortly before the read that the quantity read may be the old one.
        on_its_way: a change of it only waits for its turn (`is_on_its_way`).
        sales_in: every sale from before the read is imported; otherwise no quantity counts as an edit.
        hub_ahead: how far 4Seller's clock is ahead of the one that dates our confirmations.
    """
    if is_kept_off(mapping.pinned_fields) and product is None:
        return _kept_off(mapping, planner)
    if product is None:
        return _missing(mapping, planner, gone=gone, free=free, on_its_way=on_its_way)
    pins = followed(mapping.pinned_fields, product)
    held = held_fields(pins)
    change = expected(replace(mapping, pinned_fields=pins), planner) if pins else planner.plan(mapping)
    decided = change.mapping
    if change.draft is None:
        return Decision(change, NO_ITEM)
    found = differences(change, product)
    is_new_form = mapping.observed_hash is None and any(one.field == "content" for one in found)
    if is_new_form and is_confirmed(mapping, change.draft) and alike(change.draft, product):
        mapping = replace(mapping, observed_hash=form(product))  # what 4Seller made of our words
        decided = replace(decided, observed_hash=mapping.observed_hash)
        change = replace(change, mapping=decided)
        found = differences(change, product)
    confirmed = change.action is Action.NOTHING and product.price == mapping.acked_price
    if confirmed and not found and not mapping.pinned_fields:  # the common case, at once
        return Decision(change)
    if not free:
        return Decision(change, CHANGING if found else EQUAL, differences=tuple(found))
    if mapping.acked_at is not None and product.updated_at is not None:
        recent = recent and product.updated_at - hub_ahead <= mapping.acked_at  # else it is no old copy

    def may_be_excused(one: Difference) -> bool:
        return one.field == "quantity" and one.seen and (recent or (one.edited and not sales_in))

    excused = any(map(may_be_excused, found))
    found = [one for one in found if not may_be_excused(one)]
    conflicts, pins, push = _by_policy(decided, product, found, planner.rule(mapping), held)
    outcome = EQUAL if not found else DIFFERING if any(one.seen for one in found) else NOT_SEEN
    if push and not conflicts and on_its_way and outcome == DIFFERING:
        outcome = CHANGING
    # What 4Seller shows counts as confirmed, so that a push sends what is needed and no more.
    values: dict[str, Any] = dict(seen(mapping, product))
    if push and hidden(product) and any(one.field == "content" for one in found):
        values["acked_hash"] = None  # what it hides may be as confirmed; what it shows is not
    pinned = with_pins(decided.pinned_fields, pins) or None
    if pinned != (mapping.pinned_fields or None):
        values["pinned_fields"] = pinned
    if excused:  # that quantity is not believed: the next read will show it again
        values.pop("acked_quantity", None)
        outcome = CHANGING if outcome == EQUAL else outcome
    needs_sales = excused and not recent
    return Decision(change, outcome, tuple(conflicts), tuple(found), excused, push, values, needs_sales)


def _by_policy(
    mapping: Mapping, product: Product, found: list[Difference], rule: Rule, held: list[str]
) -> tuple[list[FoundConflict], dict[str, Any], bool]:
    """The conflicts among the differences, the fields to be pinned, and whether the shop's side is to be pushed."""
    conflicts: list[FoundConflict] = []
    pins: dict[str, Any] = {}
    push = False
    for one in found:
        policy, is_quantity = rule.policy(one.field), one.field == "quantity"
        delta = None
        if is_quantity:  # how many units 4Seller has more than we last put there
            base = mapping.acked_quantity if mapping.acked_quantity is not None else int(one.shop)
            delta = (shown_quantity(product) or 0) - base
        if not one.seen:  # pushed, should it be the quantity: `seen` forgets what was confirmed of it
            push |= is_quantity
        elif not one.edited and one.field not in held:  # the shop's own change, on its way or overdue
            push = True
        elif policy == "source_wins":
            conflicts.append(FoundConflict(one, policy))
            push = True
        elif policy == "manual":
            conflicts.append(FoundConflict(one, policy, delta=delta))
            pins[one.field] = pin(product, one.field, held=True)
        elif is_quantity:
            conflicts.append(FoundConflict(one, policy, delta=delta))
        else:
            conflicts.append(FoundConflict(one, policy, resolution="marketplace"))
            pins[one.field] = pin(product, one.field)
    return conflicts, pins, push


def _kept_off(mapping: Mapping, planner: Planner) -> Decision:
    pins = mapping.pinned_fields or {}
    change, item = planner.plan(mapping), planner.item(mapping)
    sold = item is not None and item.active and not planner.rule(mapping).exclude
    if not pins["listing"].get("held") or not sold:
        return Decision(change, NO_ITEM)
    gone = Difference("listing", "listed", "missing", edited=True)
    policy = planner.rule(mapping).policy("listing")
    if policy == "manual":
        return Decision(change, DIFFERING, (FoundConflict(gone, policy),), (gone,))
    push = policy == "source_wins"
    kept = without_pins(pins, ["listing"]) if push else with_pins(pins, {"listing": {}})
    return Decision(change, DIFFERING, (), (gone,), push=push, values={"pinned_fields": kept})


def _missing(mapping: Mapping, planner: Planner, *, gone: bool, free: bool, on_its_way: bool) -> Decision:
    change, listed = planner.plan(mapping), mapping.fourseller_product_id is not None
    if change.draft is None:  # to be taken off, and off already
        push = gone and free and change.action is Action.DELETE
        return Decision(change, NO_ITEM, push=push, values=UNTIED if push else {})
    if not gone:
        return Decision(change, NOT_SEEN if listed else CHANGING)
    missing = Difference("listing", "listed", "missing", edited=listed)
    if not listed or not free:
        waits = not free or (mapping.state != "listed" and on_its_way)
        return Decision(change, CHANGING if waits else DIFFERING, (), (missing,), push=free)
    policy = planner.rule(mapping).policy("listing")
    conflict = FoundConflict(missing, policy, "marketplace" if policy == "marketplace_wins" else None)
    values: dict[str, Any] = dict(UNTIED)
    if policy != "source_wins":
        listing = {"listing": {"value": None, "held": policy == "manual"}}
        values["pinned_fields"] = with_pins(mapping.pinned_fields, listing)
    return Decision(change, DIFFERING, (conflict,), (missing,), push=policy == "source_wins", values=values)


# Recognizing an item whose comparison would have the result of the last one

PACKAGE = Path(__file__).parents[2]
DECIDING = (
    "fourseller/*.py",
    "store/stock/rules.py",
    "storefront/catalog.py",
    "storefront/types.py",
    "sync/listings/*.py",
    "sync/reconcile/decide.py",
)
"""The code that a comparison runs: a change of it makes every item be compared again."""

_OF_ITEM = attrgetter(*ShopItem.__slots__)
_ACKED = ("acked_hash", "acked_price", "acked_quantity", "observed_hash")
_OF_MAPPING = attrgetter("fourseller_product_id", "sku", "state", *_ACKED)


@cache
def code() -> str:
    """A hash of the code that decides."""
    digest = blake2b(digest_size=16)
    for pattern in DECIDING:
        for file in sorted(PACKAGE.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def judged_key(mapping: Mapping, planner: Planner, stamp: bytes | None) -> str | None:
    """A hash of all that the comparison of a listed item depends on, with the form in which 4Seller last showed it
    and the stamp of 4Seller's row; None where it has to be made in any case."""
    item = planner.item(mapping)
    busy = mapping.dirty or mapping.attempts or mapping.pinned_fields or mapping.state != "listed"
    if stamp is None or item is None or busy:
        return None
    rule = None if planner.rule(mapping) is NO_RULE else planner.rule(mapping)
    inputs = (code(), planner.title_limit, stamp, _OF_MAPPING(mapping), _OF_ITEM(item), rule)
    return blake2b(repr(inputs).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def may_be_kept(decision: Decision) -> bool:
    """Whether the item is equal, and there is nothing to do about it."""
    idle = not (decision.conflicts or decision.push or decision.values or decision.needs_sales)
    return idle and decision.outcome == EQUAL and decision.change.action is Action.NOTHING
