"""Sends one change to 4Seller and returns the outcome; expected errors become an outcome, not an exception."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from midas_pipelines.fourseller import errors
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.http.rate_limit import noting_doubts
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.items.acknowledge import PushOutcome, PushResult
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import unfit
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.adopt import Known, adoptable, as_adopted, owner, remove
from midas_pipelines.sync.listings.before_sending import keep_before
from midas_pipelines.sync.listings.diff import (
    content_taken,
    keep_edits,
    not_taken,
    shown_form,
    shown_quantity,
)
from midas_pipelines.sync.listings.pins import CONTENT, with_pins
from midas_pipelines.sync.listings.plan import Action, Change, content_hash
from midas_pipelines.sync.threads import in_thread

KEPT = {*CONTENT, "sku", "price", "inventory"}
"""What `midas undo` can put back."""

SENDS_OF_A_CREATE = 3
"""How often a create is sent at most in one run where look-ups do not lag, each time after one that found nothing."""


async def send(change: Change, client: FourSeller, context: SyncContext, known: Known | None) -> PushOutcome:
    """Sends one change. Raises only `BadCredentials`: with a bad key every other call would fail too."""
    with noting_doubts() as doubts:
        outcome = await _Sending(change, client, context, known).outcome()
    return replace(outcome, uncertain=True) if doubts else outcome


@dataclass(slots=True)
class _Sending:
    change: Change
    client: FourSeller
    context: SyncContext
    known: Known | None

    async def outcome(self) -> PushOutcome:
        change = self.change
        settled = change.action is not Action.CREATE  # else its result stays unknown, whatever comes after
        steps = {
            Action.CREATE: self._create,
            Action.UPDATE: self._update,
            Action.QUANTITY: self._set_quantity,
            Action.DELETE: self._delete,
            Action.LOOK_UP: self._look_up,
        }
        try:
            return await steps[change.action]()
        except errors.RateLimited as limited:
            return self._released(str(limited), wait_seconds=limited.retry_after_seconds)
        except errors.NotSent as unsent:
            return self._released(str(unsent))
        except errors.BadItem as refused:
            return self._end(PushResult.QUARANTINED, reason=str(refused), refused=True, settled=settled)
        except errors.NotFound as missing:
            return await self._vanished(missing)
        except errors.CallFailed as failed:
            silent = isinstance(failed, errors.Unavailable | errors.Ambiguous)
            unanswered = silent and failed.status in (None, 502, 503, 504)
            settled = settled and not change.mapping.in_doubt
            return self._failed(str(failed), settled=settled, unanswered=unanswered)

    async def _create(self) -> PushOutcome:
        """Adopts the product if 4Seller has it already, creates it otherwise; an unknown result is looked up first.

        A look-up right after a lost answer proves nothing where look-ups lag: the create is then sent again by a later
        run.
        """
        change, mapping, lag = self.change, self.change.mapping, self.context.settings.list_lag_seconds
        assert change.draft is not None
        sends = 1 if lag else SENDS_OF_A_CREATE
        uncertain = self.known is None or mapping.creating_since is not None
        for sent in range(sends + 1):
            for product in await self._adoptable(self.known, look=uncertain):
                if (adopted := await self._adopt(product)) is not None:
                    return adopted
            if sent == sends:
                break
            try:
                key = f"midas-{mapping.id}-{mapping.version}-{(change.content_hash or '')[:16]}"
                product = await self.client.create_product(change.draft, idempotency_key=key)
            except (errors.Ambiguous, errors.Conflict) as doubt:
                uncertain, last = True, str(doubt)
                continue
            late = mapping.creating_since is not None  # an earlier create may still add a second product
            return self._listed(product.id, product, created=True, uncertain=late)
        return self._failed(last, settled=False, wait_seconds=lag)

    async def _adoptable(self, known: Known | None = None, *, look: bool = True) -> list[Product]:
        return await adoptable(self.change, self.client, self.context, known, look=look)

    async def _look_up(self) -> PushOutcome:
        """Maps the item to the product of its earlier create, if there is one; the next run goes on."""
        found, since, left = await self._adoptable(self.known), self.change.mapping.creating_since, 0.0
        if not found and since is not None:
            age = await in_thread(self.context.database.now) - since
            left = max(0.0, self.context.settings.list_lag_seconds - age.total_seconds())
        reason = "The answer to its create was lost; its result is looked up before anything else is sent."
        product_id = found[0].id if found else None
        return self._released(
            reason, fourseller_product_id=product_id, settled=left == 0, wait_seconds=left or None
        )

    async def _adopt(self, product: Product) -> PushOutcome | None:
        """Maps the item to a product that 4Seller lists; None where it is deleted and the list only lags behind."""
        change = as_adopted(self.change, product)
        assert change.draft is not None
        equal = content_hash(product) == change.content_hash and shown_quantity(product) == change.quantity
        try:
            if equal:
                answer = await self.client.product(product.id)
            else:
                await self._keep_read(product)
                answer = await self.client.update_product(product.id, change.draft)
        except errors.NotFound:
            return None
        return replace(self, change=change)._listed(product.id, answer, adopted=True, wrote=not equal)

    async def _update(self) -> PushOutcome:
        change, mapping, product_id = self.change, self.change.mapping, self._product_id
        if mapping.creating_since is not None and mapping.recheck_at is None:
            for double in await self._adoptable():  # an earlier create may have come after a later one
                if double.id != product_id and owner(double) == mapping.key:
                    await remove(self.client, double.id)
        kept = change.protected_fields - {"listing"}
        if change.unread or kept:
            shown = await self.client.product(product_id)
            if change.unread:
                await self._keep_read(shown)
            if kept:
                return await replace(self, change=keep_edits(change, shown))._put()
        return await self._put()

    async def _put(self) -> PushOutcome:
        change = self.change
        assert change.draft is not None
        try:
            answer = await self.client.update_product(self._product_id, change.draft)
        except errors.BadItem as refused:
            if change.quantity is None or change.quantity == change.mapping.acked_quantity:
                raise
            # The old content stays on sale, so its quantity has to be correct.
            return await self._set_quantity(reason=str(refused), refused=True, finished=True)
        return self._listed(self._product_id, answer)

    async def _set_quantity(self, **more: Any) -> PushOutcome:
        """Sets the quantity, with the moment it was read, so that 4Seller may refuse the older of two."""
        change = self.change
        assert change.quantity is not None
        assert change.read_at is not None
        level = await self.client.set_quantity(self._product_id, change.quantity, change.read_at)
        if level.quantity not in (None, change.quantity):
            shown = f"{level.quantity} for {change.quantity}"
            return self._failed(
                f"4Seller accepted the write but shows the quantity {shown}; it is sent again."
            )
        finished = change.reason is not None or change.content_hash == change.mapping.acked_hash
        whole = {"reason": change.reason, "finished": finished} | more
        return self._end(PushResult.QUANTITY, quantity=change.quantity, wrote=True, **whole)

    async def _delete(self) -> PushOutcome:
        change, product_id = self.change, self.change.mapping.fourseller_product_id
        if product_id is None:  # a create with an unknown result: it may exist under its SKU
            found = await self._adoptable()
            product_id = found[0].id if len(found) == 1 else None
        if product_id is not None:
            if change.unread:
                await self._keep_read(await self.client.product(product_id))
            await remove(self.client, product_id)
        wrote = product_id is not None
        return self._end(PushResult.REMOVED, reason=change.reason, wrote=wrote, aside=change.aside)

    @property
    def _product_id(self) -> str:
        product_id = self.change.mapping.fourseller_product_id
        assert product_id is not None
        return product_id

    async def _keep_read(self, product: Product) -> None:
        """Keeps the product as how the listing was before the change, which is about to be sent."""
        before = product.model_dump(mode="json", include=KEPT)
        await in_thread(keep_before, self.context.database, self.change.mapping.id, before)

    def _listed(self, product_id: str, answer: Product, *, wrote: bool = True, **more: Any) -> PushOutcome:
        """Listed as the answer shows it; failed where it shows that something was not applied."""
        change, mapping = self.change, self.change.mapping
        assert change.draft is not None
        if (why := unfit(mappings.c.fourseller_product_id, product_id)) is not None:
            reason = (
                f"4Seller gave it the id {product_id[:20]!a}..., which {why}. Look at the product on 4Seller."
            )
            return self._end(PushResult.QUARANTINED, reason=reason, settled=False)
        quantity = None if answer.inventory is None else answer.inventory.quantity
        as_sent = content_hash(answer) == change.content_hash and quantity in (None, change.quantity)
        if not as_sent and (other := not_taken(change.draft, answer, mapping)) is not None:
            held = None if content_taken(change.draft, answer, mapping) else mapping.acked_hash
            return self._failed(other, fourseller_product_id=product_id, content_hash=held)
        return self._end(
            PushResult.LISTED,
            fourseller_product_id=product_id,
            content_hash=change.content_hash,
            observed_hash=None if as_sent else shown_form(change.draft, answer),
            price=change.draft.price,
            quantity=change.quantity,
            wrote=wrote,
            pinned_fields=mapping.pinned_fields if change.protected_fields else None,
            **more,
        )

    async def _vanished(self, missing: errors.NotFound) -> PushOutcome:
        """A write met a 404: only when the product is not there by its id either may the next attempt list it again."""
        change, reason = self.change, str(missing)
        try:
            if change.mapping.fourseller_product_id is not None:
                await self.client.product(change.mapping.fourseller_product_id)
        except errors.NotFound:
            if "listing" not in change.protected_fields:
                return self._released(
                    "4Seller no longer has this product; the next run lists it again.", vanished=True
                )
            reason = "4Seller no longer has this product; its policy does not list it again at once."
            pins = with_pins(change.mapping.pinned_fields, {"listing": {"value": None, "held": True}})
            return self._released(reason, vanished=True, pinned_fields=pins)
        except errors.CallFailed as failed:
            reason = str(failed)
        settled = change.action is not Action.CREATE and not change.mapping.in_doubt
        return self._failed(reason, settled=settled)

    def _end(self, result: PushResult, **more: Any) -> PushOutcome:
        return PushOutcome(self.change.mapping, result, **more)

    def _failed(self, reason: str, **more: Any) -> PushOutcome:
        return self._end(PushResult.FAILED, reason=reason, **more)

    def _released(self, reason: str, *, settled: bool = False, **more: Any) -> PushOutcome:
        """Given back for a later run, at the cost of no attempt."""
        return self._end(PushResult.RELEASED, reason=reason, settled=settled, **more)
