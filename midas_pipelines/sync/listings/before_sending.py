"""What is decided in the transaction of a claim, before a change is sent: shadow mode, its SKU, how its listing was.

One SKU, one item: before a SKU is sent to 4Seller its mapping row must hold it, by a unique constraint. The shop decides
who owns a SKU. A row releases a SKU that its item no longer has; where that item is no longer listed, the new owner
inherits its 4Seller product rather than making a second one of the same SKU.

What a listing shows before each write is kept with what is sent: `midas undo` and a failed wave put it back. Before the
first claim, buyers who wait get the stock that came back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.acknowledge import SHADOWED, PushOutcome, PushResult
from midas_pipelines.store.items.mappings import CHANGED, COLUMNS, UNCLAIMED, UNTIED, Mapping, unlocked
from midas_pipelines.store.operations.findings import ShadowRow
from midas_pipelines.store.orders.listing import OVERSOLD, UNMAPPED
from midas_pipelines.store.schema.operation_tables import listing_writes
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import (
    any_of,
    by_column,
    insert_columns,
    set_aside,
    update_rows,
    write_each,
)
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.plan import REPLACES, Action, Change, Planner
from midas_pipelines.sync.orders.stock.pending_lines import allocate_pending_lines

SHADOW_SECONDS = 120.0
"""When an item is planned again that shadow mode kept back, unless it changes before."""

SENDS_SKU = (Action.CREATE, Action.UPDATE)

LINES_WAIT = sa.or_(sa.exists().where(OVERSOLD), sa.exists().where(UNMAPPED))
"""Whether any line of an order waits for stock or an item; by two small indexes."""
_KEPT = listing_writes.c


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
    connection: sa.Connection, changes: list[Change], *, title_limit: int, lag_seconds: float
) -> list[Change]:
    """The same changes, with their SKUs held by their mapping rows, or quarantined where another item has the SKU.

    Runs in the transaction that claimed the rows. A change waits where the row that holds its SKU is busy. Creates
    are recorded as begun, so that a create whose answer is lost is looked up before it is sent again; an item in doubt
    keeps its SKU until that is done. Until `lag_seconds` after a create was sent it is only looked up, for
    4Seller's look-ups may lag as long behind it.
    """
    moving = [one for one in changes if one.action in SENDS_SKU and one.sku != one.mapping.sku]
    in_doubt = {one.mapping.id for one in moving if one.mapping.in_doubt and one.mapping.sku is not None}
    changes = [replace(one, action=Action.LOOK_UP) if one.mapping.id in in_doubt else one for one in changes]
    if moving := [one for one in moving if one.mapping.id not in in_doubt]:
        changes = _SkuClaims(connection, changes, moving, title_limit).decide()
    creates = {one.mapping.id for one in changes if one.action is Action.CREATE}
    early = creates - _note_creates(connection, creates, lag_seconds)
    return [replace(one, action=Action.LOOK_UP) if one.mapping.id in early else one for one in changes]


class _SkuClaims:
    """Assigns the SKUs that one batch asks for and its rows do not hold."""

    def __init__(
        self, connection: sa.Connection, changes: list[Change], moving: list[Change], title_limit: int
    ) -> None:
        self._connection = connection
        self._batch = {one.mapping.id: one for one in changes}  # as decided so far
        self._moving = {one.mapping.id: one for one in moving}
        self._taken: dict[str, int] = {}  # SKU -> mapping id
        held = sa.select(*COLUMNS).where(any_of(connection, mappings.c.sku, [one.sku for one in moving]))
        self._holders = {row.sku: Mapping(*row) for row in connection.execute(held)}
        if self._holders:
            self._planner = Planner(connection, [one.key for one in self._holders.values()], title_limit)
            others = [one.id for one in self._holders.values() if one.id not in self._batch]
            self._free = set(unlocked(connection, others, UNCLAIMED))

    def decide(self) -> list[Change]:
        """All changes of the batch, those that move with their SKU held, quarantined or waiting."""
        for change in self._moving.values():
            self._decide(change, self._holders.get(change.sku or ""))
        self._wait_for_those_that_stay()
        if held := [self._moving[row] for row in self._taken.values()]:
            # Two items may swap their SKUs: all are released first, then each takes its own.
            if leaving := [one.mapping.id for one in held if one.mapping.sku is not None]:
                release = sa.update(mappings).where(mappings.c.id.in_(leaving))
                self._connection.execute(release.values(sku=None))
            rows = [{"id": one.mapping.id, "sku": one.sku} for one in held]
            update_rows(self._connection, mappings, rows)
        return list(self._batch.values())

    def _decide(self, change: Change, holder: Mapping | None) -> None:
        """Gives the change its SKU, quarantines it or lets it wait; adapts the holder's change in this batch."""
        sku, row = change.sku or "", change.mapping.id
        stays = holder is not None and holder.id not in self._moving and self._keeps(holder)
        if sku in self._taken or stays:
            reason = f"Its SKU {sku} is another item's too: give each item in the shop a SKU of its own."
            self._batch[row] = replace(change, action=Action.QUARANTINED, reason=reason, shared=True)
        elif holder is not None and self._is_busy(change, holder):
            self._wait(change)
        else:
            self._taken[sku] = row
            if holder is not None and holder.id not in self._moving:
                self._batch[row] = self._inherit(change, holder)

    def _wait(self, change: Change) -> None:
        reason = f"The item that had its SKU {change.sku} is being pushed; the next run goes on."
        self._batch[change.mapping.id] = replace(change, action=Action.WAIT, reason=reason)

    def _wait_for_those_that_stay(self) -> None:
        """Lets a change wait whose SKU is that of another one that is to move and does not, and so on along the chain."""
        staying = self._moving.keys() - self._taken.values()
        while stuck := [
            sku for sku in self._taken if sku in self._holders and self._holders[sku].id in staying
        ]:
            for sku in stuck:
                row = self._taken.pop(sku)
                self._wait(self._moving[row])
                staying.add(row)

    def _keeps(self, holder: Mapping) -> bool:
        item = self._planner.item(holder)
        return item is not None and item.active and item.sku == holder.sku

    def _is_busy(self, change: Change, holder: Mapping) -> bool:
        """Whether the holder is being pushed elsewhere, or still has to look up its create under the SKU."""
        if holder.id not in self._batch and holder.id not in self._free:
            return True
        return holder.in_doubt and not self._hands_over(change, holder)

    def _hands_over(self, change: Change, holder: Mapping) -> bool:
        """Whether the new owner, which has no product yet, takes over the product that the holder no longer needs."""
        return change.action is Action.CREATE and self._planner.plan(holder).draft is None

    def _inherit(self, change: Change, holder: Mapping) -> Change:
        """Frees the SKU of its holder; hands the holder's 4Seller product on when that item is to be listed no more."""
        freed: dict[str, object] = {"sku": None}
        left = replace(holder, sku=None)
        if handed := self._hands_over(change, holder):
            freed |= UNTIED | {"creating_since": None, "state": "removed"}
            left = replace(left, fourseller_product_id=None, acked_quantity=None, creating_since=None)
        if holder.id in self._batch:
            self._batch[holder.id] = self._planner.plan(left)
        else:
            freed |= CHANGED
        self._set(holder.id, freed)
        if not handed:
            return change
        # The new owner also looks up a create of the holder whose answer was lost.
        inherited: dict[str, Any] = {
            "fourseller_product_id": holder.fourseller_product_id,
            "creating_since": change.mapping.creating_since or holder.creating_since,
        }
        self._set(change.mapping.id, inherited)
        heir = replace(change.mapping, sku=change.sku, **inherited)
        action = change.action if heir.fourseller_product_id is None else Action.UPDATE
        return replace(change, mapping=heir, action=action)

    def _set(self, row: int, values: dict[str, object]) -> None:
        self._connection.execute(sa.update(mappings).where(mappings.c.id == row).values(values))


def _note_creates(connection: sa.Connection, creates: set[int], lag_seconds: float) -> set[int]:
    """Records that creates are sent now; leaves out those with an earlier unknown create that may not be listed yet."""
    known = sa.update(mappings).values(creating_since=utc_now()).returning(mappings.c.id)
    if lag_seconds:
        shown = mappings.c.creating_since < utc_now(-math.ceil(lag_seconds))
        known = known.where(sa.or_(mappings.c.creating_since.is_(None), shown))
    noted: set[int] = set()

    def note(part: Sequence[int]) -> None:
        noted.update(connection.scalars(known.where(any_of(connection, mappings.c.id, part))).all())

    write_each(connection, sorted(creates), note)
    return noted


def keep_planned(connection: sa.Connection, changes: Sequence[Change], run_id: str | None) -> list[Change]:
    """Keeps each change that is about to be sent, with what 4Seller confirmed before; marks those to be read first.

    Runs in the transaction of the claim, so that a write never leaves without a trace.
    """
    sent = [one for one in changes if one.writes and one.action is not Action.LOOK_UP]
    content = _last_content(connection, [one.mapping.id for one in sent if one.action in REPLACES])
    unread: set[int] = set()
    rows = []
    for change in sent:
        mapping, after = change.mapping, dict[str, Any]()
        before: dict[str, Any] | None = None
        confirmed = {"inventory": {"quantity": mapping.acked_quantity}}
        if change.action is Action.QUANTITY:
            before, after = confirmed, {"inventory": {"quantity": change.quantity}}
        elif change.draft is not None:
            after = change.draft.model_dump(mode="json", exclude_none=True, exclude={"metadata"})
        if change.action in REPLACES:
            sent_hash, last = content.get(mapping.id, (None, {}))
            if sent_hash is None or sent_hash != mapping.acked_hash:
                unread.add(mapping.id)
            else:
                before = last | confirmed
        row: dict[str, Any] = {"run_id": run_id, "mapping_id": mapping.id, "sku": change.sku}
        row |= {"action": change.action.value, "before": before, "after": after}
        rows.append(row | {"content_hash": change.content_hash if change.action in SENDS_SKU else None})
    insert_columns(connection, listing_writes, by_column(rows))
    return [replace(one, unread=one.mapping.id in unread) for one in changes] if unread else list(changes)


def _last_content(
    connection: sa.Connection, mapping_ids: Sequence[int]
) -> dict[int, tuple[str | None, dict[str, Any]]]:
    """By item, the hash and the whole content of its newest kept write, where there is one."""
    if not mapping_ids:
        return {}
    newest = sa.select(sa.func.max(_KEPT.id)).where(
        any_of(connection, _KEPT.mapping_id, mapping_ids), _KEPT.content_hash.is_not(None)
    )
    query = sa.select(_KEPT.mapping_id, _KEPT.content_hash, _KEPT.after)
    rows = connection.execute(query.where(_KEPT.id.in_(newest.group_by(_KEPT.mapping_id))))
    return {row.mapping_id: (row.content_hash, row.after) for row in rows}


def keep_before(database: Database, mapping_id: int, before: dict[str, Any]) -> None:
    """Adds how the listing was to the newest write of the item, which was read just before it is sent."""
    newest = sa.select(sa.func.max(_KEPT.id)).where(_KEPT.mapping_id == mapping_id)
    changed = sa.update(listing_writes).where(
        _KEPT.id == newest.scalar_subquery(), _KEPT.action != "quantity"
    )
    adopted = sa.case((_KEPT.action == "create", "update"), else_=_KEPT.action)
    with database.writing() as connection:
        connection.execute(changed.values(before=before, action=adopted))


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


def serve_before_push(database: Database, run_id: str | None = None) -> None:
    """Gives stock that came back to those who wait for it, before anyone can buy it again.

    A push does not depend on it: where our rows of orders are locked, the push goes on without.
    """
    with set_aside("Lines that wait for stock"):
        if database.scalar(sa.select(LINES_WAIT)):
            allocate_pending_lines(database, run_id)
