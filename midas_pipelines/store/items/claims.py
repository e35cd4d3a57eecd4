"""Claims: before an item is pushed a worker takes its mapping row for a while, so that no two push it at once.

Each claim has a number, and only that claim's own acknowledgement counts (`acknowledge.py`). It ends with its worker's
lease (`worker_liveness.py`), at the latest with its own. A claim that ends without an acknowledgement may leave a write behind
that 4Seller applies late: the item is pushed again once that time is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import MOST_AT_ONCE, mark_dirty, set_rows, unlocked
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.items.worker_liveness import alive_workers, remove_dead_workers, why_stopped
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.backoff import Backoff, is_due
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.refusals import write_each
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.types import utc_now

RETRY = Backoff(first=30, longest=3600, free=1)
"""The waits of an item that fails: the next run tries it again at once."""

LATE_SECONDS = 60
"""How long after a write without an answer 4Seller may still apply it."""

FORGOTTEN = {"fourseller_product_id": None, "acked_hash": None, "acked_price": None, "acked_quantity": None}
"""The states of a mapping without a product on 4Seller."""

NEWEST = 100
"""Of a long backlog, how many of the newest changes are looked at beside the oldest rows."""

ENDED = {"claimed_by": None, "claimed_until": None, "recheck_at": utc_now(LATE_SECONDS)}
"""A claim that ended without an acknowledgement: what it sent, if anything, may be applied late."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """An item's mapping to its 4Seller product, with the acknowledged state."""

    id: int
    product_id: int
    variant_id: int | None
    sku: str | None
    fourseller_product_id: str | None
    state: str
    version: int
    acked_version: int
    acked_hash: str | None
    acked_price: Decimal | None
    acked_quantity: int | None
    acked_at: datetime | None
    creating_since: datetime | None
    attempts: int
    reason: str | None
    dirty_since: datetime | None
    pinned_fields: dict[str, Any] | None = None  # what syncs leave alone, as 4Seller has it
    policy_override: str | None = None
    observed_hash: str | None = None  # the form in which 4Seller last showed it; None until it was read back
    claim_number: int = 0
    recheck_at: datetime | None = None
    judged_key: str | None = None  # of the comparison that last found it equal

    @property
    def key(self) -> ItemKey:
        """The item it is about."""
        return (self.product_id, self.variant_id)

    @property
    def in_doubt(self) -> bool:
        """Whether a create under its SKU may have happened without our knowing."""
        return self.creating_since is not None and self.fourseller_product_id is None

    @property
    def dirty(self) -> bool:
        """Whether a change of the item waits to be pushed."""
        return self.dirty_since is not None


COLUMNS = [mappings.c[name] for name in Mapping.__slots__]


class PushResult(StrEnum):
    """The result of a claimed item."""

    LISTED = "listed"  # content and quantity are confirmed
    QUANTITY = "quantity"  # the quantity is confirmed
    REMOVED = "removed"  # 4Seller no longer has it
    UNCHANGED = "unchanged"  # there was nothing to send
    QUARANTINED = "quarantined"  # waits for a person or a change of the item
    FAILED = "failed"  # will be tried again, later each time
    RELEASED = "released"  # not tried; costs no attempt


@dataclass(frozen=True, slots=True)
class PushOutcome:
    """The outcome of one claimed item, to be written to its mapping."""

    mapping: Mapping
    result: PushResult
    fourseller_product_id: str | None = None
    content_hash: str | None = None
    observed_hash: str | None = None  # the form that 4Seller's answer shows, where it is not ours
    price: Decimal | None = None
    quantity: int | None = None
    reason: str | None = None
    refused: bool = False  # quarantined by 4Seller, not by our own rules
    wait_seconds: float | None = None  # the earliest next attempt, where 4Seller named one
    created: bool = False
    adopted: bool = False
    wrote: bool = False
    unanswered: bool = False  # 4Seller did not answer, or said that it is down
    settled: bool = True  # no create has an unknown result
    vanished: bool = False  # 4Seller no longer has the product it was tied to
    finished: bool = True  # nothing is left to send for this version of the item
    shared: bool = False  # quarantined because its SKU is another item's
    aside: bool = False  # removed from 4Seller, yet for sale in the shop: counts as quarantined
    pinned_fields: dict[str, Any] | None = None  # read afresh before the write, where something is pinned
    uncertain: bool = False  # 4Seller may apply a write of this push later

    @property
    def unexpected(self) -> bool:
        """Whether it was quarantined for a reason outside the item."""
        return self.refused or self.shared


def claim(
    connection: sa.Connection,
    *,
    worker: str,
    lease_seconds: int,
    limit: int,
    after_id: int = 0,
    ids: Sequence[int] | None = None,
    listed_only: bool = False,
    ignore_delays: bool = False,
    shards: Shards | None = None,
) -> list[Mapping]:
    """Claims up to `limit` unclaimed dirty items, in the order of their ids; none while pushes are stopped.

    Args:
        connection: in a writing transaction; the claim holds once it commits.
        worker: the holder's name, unique among all processes.
        lease_seconds: when the claim expires.
        after_id: only mappings behind this one, so that one run meets an item once.
        ids: only these mappings.
        listed_only: only items that 4Seller has.
        ignore_delays: also those whose next attempt is not due yet.
        shards: only the items of these.
    """
    if why_stopped(connection) is not None:
        return []
    conditions = [*_claimable(ignore_delays=ignore_delays), mappings.c.id > after_id]
    if ids is not None:
        conditions.append(mappings.c.id.in_(ids))
    if shards is not None:
        conditions.append(shards.holds(mappings.c.id))
    if listed_only:
        conditions.append(mappings.c.fourseller_product_id.is_not(None))
    query = sa.select(mappings.c.id).where(*conditions).order_by(mappings.c.id).limit(limit)
    free = list(connection.scalars(query.with_for_update(skip_locked=True)))
    if not free:
        return []
    left_behind = mappings.c.claimed_by.is_not(None)
    statement = (
        sa.update(mappings)
        .values(
            claimed_by=worker,
            claimed_until=utc_now(lease_seconds),
            claim_number=mappings.c.claim_number + 1,
            recheck_at=sa.case((left_behind, utc_now(LATE_SECONDS)), else_=mappings.c.recheck_at),
        )
        .returning(*COLUMNS)
    )
    claimed: list[Mapping] = []

    def take(part: Sequence[int]) -> None:
        claimed.extend(
            Mapping(*row) for row in connection.execute(statement.where(mappings.c.id.in_(part))).all()
        )

    write_each(connection, free, take)
    return sorted(claimed, key=lambda one: one.id)


@dataclass(frozen=True, slots=True)
class ClaimableRow:
    """An item that is dirty, due and unclaimed; `pushed_ago` is in seconds, None when it never was."""

    id: int
    version: int
    pushed_ago: float | None
    shown: int | None  # what 4Seller last confirmed
    on_hand: int | None


def read_claimable(connection: sa.Connection, *, limit: int) -> list[ClaimableRow]:
    """By age of their rows; where there are more than `limit`, also those that changed last, so that a fresh change
    does not wait behind a long backlog. None while pushes are stopped."""
    if why_stopped(connection) is not None:
        return []
    on_hand = sa.case(
        (mappings.c.variant_id.is_(None), products.c.stock_quantity), else_=product_variants.c.stock_quantity
    )
    query = (
        sa.select(
            mappings.c.id,
            mappings.c.version,
            mappings.c.acked_at,
            mappings.c.acked_quantity,
            on_hand.label("on_hand"),
            utc_now().label("now"),
        )
        .select_from(
            mappings.outerjoin(products, products.c.id == mappings.c.product_id).outerjoin(
                product_variants, product_variants.c.id == mappings.c.variant_id
            )
        )
        .where(*_claimable())
    )
    rows = connection.execute(query.order_by(mappings.c.id).limit(limit)).all()
    if len(rows) >= limit:
        newest = connection.execute(query.order_by(mappings.c.dirty_since.desc()).limit(NEWEST)).all()
        rows = [*newest, *rows]
    found = {
        row.id: ClaimableRow(
            row.id, row.version, _ago(row.acked_at, row.now), row.acked_quantity, row.on_hand
        )
        for row in rows
    }
    return list(found.values())


def _ago(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()


def _claimable(*, ignore_delays: bool = False) -> list[sa.ColumnElement[bool]]:
    conditions = [
        mappings.c.dirty_since.is_not(None),
        sa.or_(mappings.c.claimed_until.is_(None), mappings.c.claimed_until < utc_now()),
    ]
    if not ignore_delays:
        conditions.append(RETRY.is_due(mappings.c.next_attempt_at, mappings.c.attempts))
    return conditions


def invalidate_ack(connection: sa.Connection, *, content: Sequence[int], quantity: Sequence[int]) -> None:
    """Clears the acknowledged values that are about to be sent: all, or the quantity alone, of these mappings.

    A write that is never acknowledged may have been applied. Were the old confirmation kept, an item that the shop
    changes back meanwhile would seem to need no push.
    """
    for ids, values in (
        (content, {"acked_hash": None, "acked_quantity": None}),
        (quantity, {"acked_quantity": None}),
    ):
        set_rows(connection, ids, values)


def release_claims(connection: sa.Connection, worker: str) -> int:
    """Ends every claim that `worker` still holds, without an attempt; returns how many."""
    # A claimed item is dirty until its claim ends: the small index on dirty items finds it.
    query = sa.select(mappings.c.id).where(
        mappings.c.dirty_since.is_not(None), mappings.c.claimed_by == worker
    )
    held = list(connection.scalars(query))
    free = unlocked(connection, held, mappings.c.claimed_by == worker)
    set_rows(connection, free, ENDED)
    return len(free)


def free_dead_claims(database: Database) -> int:
    """Ends the claims of workers that died without releasing them, and marks dirty what is due to be pushed again.

    Returns how many items that were.
    """
    # A claimed item is dirty until its claim ends: the small index on dirty items finds it.
    dead = sa.and_(
        mappings.c.dirty_since.is_not(None),
        mappings.c.claimed_by.is_not(None),
        mappings.c.claimed_by.not_in(alive_workers()),
    )
    with database.writing() as connection:
        held = list(connection.scalars(sa.select(mappings.c.id).where(dead).limit(MOST_AT_ONCE)))
        free = unlocked(connection, held, dead)
        set_rows(connection, free, ENDED)
        remove_dead_workers(connection)
        return len(free) + _push_again(connection)


def _push_again(connection: sa.Connection) -> int:
    """Marks dirty what a late write may have changed, and clears its acknowledged values."""
    over = sa.and_(mappings.c.recheck_at.is_not(None), is_due(mappings.c.recheck_at, LATE_SECONDS))
    waits = mappings.c.state == "quarantined"  # pushed again once it was freed and pushed
    due = sa.select(mappings.c.id).where(over, ~waits, mappings.c.claimed_by.is_(None)).limit(MOST_AT_ONCE)
    free = unlocked(connection, list(connection.scalars(due)), mappings.c.claimed_by.is_(None))
    return len(mark_dirty(connection, free, recheck_at=None, acked_hash=None, acked_quantity=None))
