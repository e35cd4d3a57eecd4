"""What a listing shows before each write, kept with what is sent: what `midas undo` and a failed wave put back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.items.written import keep_before, keep_writes, last_content
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.content import CONTENT
from midas_pipelines.sync.listings.plan import Action, Change
from midas_pipelines.sync.threads import in_thread

KEPT = {*CONTENT, "sku", "price", "inventory"}
REPLACES = (Action.UPDATE, Action.DELETE)


def keep_planned(connection: sa.Connection, changes: Sequence[Change], run_id: str | None) -> list[Change]:
    """Keeps each change that is about to be sent, with what 4Seller confirmed before; marks those to be read first.

    Runs in the transaction of the claim, so that a write never leaves without a trace.
    """
    sent = [one for one in changes if one.writes and one.action is not Action.SETTLE]
    content = last_content(connection, [one.mapping.id for one in sent if one.action in REPLACES])
    unread: set[int] = set()
    rows = []
    for change in sent:
        before = _confirmed(change, content.get(change.mapping.id))
        if before is None and change.action in REPLACES:
            unread.add(change.mapping.id)
        rows.append(_row(change, before, run_id))
    keep_writes(connection, rows)
    return [replace(one, unread=one.mapping.id in unread) for one in changes] if unread else list(changes)


def _confirmed(change: Change, last: tuple[str | None, dict[str, Any]] | None) -> dict[str, Any] | None:
    """The listing as 4Seller last confirmed it; None where that is not known."""
    mapping = change.mapping
    if change.action is Action.QUANTITY:
        return {"inventory": {"quantity": mapping.acked_quantity}}
    if (
        change.action not in REPLACES
        or last is None
        or mapping.acked_hash is None
        or last[0] != mapping.acked_hash
    ):
        return None
    return {**last[1], "inventory": {"quantity": mapping.acked_quantity}}


def _row(change: Change, before: dict[str, Any] | None, run_id: str | None) -> dict[str, Any]:
    after: dict[str, Any] = {}
    if change.action is Action.QUANTITY:
        after = {"inventory": {"quantity": change.quantity}}
    elif change.draft is not None:
        after = change.draft.model_dump(mode="json", exclude_none=True, exclude={"metadata"})
    whole = change.action in (Action.CREATE, Action.UPDATE)
    return {
        "run_id": run_id,
        "mapping_id": change.mapping.id,
        "sku": change.sku,
        "action": change.action.value,
        "before": before,
        "after": after,
        "content_hash": change.content_hash if whole else None,
    }


async def keep_read(context: SyncContext, change: Change, product: Product) -> None:
    """Keeps the product as how the listing was before the change, which is about to be sent."""
    before = product.model_dump(mode="json", include=KEPT)
    await in_thread(keep_before, context.database, change.mapping.id, context.written_as, before)
