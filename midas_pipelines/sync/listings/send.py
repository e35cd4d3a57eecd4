"""Sends one change to 4Seller and returns the outcome; expected errors become an outcome, not an exception."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import (
    Ambiguous,
    BadCredentials,
    BadItem,
    Conflict,
    FourSellerError,
    NotFound,
    NotSent,
    RateLimited,
    Unavailable,
)
from midas_pipelines.fourseller.http.rate_limit import noting_doubts
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.items.acknowledge import PushOutcome, PushResult
from midas_pipelines.store.items.written import keep_before
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import unfit
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.adopt import Known, adoptable, as_adopted, owner, remove
from midas_pipelines.sync.listings.content import CONTENT, content_hash, with_pins
from midas_pipelines.sync.listings.diff import (
    content_taken,
    keep_edits,
    not_taken,
    shown_form,
)
from midas_pipelines.sync.listings.plan import Action, Change
from midas_pipelines.sync.threads import in_thread

KEPT = {*CONTENT, "sku", "price", "inventory"}
"""What `midas undo` can put back."""

SENDS_OF_A_CREATE = 3
"""How often a create is sent at most in one run where look-ups do not lag, each time after one that found nothing."""


async def send(change: Change, client: FourSeller, context: SyncContext, known: Known | None) -> PushOutcome:
    """Sends one change. Raises only `BadCredentials`: with a bad key every other call would fail too."""
    with noting_doubts() as doubts:
        outcome = await _send(change, client, context, known)
    return replace(outcome, uncertain=True) if doubts else outcome


async def _send(change: Change, client: FourSeller, context: SyncContext, known: Known | None) -> PushOutcome:
    try:
        match change.action:
            case Action.CREATE:
                return await _create(change, client, context, known)
            case Action.UPDATE:
                return await _update(change, client, context)
            case Action.QUANTITY:
                return await _set_quantity(change, client)
            case Action.DELETE:
                return await _delete(change, client, context)
            case Action.SETTLE:
                return await _settle(change, client, context, known)
            case _:
                raise AssertionError(f"{change.action} sends nothing")
    except BadCredentials:
        raise
    except (RateLimited, NotSent) as unsent:
        wait = unsent.retry_after_seconds if isinstance(unsent, RateLimited) else None
        return _released(change, str(unsent), wait_seconds=wait)
    except BadItem as refused:  # the result of an earlier create stays unknown
        settled = change.action is not Action.CREATE
        return PushOutcome(
            change.mapping, PushResult.QUARANTINED, reason=str(refused), refused=True, settled=settled
        )
    except NotFound as missing:
        return await _vanished(change, client, missing)
    except FourSellerError as failed:
        settled = not change.mapping.in_doubt and change.action is not Action.CREATE
        unanswered = isinstance(failed, Unavailable | Ambiguous) and failed.status in (None, 502, 503, 504)
        return PushOutcome(
            change.mapping, PushResult.FAILED, reason=str(failed), settled=settled, unanswered=unanswered
        )


async def _create(
    change: Change, client: FourSeller, context: SyncContext, known: Known | None
) -> PushOutcome:
    """Adopts the product if 4Seller has it already, creates it otherwise; an unknown result is looked up first.

    A look-up right after a lost answer proves nothing where look-ups lag: the create is then sent again by a later run.
    """
    assert change.draft is not None
    lag = context.settings.list_lag_seconds
    sends = 1 if lag else SENDS_OF_A_CREATE
    uncertain = known is None or change.mapping.creating_since is not None
    for sent in range(sends + 1):
        for product in await adoptable(change, client, context, known, look=uncertain):
            adopted = await _adopt(change, product, client, context)
            if adopted is not None:
                return adopted
        if sent == sends:
            break
        try:
            key = f"midas-{change.mapping.id}-{change.mapping.version}-{(change.content_hash or '')[:16]}"
            product = await client.create_product(change.draft, idempotency_key=key)
        except (Ambiguous, Conflict) as doubt:
            uncertain, last = True, doubt
            continue
        late = change.mapping.creating_since is not None  # an earlier create may still add a second product
        return replace(_listed(change, product.id, product, created=True), uncertain=late)
    return PushOutcome(change.mapping, PushResult.FAILED, reason=str(last), settled=False, wait_seconds=lag)


async def _settle(
    change: Change, client: FourSeller, context: SyncContext, known: Known | None
) -> PushOutcome:
    """Maps the item to the product of its earlier create, if there is one; the next run goes on."""
    found = await adoptable(change, client, context, known, look=True)
    left = 0.0
    since = change.mapping.creating_since
    if not found and since is not None:
        age = await in_thread(context.database.now) - since
        left = max(0.0, context.settings.list_lag_seconds - age.total_seconds())
    reason = "The answer to its create was lost; its result is looked up before anything else is sent."
    product_id = found[0].id if found else None
    return _released(
        change, reason, fourseller_product_id=product_id, settled=left == 0, wait_seconds=left or None
    )


async def _adopt(
    change: Change, product: Product, client: FourSeller, context: SyncContext
) -> PushOutcome | None:
    """Maps the item to a product that 4Seller lists; None where it is deleted and the list only lags behind."""
    change = as_adopted(change, product)
    quantity = product.inventory.quantity if product.inventory is not None else None
    equal = content_hash(product) == change.content_hash and quantity == change.quantity
    assert change.draft is not None
    try:
        if equal:
            answer = await client.product(product.id)
        else:
            await _keep_read(context, change, product)
            answer = await client.update_product(product.id, change.draft)
    except NotFound:
        return None
    return _listed(change, product.id, answer, adopted=True, wrote=not equal)


async def _update(change: Change, client: FourSeller, context: SyncContext) -> PushOutcome:
    product_id = change.mapping.fourseller_product_id
    assert product_id is not None
    if change.mapping.creating_since is not None and change.mapping.recheck_at is None:
        await _remove_doubles(change, client, context)
    if change.unread or change.guarded - {"listing"}:
        shown = await client.product(product_id)
        if change.unread:
            await _keep_read(context, change, shown)
        change = keep_edits(change, shown) if change.guarded - {"listing"} else change
    assert change.draft is not None
    try:
        answer = await client.update_product(product_id, change.draft)
    except BadItem as refused:
        if change.quantity is None or change.quantity == change.mapping.acked_quantity:
            raise
        # The old content stays on sale, so its quantity has to be correct.
        if (other := await _send_quantity(change, client)) is not None:
            return PushOutcome(change.mapping, PushResult.FAILED, reason=other)
        return PushOutcome(
            change.mapping,
            PushResult.QUANTITY,
            quantity=change.quantity,
            reason=str(refused),
            refused=True,
            wrote=True,
        )
    return _listed(change, product_id, answer)


async def _remove_doubles(change: Change, client: FourSeller, context: SyncContext) -> None:
    """Removes what an earlier create of the item made after a later one had succeeded."""
    key = change.mapping.key
    for double in await adoptable(change, client, context, None, look=True):
        if double.id != change.mapping.fourseller_product_id and owner(double) == key:
            await remove(client, double.id)


async def _set_quantity(change: Change, client: FourSeller) -> PushOutcome:
    if (other := await _send_quantity(change, client)) is not None:
        return PushOutcome(change.mapping, PushResult.FAILED, reason=other)
    return PushOutcome(
        change.mapping,
        PushResult.QUANTITY,
        quantity=change.quantity,
        reason=change.reason,
        wrote=True,
        finished=change.reason is not None or change.content_hash == change.mapping.acked_hash,
    )


async def _send_quantity(change: Change, client: FourSeller) -> str | None:
    """Sets the quantity, with the moment it was read, so that 4Seller may refuse the older of two; why it was not taken."""
    product_id, quantity, read_at = change.mapping.fourseller_product_id, change.quantity, change.read_at
    assert product_id is not None
    assert quantity is not None
    assert read_at is not None
    shown = (await client.set_quantity(product_id, quantity, read_at)).quantity
    if shown in (None, quantity):
        return None
    return f"4Seller accepted the write but shows the quantity {shown} for {quantity}; it is sent again."


async def _delete(change: Change, client: FourSeller, context: SyncContext) -> PushOutcome:
    product_id = change.mapping.fourseller_product_id
    if product_id is None:  # a create with an unknown result: it may exist under its SKU
        found = await adoptable(change, client, context, None, look=True)
        product_id = found[0].id if len(found) == 1 else None
    if product_id is not None:
        if change.unread:
            await _keep_read(context, change, await client.product(product_id))
        await remove(client, product_id)
    wrote = product_id is not None
    return PushOutcome(
        change.mapping, PushResult.REMOVED, reason=change.reason, wrote=wrote, aside=change.aside
    )


async def _keep_read(context: SyncContext, change: Change, product: Product) -> None:
    """Keeps the product as how the listing was before the change, which is about to be sent."""
    before = product.model_dump(mode="json", include=KEPT)
    await in_thread(keep_before, context.database, change.mapping.id, context.written_as, before)


def _listed(
    change: Change,
    product_id: str,
    answer: Product,
    *,
    created: bool = False,
    adopted: bool = False,
    wrote: bool = True,
) -> PushOutcome:
    """Listed as the answer shows it; failed where it shows that something was not applied."""
    assert change.draft is not None
    why = unfit(mappings.c.fourseller_product_id, product_id)
    if why is not None:
        reason = (
            f"4Seller gave it the id {product_id[:20]!a}..., which {why}. Look at the product on 4Seller."
        )
        return PushOutcome(change.mapping, PushResult.QUARANTINED, reason=reason, settled=False)
    if (other := not_taken(change.draft, answer, change.mapping)) is not None:
        held = None if content_taken(change.draft, answer, change.mapping) else change.mapping.acked_hash
        return PushOutcome(
            change.mapping,
            PushResult.FAILED,
            fourseller_product_id=product_id,
            reason=other,
            content_hash=held,
        )
    return PushOutcome(
        change.mapping,
        PushResult.LISTED,
        fourseller_product_id=product_id,
        content_hash=change.content_hash,
        observed_hash=shown_form(change.draft, answer),
        price=change.draft.price,
        quantity=change.quantity,
        created=created,
        adopted=adopted,
        wrote=wrote,
        pinned_fields=change.mapping.pinned_fields if change.guarded else None,
    )


async def _vanished(change: Change, client: FourSeller, missing: NotFound) -> PushOutcome:
    """A write met a 404: only when the product is not there by its id either may the next attempt list it again."""
    product_id, reason = change.mapping.fourseller_product_id, str(missing)
    try:
        if product_id is not None:
            await client.product(product_id)
    except NotFound:
        reason = "4Seller no longer has this product; the next run lists it again."
        pins = None
        if "listing" in change.guarded:  # a policy or a person decides about it
            reason = "4Seller no longer has this product; its policy does not list it again at once."
            pins = with_pins(change.mapping.pinned_fields, {"listing": {"value": None, "held": True}})
        return _released(change, reason, vanished=True, pinned_fields=pins)
    except BadCredentials:
        raise
    except FourSellerError as failed:
        reason = str(failed)
    settled = change.action is not Action.CREATE and not change.mapping.in_doubt
    return PushOutcome(change.mapping, PushResult.FAILED, reason=reason, settled=settled)


def _released(change: Change, reason: str, *, settled: bool = False, **more: Any) -> PushOutcome:
    """Given back for a later run, at the cost of no attempt."""
    return PushOutcome(change.mapping, PushResult.RELEASED, reason=reason, settled=settled, **more)
