"""What is settled in the transaction of a claim, before a change is sent: shadow mode, its SKU, how its listing was.

One SKU, one item: before a SKU is sent to 4Seller its mapping row must hold it, by a unique constraint. The shop decides
who owns a SKU. A row releases a SKU that its item no longer has; where that item is no longer listed, the new owner
inherits its 4Seller product rather than making a second one of the same SKU.

What a listing shows before each write is kept with what is sent: `midas undo` and a failed wave put it back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.items.acknowledge import PushOutcome, PushResult
from midas_pipelines.store.items.mappings import CHANGED, COLUMNS, FORGOTTEN, Mapping
from midas_pipelines.store.items.written import keep_writes, last_content
from midas_pipelines.store.operations.sightings import ShadowRow
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.refusals import write_each
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.gate import SHADOWED
from midas_pipelines.sync.listings.plan import Action, Change, Planner

SHADOW_SECONDS = 120.0
"""When an item is planned again that shadow mode kept back, unless it changes before."""

REPLACES = (Action.UPDATE, Action.DELETE)


def in_shadow(change: Change, context: SyncContext) -> Change:
    """The change, or a wait where shadow mode keeps its kind from leaving; what it would send is recorded."""
    kind = "quantity" if change.action is Action.QUANTITY else "listing"
    if not change.writes or not context.settings.shadows(kind):
        return change
    content = {} if change.draft is None else change.draft.model_dump(mode="json", exclude_none=True)
    if kind == "quantity":
        content = {"quantity": change.quantity}
    context.gate.keep(ShadowRow(kind, change.sku or str(change.mapping.id), change.action.value, content))
    return replace(change, action=Action.WAIT, reason=SHADOWED)


def claim_skus(
    connection: sa.Connection,
    changes: list[Change],
    *,
    title_limit: int,
    lag_seconds: float = 0.0,
) -> list[Change]:
    """The same changes, with their SKUs held by their mapping rows, or quarantined where another item has the SKU.

    Runs in the transaction that claimed the rows. A change waits where the row that holds its SKU is busy. Creates
    are recorded as begun, so that a create whose answer is lost is looked up before it is sent again; an item in doubt
    keeps its SKU until that is done. Until `lag_seconds` after a create was sent it is only looked up, for
    4Seller's look-ups may lag as long behind it.
    """
    if not any(change.action in (Action.CREATE, Action.UPDATE) for change in changes):
        return changes
    settle = {c.mapping.id for c in changes if _moves(c) and c.mapping.in_doubt and c.mapping.sku is not None}
    changes = [replace(c, action=Action.SETTLE) if c.mapping.id in settle else c for c in changes]
    moving = [change for change in changes if change.mapping.id not in settle and _moves(change)]
    if moving:
        grant = _read_grant(connection, changes, moving, title_limit)
        for change in moving:
            _decide(connection, grant, change)
        if grant.taken:
            _hold(connection, grant.taken)
        changes = [grant.batch[change.mapping.id] for change in changes]
    creates = {change.mapping.id for change in changes if change.action is Action.CREATE}
    early = creates - _note_creates(connection, creates, lag_seconds)
    return [replace(c, action=Action.SETTLE) if c.mapping.id in early else c for c in changes]


def _moves(change: Change) -> bool:
    """Whether it sends a SKU that its row does not hold."""
    sends = change.action in (Action.CREATE, Action.UPDATE) and change.draft is not None
    return sends and change.sku != change.mapping.sku


@dataclass
class _Grant:
    """The state of assigning SKUs to one batch."""

    batch: dict[int, Change]  # by mapping id, as decided so far
    moving: frozenset[int]
    holders: dict[str, Mapping]
    planner: Planner  # of the holders
    free: set[int]  # holders outside the batch that are not being pushed
    taken: dict[str, int] = field(default_factory=dict)  # SKU -> mapping id


def _read_grant(
    connection: sa.Connection, changes: list[Change], moving: list[Change], title_limit: int
) -> _Grant:
    batch = {change.mapping.id: change for change in changes}
    held = sa.select(*COLUMNS).where(mappings.c.sku.in_([change.sku for change in moving]))
    holders = {row.sku: Mapping(*row) for row in connection.execute(held)}
    others = [holder.id for holder in holders.values() if holder.id not in batch]
    claimed = sa.func.coalesce(mappings.c.claimed_until >= utc_now(), sa.false())
    idle = sa.select(mappings.c.id).where(mappings.c.id.in_(others), ~claimed).order_by(mappings.c.id)
    return _Grant(
        batch=batch,
        moving=frozenset(change.mapping.id for change in moving),
        holders=holders,
        planner=Planner(connection, [holder.key for holder in holders.values()], title_limit),
        free=set(connection.scalars(idle.with_for_update(skip_locked=True))) if others else set(),
    )


def _decide(connection: sa.Connection, grant: _Grant, change: Change) -> None:
    """Gives the change its SKU, quarantines it or lets it wait; adapts the holder's change in this batch."""
    sku, row = change.sku or "", change.mapping.id
    holder = grant.holders.get(sku)
    item = grant.planner.item(holder) if holder is not None else None
    keeps = item is not None and item.active and item.sku == sku
    if sku in grant.taken or (holder is not None and holder.id not in grant.moving and keeps):
        reason = f"Its SKU {sku} is another item's too: give each item in the shop a SKU of its own."
        grant.batch[row] = replace(change, action=Action.QUARANTINED, reason=reason, shared=True)
    elif holder is not None and _is_busy(grant, change, holder):
        reason = f"The item that had its SKU {sku} is being pushed; the next run goes on."
        grant.batch[row] = replace(change, action=Action.WAIT, reason=reason)
    else:
        grant.taken[sku] = row
        if holder is not None and holder.id not in grant.moving:
            grant.batch[row] = _inherit(connection, grant, change, holder)


def _is_busy(grant: _Grant, change: Change, holder: Mapping) -> bool:
    """Whether the holder is being pushed elsewhere, or still has to look up its create under the SKU."""
    if holder.id not in grant.batch and holder.id not in grant.free:
        return True
    return holder.in_doubt and not _hands_over(grant, change, holder)


def _hands_over(grant: _Grant, change: Change, holder: Mapping) -> bool:
    """Whether the new owner, which has no product yet, takes over the product that the holder no longer needs."""
    return change.action is Action.CREATE and grant.planner.plan(holder).draft is None


def _inherit(connection: sa.Connection, grant: _Grant, change: Change, holder: Mapping) -> Change:
    """Frees the SKU of its holder; hands the holder's 4Seller product on when that item is to be listed no more."""
    freed: dict[str, object] = {"sku": None}
    left = replace(holder, sku=None)
    heir = change.mapping
    if _hands_over(grant, change, holder):
        freed |= FORGOTTEN | {"creating_since": None, "state": "removed"}
        left = replace(left, fourseller_product_id=None, acked_quantity=None, creating_since=None)
        # The new owner now looks up a create of the holder whose answer was lost.
        heir = replace(
            heir,
            sku=change.sku,
            fourseller_product_id=holder.fourseller_product_id,
            creating_since=heir.creating_since or holder.creating_since,
        )
    if holder.id in grant.batch:
        grant.batch[holder.id] = grant.planner.plan(left)
    else:
        freed |= CHANGED
    connection.execute(sa.update(mappings).where(mappings.c.id == holder.id).values(freed))
    if heir is change.mapping:
        return change
    taken_over = {
        "fourseller_product_id": heir.fourseller_product_id,
        "creating_since": heir.creating_since,
    }
    connection.execute(sa.update(mappings).where(mappings.c.id == heir.id).values(taken_over))
    takes_over = heir.fourseller_product_id is not None and change.action is Action.CREATE
    return replace(change, mapping=heir, action=Action.UPDATE if takes_over else change.action)


def _hold(connection: sa.Connection, taken: dict[str, int]) -> None:
    # Two items may swap their SKUs: all are released first, then each takes its own.
    connection.execute(sa.update(mappings).where(mappings.c.id.in_(taken.values())).values(sku=None))
    statement = sa.update(mappings).where(mappings.c.id == sa.bindparam("row"))
    connection.execute(
        statement.values(sku=sa.bindparam("new_sku")),
        [{"row": row, "new_sku": sku} for sku, row in taken.items()],
    )


def _note_creates(connection: sa.Connection, creates: set[int], lag_seconds: float) -> set[int]:
    """Records that creates are sent now; leaves out those with an earlier unknown create that may not be listed yet."""
    known = sa.update(mappings).values(creating_since=utc_now()).returning(mappings.c.id)
    if lag_seconds:
        shown = mappings.c.creating_since < utc_now(-math.ceil(lag_seconds))
        known = known.where(sa.or_(mappings.c.creating_since.is_(None), shown))
    noted: set[int] = set()

    def note(part: Sequence[int]) -> None:
        noted.update(connection.scalars(known.where(mappings.c.id.in_(part))).all())

    write_each(connection, sorted(creates), note)
    return noted


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
    if change.action not in REPLACES or last is None or last[0] != mapping.acked_hash or last[0] is None:
        return None
    return {**last[1], "inventory": {"quantity": mapping.acked_quantity}}


def _row(change: Change, before: dict[str, Any] | None, run_id: str | None) -> dict[str, Any]:
    after: dict[str, Any] = {}
    if change.action is Action.QUANTITY:
        after = {"inventory": {"quantity": change.quantity}}
    elif change.draft is not None:
        after = change.draft.model_dump(mode="json", exclude_none=True, exclude={"metadata"})
    return {
        "run_id": run_id,
        "mapping_id": change.mapping.id,
        "sku": change.sku,
        "action": change.action.value,
        "before": before,
        "after": after,
        "content_hash": change.content_hash if change.action in (Action.CREATE, Action.UPDATE) else None,
    }


def without_sending(change: Change) -> PushOutcome:
    """The outcome of a change that sends nothing."""
    if change.action is Action.QUARANTINED:
        return PushOutcome(change.mapping, PushResult.QUARANTINED, reason=change.reason, shared=change.shared)
    if change.action is Action.WAIT:
        later = SHADOW_SECONDS if change.reason == SHADOWED else None
        return PushOutcome(
            change.mapping, PushResult.RELEASED, reason=change.reason, settled=False, wait_seconds=later
        )
    if change.reason is not None:  # nothing to remove
        return PushOutcome(change.mapping, PushResult.REMOVED, reason=change.reason)
    finished = change.quantity is not None and change.content_hash == change.mapping.acked_hash
    return PushOutcome(change.mapping, PushResult.UNCHANGED, finished=finished)
