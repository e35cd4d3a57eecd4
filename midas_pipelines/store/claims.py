"""Claims: before an item is pushed a worker takes its mapping row for a while, so that no two push it at once.

A claim is a lease: it ends by itself when its holder dies. Whoever claims reads the item afresh in the same
transaction, so an old quantity never overwrites a newer one. An acknowledgement counts only for the claim's holder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.mappings import unlocked
from midas_pipelines.store.shards import Shards
from midas_pipelines.store.tables import mappings
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.types import utc_now

LONGEST_DELAY_SECONDS = 3600
FIRST_DELAY_SECONDS = 30


FORGOTTEN = {"fourseller_product_id": None, "acked_hash": None, "acked_price": None, "acked_quantity": None}
"""What a mapping is without a product on 4Seller."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """An item's tie to its 4Seller product, and what 4Seller last confirmed."""

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


class Fate(StrEnum):
    """How a claimed item ended."""

    LISTED = "listed"  # content and quantity are confirmed
    QUANTITY = "quantity"  # the quantity is confirmed
    REMOVED = "removed"  # 4Seller no longer has it
    UNCHANGED = "unchanged"  # there was nothing to send
    SET_ASIDE = "set_aside"  # waits for a person or for a change of the item
    FAILED = "failed"  # will be tried again, later each time
    RELEASED = "released"  # not tried; costs no attempt


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one claimed item, to be written to its mapping."""

    mapping: Mapping
    fate: Fate
    fourseller_product_id: str | None = None
    content_hash: str | None = None
    price: Decimal | None = None
    quantity: int | None = None
    reason: str | None = None
    refused: bool = False  # set aside by 4Seller, not by our own rules
    wait_seconds: float | None = None  # the earliest next attempt, where 4Seller named one
    created: bool = False
    adopted: bool = False
    wrote: bool = False
    unanswered: bool = False  # 4Seller did not answer, or said that it is down
    settled: bool = True  # no create of unknown fate is left behind
    vanished: bool = False  # 4Seller no longer has the product it was tied to
    finished: bool = True  # nothing is left to send for this version of the item
    shared: bool = False  # set aside because its SKU is another item's
    aside: bool = False  # removed from 4Seller, yet for sale in the shop: it counts as set aside
    pinned_fields: dict[str, Any] | None = None  # read afresh before the write, where something is pinned

    @property
    def unforeseen(self) -> bool:
        """Whether it was set aside for what the item alone does not show."""
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
    """Takes up to `limit` dirty items that nobody holds, in the order of their ids.

    Args:
        connection: in a writing transaction; the claim holds once it commits.
        worker: the holder's name, unique among all processes.
        lease_seconds: when the claim ends by itself.
        after_id: only mappings behind this one, so that one run meets an item once.
        ids: only these mappings.
        listed_only: only items that 4Seller has.
        ignore_delays: also those whose next attempt is not due yet.
        shards: only the items of these.
    """
    conditions = [
        mappings.c.dirty_since.is_not(None),
        mappings.c.id > after_id,
        sa.or_(mappings.c.claimed_until.is_(None), mappings.c.claimed_until < utc_now()),
    ]
    if not ignore_delays:
        conditions.append(
            sa.or_(mappings.c.next_attempt_at.is_(None), mappings.c.next_attempt_at <= utc_now())
        )
    if ids is not None:
        conditions.append(mappings.c.id.in_(ids))
    if shards is not None:
        conditions.append(shards.condition)
    if listed_only:
        conditions.append(mappings.c.fourseller_product_id.is_not(None))
    query = sa.select(*COLUMNS).where(*conditions).order_by(mappings.c.id).limit(limit)
    claimed = [Mapping(*row) for row in connection.execute(query.with_for_update(skip_locked=True))]
    if claimed:
        connection.execute(
            sa.update(mappings)
            .where(mappings.c.id.in_([mapping.id for mapping in claimed]))
            .values(claimed_by=worker, claimed_until=utc_now(lease_seconds))
        )
    return claimed


def doubt(connection: sa.Connection, *, content: Sequence[int], quantity: Sequence[int]) -> None:
    """Forgets what 4Seller confirmed of what is about to be sent: all of it, or the quantity alone, of these mappings.

    A write that is never acknowledged may have been applied. Were the old confirmation kept, an item that the shop
    changes back meanwhile would seem to need no push.
    """
    for ids, values in (
        (content, {"acked_hash": None, "acked_quantity": None}),
        (quantity, {"acked_quantity": None}),
    ):
        if ids:
            connection.execute(sa.update(mappings).where(mappings.c.id.in_(ids)).values(values))


def acknowledge(
    connection: sa.Connection, outcomes: Sequence[Outcome], *, worker: str, most_attempts: int
) -> list[Outcome]:
    """Writes each outcome to its mapping and ends the claim; returns those to be written a moment later.

    A mapping row that the shop's own transaction holds is not waited for (see `mappings.unlocked`). An outcome
    whose claim has passed to another worker is dropped: that worker has read the item afresh.
    """
    free = set(unlocked(connection, [outcome.mapping.id for outcome in outcomes]))
    alike: dict[Shape, list[dict[str, object]]] = {}
    for outcome in outcomes:
        if outcome.mapping.id in free:
            shape, row = _split(_acknowledgement(outcome, most_attempts))
            row |= {"row": outcome.mapping.id, "worker": worker, "pushed_version": outcome.mapping.version}
            alike.setdefault(shape, []).append(row)
    for shape, rows in alike.items():
        connection.execute(_statement(shape), rows)
    return [outcome for outcome in outcomes if outcome.mapping.id not in free]


def release(connection: sa.Connection, worker: str) -> int:
    """Ends every claim that `worker` still holds, without an attempt; returns how many."""
    # A claimed item is dirty until its claim ends: the small index on dirty items finds it.
    query = sa.select(mappings.c.id).where(
        mappings.c.dirty_since.is_not(None), mappings.c.claimed_by == worker
    )
    held = list(connection.scalars(query))
    free = unlocked(connection, held)
    if not free:
        return 0
    statement = sa.update(mappings).where(mappings.c.id.in_(free), mappings.c.claimed_by == worker)
    return connection.execute(statement.values(claimed_by=None, claimed_until=None)).rowcount


def delay_seconds(attempts: int) -> float:
    """How long an item waits after its `attempts`-th failure: the next run first, then doubling up to an hour."""
    if attempts <= 1:
        return 0.0
    return float(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(attempts - 2, 12)))


class Dealt(Enum):
    """What is written where this version of the item waits no more; one that changed since stays dirty."""

    VERSION = "acked_version"
    DIRTY = "dirty_since"


@dataclass(frozen=True, slots=True)
class Later:
    """A moment by the database's clock, so many seconds from now."""

    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Pinned:
    """Pins as they were read afresh; what a person has pinned or released meanwhile stands, having raised the version."""

    fields: dict[str, Any] | None = field(default=None, hash=False, compare=False)


DEALT_WITH = {"acked_version": Dealt.VERSION, "dirty_since": Dealt.DIRTY}
Expression = Dealt | Later | Pinned | None
Shape = tuple[tuple[str, Expression], ...]
"""Which columns an acknowledgement writes, and which of them by an expression: those alike go in one statement."""


def _split(values: dict[str, object]) -> tuple[Shape, dict[str, object]]:
    shape = tuple((name, _expression_of(value)) for name, value in values.items())
    plain = {f"new_{name}": values[name] for name, expression in shape if expression is None}
    pins = values.get("pinned_fields")
    return shape, plain | ({"new_pins": pins.fields} if isinstance(pins, Pinned) else {})


def _expression_of(value: object) -> Expression:
    if isinstance(value, Pinned):
        return Pinned()  # its fields are a parameter
    return value if isinstance(value, Dealt | Later) else None


@lru_cache(maxsize=256)
def _statement(shape: Shape) -> sa.Update:
    statement = sa.update(mappings).where(
        mappings.c.id == sa.bindparam("row"), mappings.c.claimed_by == sa.bindparam("worker")
    )
    return statement.values({name: _expression(name, expression) for name, expression in shape})


def _expression(name: str, expression: Expression) -> sa.ColumnElement[Any] | utc_now:
    pushed = sa.bindparam("pushed_version", type_=sa.BigInteger)
    match expression:
        case None:
            return sa.bindparam(f"new_{name}", type_=mappings.c[name].type)
        case Later(seconds):
            return utc_now(seconds)
        case Pinned():
            pins = sa.bindparam("new_pins", type_=mappings.c.pinned_fields.type)
            return sa.case((mappings.c.version == pushed, pins), else_=mappings.c.pinned_fields)
        case Dealt.VERSION:
            return sa.case((mappings.c.acked_version > pushed, mappings.c.acked_version), else_=pushed)
        case Dealt.DIRTY:
            return sa.case((mappings.c.version == pushed, sa.null()), else_=mappings.c.dirty_since)


def _acknowledgement(outcome: Outcome, most_attempts: int) -> dict[str, object]:
    values: dict[str, object] = {"claimed_by": None, "claimed_until": None}
    if outcome.settled:
        values["creating_since"] = None
    if outcome.fate is Fate.FAILED:
        values |= _failure(outcome, most_attempts)
    elif outcome.fate is Fate.RELEASED:
        if outcome.wait_seconds:
            values["next_attempt_at"] = Later(math.ceil(outcome.wait_seconds))
        if outcome.vanished:
            values |= FORGOTTEN
        if outcome.fourseller_product_id is not None:  # found to be there; the rest is for the next run
            values["fourseller_product_id"] = outcome.fourseller_product_id
    else:
        values |= _done(outcome)
    return values


def _done(outcome: Outcome) -> dict[str, object]:
    values: dict[str, object] = {}
    if outcome.fate in (Fate.LISTED, Fate.QUANTITY):
        values |= {"acked_quantity": outcome.quantity, "acked_at": Later()}
    if not outcome.finished:  # the rest has yet to be sent, and goes on backing off where it failed before
        return values
    attempts = outcome.mapping.attempts + 1 if outcome.refused else 0
    values |= DEALT_WITH | {"next_attempt_at": None, "attempts": attempts}
    if outcome.fate in (Fate.LISTED, Fate.QUANTITY, Fate.UNCHANGED):
        values |= {"state": "listed", "reason": None} if outcome.reason is None else {"state": "set_aside"}
    if outcome.fate is Fate.LISTED:
        values |= {
            "fourseller_product_id": outcome.fourseller_product_id,
            "acked_hash": outcome.content_hash,
            "acked_price": outcome.price,
        }
    if outcome.pinned_fields is not None:
        values["pinned_fields"] = Pinned(outcome.pinned_fields)
    if outcome.fate is Fate.REMOVED:
        values |= FORGOTTEN | {
            "state": "set_aside" if outcome.aside else "removed",
            "reason": outcome.reason,
            "sku": None,
            "acked_at": Later(),
        }
    if outcome.fate is Fate.SET_ASIDE:
        values |= {"state": "set_aside"}
    if outcome.refused:  # surely not applied: what was confirmed before holds still
        values["acked_hash"] = outcome.mapping.acked_hash
        if outcome.fate is Fate.SET_ASIDE:
            values["acked_quantity"] = outcome.mapping.acked_quantity
    if outcome.reason is not None:
        values["reason"] = outcome.reason
    return values


def _failure(outcome: Outcome, most_attempts: int) -> dict[str, object]:
    mapping = outcome.mapping
    # What was set aside and is pushed again was freed by a person or a change: its attempts begin anew.
    attempts = 1 if mapping.state == "set_aside" else mapping.attempts + 1
    state = "set_aside" if attempts >= most_attempts else "listed" if mapping.fourseller_product_id else "new"
    values: dict[str, object] = {"attempts": attempts, "reason": outcome.reason, "state": state}
    if state == "set_aside":
        return values | DEALT_WITH
    wait = max(delay_seconds(attempts), outcome.wait_seconds or 0.0)
    return values | {"next_attempt_at": Later(math.ceil(wait)) if wait else None}
