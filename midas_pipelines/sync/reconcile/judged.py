"""Recognizes an item whose comparison would have the result of the last one: equal, and nothing to do.

Comparing takes reading 4Seller's row into a model, building the listing that the shop wants, and hashing both. Its result
follows from its inputs, so where all of them are those that were found equal last time, the item is equal again. Only
what is new or different is compared in full.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path

from midas_pipelines.store.items.claims import Mapping
from midas_pipelines.store.stock.rules import NO_RULE
from midas_pipelines.storefront.catalog import ShopItem
from midas_pipelines.sync.listings.plan import Action, Planner
from midas_pipelines.sync.reconcile.decide import EQUAL, Decision

PACKAGE = Path(__file__).parents[2]
DECIDING = (
    "fourseller/*.py",
    "store/stock/rules.py",
    "storefront/catalog.py",
    "storefront/types.py",
    "sync/listings/*.py",
    "sync/rules/arithmetic.py",
    "sync/reconcile/decide.py",
)
"""The code that a comparison runs: a change of it makes every item be compared again."""

_OF_ITEM = attrgetter(*ShopItem.__slots__)
_OF_MAPPING = attrgetter(
    "fourseller_product_id",
    "sku",
    "state",
    "acked_hash",
    "acked_price",
    "acked_quantity",
    "observed_hash",
    "policy_override",
)


@cache
def code() -> str:
    """A hash of the code that decides."""
    digest = blake2b(digest_size=16)
    for pattern in DECIDING:
        for file in sorted(PACKAGE.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def judged_key(mapping: Mapping, planner: Planner, stamp: bytes | None) -> str | None:
    """A hash of all that the comparison of a listed item depends on; None where it has to be made in any case.

    Args:
        mapping: the item's row, with the form in which 4Seller last showed it.
        planner: has the item as the shop has it, and its rules.
        stamp: of 4Seller's row; None where there is none.
    """
    item = planner.item(mapping)
    busy = mapping.dirty or mapping.attempts or mapping.pinned_fields or mapping.state != "listed"
    if stamp is None or item is None or busy:
        return None
    rule = planner.rule(mapping)
    inputs = (
        code(),
        planner.title_limit,
        stamp,
        _OF_MAPPING(mapping),
        _OF_ITEM(item),
        None if rule is NO_RULE else rule,
    )
    return blake2b(repr(inputs).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def may_be_kept(decision: Decision) -> bool:
    """Whether the item is equal, and there is nothing to do about it."""
    idle = not (decision.conflicts or decision.push or decision.values or decision.needs_sales)
    return idle and decision.outcome == EQUAL and decision.change.action is Action.NOTHING
