"""Sending one change to 4Seller and telling how it ended; expected trouble becomes an outcome, not an exception."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import (
    Ambiguous,
    BadCredentials,
    BadItem,
    Conflict,
    FourSellerError,
    NotFound,
    RateLimited,
    Unavailable,
)
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.claims import Fate, Outcome
from midas_pipelines.store.tables import mappings
from midas_pipelines.sync.differences import keep_edits
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.listing import content_hash
from midas_pipelines.sync.plan import Action, Change
from midas_pipelines.sync.threads import in_thread

Known = dict[str, list[Product]]
"""SKU -> the products 4Seller lists under it, the oldest first."""

SENDS_OF_A_CREATE = 3
"""How often a create is sent at most in one run, each time after a look-up that found nothing."""


async def send(change: Change, client: FourSeller, engine: Engine, known: Known | None) -> Outcome:
    """Carries out one change. Raises only `BadCredentials`: with a bad key every other call would fail too."""
    try:
        match change.action:
            case Action.CREATE:
                return await _create(change, client, engine, known)
            case Action.UPDATE:
                return await _update(change, client)
            case Action.QUANTITY:
                return await _set_quantity(change, client)
            case Action.DELETE:
                return await _delete(change, client, engine)
            case Action.SETTLE:
                return await _settle(change, client, engine)
            case _:
                raise AssertionError(f"{change.action} sends nothing")
    except BadCredentials:
        raise
    except RateLimited as limited:
        wait = limited.retry_after_seconds
        return Outcome(change.mapping, Fate.RELEASED, reason=str(limited), wait_seconds=wait, settled=False)
    except BadItem as refused:  # an earlier create of unknown fate is no clearer for it
        settled = change.action is not Action.CREATE
        return Outcome(change.mapping, Fate.SET_ASIDE, reason=str(refused), refused=True, settled=settled)
    except NotFound:
        return _vanished(change)
    except FourSellerError as failed:
        settled = not change.mapping.in_doubt and change.action is not Action.CREATE
        unanswered = isinstance(failed, Unavailable | Ambiguous) and failed.status in (None, 502, 503, 504)
        return Outcome(
            change.mapping, Fate.FAILED, reason=str(failed), settled=settled, unanswered=unanswered
        )


async def _create(change: Change, client: FourSeller, engine: Engine, known: Known | None) -> Outcome:
    """Adopts the product if 4Seller has the SKU already, creates it otherwise; an unknown fate is looked up first."""
    assert change.draft is not None
    sku = change.draft.sku
    uncertain = known is None or change.mapping.creating_since is not None
    for _ in range(SENDS_OF_A_CREATE):
        found = await client.find_by_sku(sku) if uncertain or known is None else known.get(sku, [])
        free = await in_thread(_unmapped, engine, found, change.mapping.id) if found else []
        if free:
            return await _adopt(change, free[0], client)
        try:
            product = await client.create_product(change.draft, idempotency_key=_idempotency_key(change))
        except (Ambiguous, Conflict) as doubt:
            uncertain, last = True, doubt
            continue
        return _listed(change, product.id, created=True)
    return Outcome(change.mapping, Fate.FAILED, reason=str(last), settled=False)


async def _settle(change: Change, client: FourSeller, engine: Engine) -> Outcome:
    """Ties the item to what its earlier create made under its earlier SKU, if it made anything; the next run goes on."""
    found = await _unowned(change, client, engine)
    return Outcome(
        change.mapping,
        Fate.RELEASED,
        fourseller_product_id=found[0].id if found else None,
        reason="Its SKU changed while its create was in doubt; that is settled, and the next run goes on.",
    )


async def _unowned(change: Change, client: FourSeller, engine: Engine) -> list[Product]:
    """The products under the mapping's SKU that are no other item's."""
    found = await client.find_by_sku(change.mapping.sku) if change.mapping.sku else []
    return await in_thread(_unmapped, engine, found, change.mapping.id) if found else []


async def _adopt(change: Change, product: Product, client: FourSeller) -> Outcome:
    quantity = product.inventory.quantity if product.inventory is not None else None
    if content_hash(product) == change.content_hash and quantity == change.quantity:
        return _listed(change, product.id, adopted=True, wrote=False)
    assert change.draft is not None
    await client.update_product(product.id, change.draft)
    return _listed(change, product.id, adopted=True)


async def _update(change: Change, client: FourSeller) -> Outcome:
    product_id = change.mapping.fourseller_product_id
    assert product_id is not None
    if change.guarded:
        change = keep_edits(change, await client.product(product_id))
    assert change.draft is not None
    try:
        await client.update_product(product_id, change.draft)
    except BadItem as refused:
        if change.quantity is None or change.quantity == change.mapping.acked_quantity:
            raise
        # The old content stays on sale, so its quantity has to be true.
        await client.set_quantity(product_id, change.quantity, datetime.now(UTC))
        reason, quantity = str(refused), change.quantity
        return Outcome(
            change.mapping, Fate.QUANTITY, quantity=quantity, reason=reason, refused=True, wrote=True
        )
    return _listed(change, product_id)


async def _set_quantity(change: Change, client: FourSeller) -> Outcome:
    assert change.mapping.fourseller_product_id is not None
    assert change.quantity is not None
    await client.set_quantity(change.mapping.fourseller_product_id, change.quantity, datetime.now(UTC))
    finished = change.reason is not None or change.content_hash == change.mapping.acked_hash
    return Outcome(
        change.mapping,
        Fate.QUANTITY,
        quantity=change.quantity,
        reason=change.reason,
        wrote=True,
        finished=finished,
    )


async def _delete(change: Change, client: FourSeller, engine: Engine) -> Outcome:
    product_id = change.mapping.fourseller_product_id
    if product_id is None:  # a create of unknown fate: it may be there under its SKU
        found = await _unowned(change, client, engine)
        product_id = found[0].id if len(found) == 1 else None
    if product_id is not None:
        await client.delete_product(product_id)
    wrote = product_id is not None
    return Outcome(change.mapping, Fate.REMOVED, reason=change.reason, wrote=wrote, aside=change.aside)


def _listed(
    change: Change, product_id: str, *, created: bool = False, adopted: bool = False, wrote: bool = True
) -> Outcome:
    assert change.draft is not None
    return Outcome(
        change.mapping,
        Fate.LISTED,
        fourseller_product_id=product_id,
        content_hash=change.content_hash,
        price=change.draft.price,
        quantity=change.quantity,
        created=created,
        adopted=adopted,
        wrote=wrote,
        pinned_fields=change.mapping.pinned_fields if change.guarded else None,
    )


def _vanished(change: Change) -> Outcome:
    """4Seller no longer has the product: forget its id, so that the next attempt looks it up or creates it anew."""
    return Outcome(
        change.mapping,
        Fate.RELEASED,
        reason="4Seller no longer has this product; the next run lists it anew.",
        vanished=True,
        settled=False,
    )


def _unmapped(engine: Engine, found: list[Product], mapping_id: int) -> list[Product]:
    """Those of the products that are no other item's."""
    ids = [product.id for product in found]
    query = sa.select(mappings.c.fourseller_product_id).where(
        mappings.c.fourseller_product_id.in_(ids), mappings.c.id != mapping_id
    )
    with engine.database.reading() as connection:
        taken = set(connection.scalars(query))
    return [product for product in found if product.id not in taken]


def _idempotency_key(change: Change) -> str:
    return f"midas-{change.mapping.id}-{change.mapping.version}-{(change.content_hash or '')[:16]}"
