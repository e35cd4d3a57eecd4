"""The result of each claimed item: acknowledged on its mapping, which ends the claim, and counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.items.claims import LATE_SECONDS, RETRY
from midas_pipelines.store.items.mappings import UNTIED, Mapping
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import unfit, utc_now
from midas_pipelines.storefront.writing import any_of, in_short, update_rows, write_each

CONFIRMING = ("listed", "quantity")
"""Results that confirm the quantity."""

BRAKED = "The brake is on: too many items at once would be zeroed, removed, repriced or relisted."
CANARY = "A wave of the changes failed, so the rest waits."
SHADOWED = "Shadow mode: it was recorded and not sent."
"""Why an item is released that was never tried."""

PREVIEW = 20
"""Rows in a preview table."""

_NAMES = ("id", "claim_number", "version", "acked_version", "dirty_since")
_READ = sa.select(*(mappings.c[name] for name in _NAMES), utc_now().label("now"))


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


def acknowledge(
    connection: sa.Connection, outcomes: Sequence[PushOutcome], *, most_attempts: int
) -> tuple[list[PushOutcome], list[PushOutcome]]:
    """Writes each outcome to its mapping and ends the claim; returns them as written, and those to be written later.

    A mapping row that the shop's own transaction holds is not waited for (see `mappings.unlocked`). An outcome
    whose claim another one has followed is not written; what it sent may have arrived after what the other claim sent,
    so its item is pushed again.
    """
    ids = [outcome.mapping.id for outcome in outcomes]
    mine = any_of(connection, mappings.c.id, ids)
    locked = _READ.where(mine).order_by(mappings.c.id).with_for_update(skip_locked=True)
    rows = {row["id"]: row for row in connection.execute(locked).mappings()}
    found = [outcome for outcome in outcomes if outcome.mapping.id in rows]
    ours = [one for one in found if rows[one.mapping.id]["claim_number"] == one.mapping.claim_number]
    for lost in found if len(ours) < len(found) else ():
        if lost not in ours and (lost.wrote or lost.uncertain):
            again: dict[str, Any] = {"recheck_at": utc_now(LATE_SECONDS if lost.uncertain else 0)}
            if lost.created:
                again["creating_since"] = utc_now()  # the SKU may have two products now
            connection.execute(sa.update(mappings).where(mappings.c.id == lost.mapping.id).values(again))

    def write(part: Sequence[PushOutcome]) -> None:
        alike: dict[tuple[str, ...], list[dict[str, object]]] = {}
        for one in part:
            row = _row(one, rows[one.mapping.id], most_attempts)
            alike.setdefault(tuple(row), []).append(row)
        for group in alike.values():
            update_rows(connection, mappings, group)
        for one in part:
            if one.pinned_fields is not None and (one.finished or one.vanished):
                # A pin or release by a person in the meantime wins, having raised the version.
                same = sa.and_(mappings.c.id == one.mapping.id, mappings.c.version == one.mapping.version)
                connection.execute(sa.update(mappings).where(same).values(pinned_fields=one.pinned_fields))

    refused: dict[int, PushOutcome] = {}

    def quarantine(bad: PushOutcome, why: Exception) -> None:
        refused[bad.mapping.id] = _quarantined(connection, bad, why)
        write([refused[bad.mapping.id]])

    write_each(connection, ours, write, quarantine)
    written = [refused.get(one.mapping.id, one) for one in found]
    return written, [one for one in outcomes if one.mapping.id not in rows]


def _quarantined(connection: sa.Connection, bad: PushOutcome, why: Exception) -> PushOutcome:
    """The outcome in place of one that the database refuses: the item waits for a person."""
    reason = f"The answer of 4Seller cannot be stored ({in_short(why)})"
    if isinstance(why, sa.exc.IntegrityError) and bad.fourseller_product_id is not None:
        of_product = mappings.c.fourseller_product_id == bad.fourseller_product_id
        other = connection.scalar(
            sa.select(mappings.c.sku).where(of_product, mappings.c.id != bad.mapping.id)
        )
        reason = f"4Seller answered with the product {bad.fourseller_product_id}, which is that of {other}"
    return PushOutcome(
        bad.mapping,
        PushResult.QUARANTINED,
        reason=f"{reason}. Look at the product on 4Seller, then run `midas items retry`.",
        refused=True,
        settled=False,
        uncertain=bad.uncertain,
    )


def _row(outcome: PushOutcome, row: sa.RowMapping, most_attempts: int) -> dict[str, object]:
    """What the outcome changes in the row, which is locked; what it does not change is left out. Raises ValueError for an id
    of no use."""
    now, mapping = row["now"], outcome.mapping
    values: dict[str, object] = {"id": mapping.id, "claimed_by": None, "claimed_until": None}
    tied = outcome.fourseller_product_id or mapping.fourseller_product_id
    if outcome.uncertain:
        values["recheck_at"] = now + timedelta(seconds=LATE_SECONDS)
    elif outcome.settled:
        # An earlier create may still add a second product beside the item's.
        late = mapping.recheck_at is not None and tied is not None
        if not late or outcome.result is PushResult.REMOVED:
            values["creating_since"] = None
    if outcome.result is PushResult.FAILED:
        values |= _failure(outcome, row, most_attempts)
    elif outcome.result is PushResult.RELEASED:
        if outcome.wait_seconds and row["version"] == mapping.version:  # a change ends its wait
            wait = min(outcome.wait_seconds, RETRY.longest)
            values["next_attempt_at"] = now + timedelta(seconds=math.ceil(wait))
        if outcome.vanished:
            values |= UNTIED
    else:
        values |= _done(outcome, row)
    if outcome.fourseller_product_id is not None:  # it exists, whatever the result of the rest
        if unfit(mappings.c.fourseller_product_id, outcome.fourseller_product_id) is not None:
            raise ValueError("an id that cannot be stored")  # as it is, which alone would find the product
        values["fourseller_product_id"] = outcome.fourseller_product_id
    return values


def _dealt_with(outcome: PushOutcome, row: sa.RowMapping) -> dict[str, object]:
    """This version of the item waits no more; one that changed since stays dirty."""
    pushed = outcome.mapping.version
    dirty_since = None if row["version"] == pushed else row["dirty_since"]
    return {"acked_version": max(row["acked_version"], pushed), "dirty_since": dirty_since}


def _done(outcome: PushOutcome, row: sa.RowMapping) -> dict[str, object]:
    mapping, result = outcome.mapping, outcome.result
    values: dict[str, object] = {}
    if result in CONFIRMING:
        values |= {"acked_quantity": outcome.quantity, "acked_at": row["now"]}
    if not outcome.finished:  # the rest has yet to be sent, and goes on backing off where it failed before
        return values
    attempts = mapping.attempts + 1 if outcome.refused else 0
    values |= _dealt_with(outcome, row) | {"next_attempt_at": None, "attempts": attempts}
    if result is PushResult.QUARANTINED or outcome.reason is not None:
        values["state"] = "quarantined"
    else:
        values |= {"state": "listed", "reason": None}
    if result is PushResult.LISTED:
        hashes = {"acked_hash": outcome.content_hash, "observed_hash": outcome.observed_hash}
        values |= hashes | {"acked_price": outcome.price}
    if result is PushResult.REMOVED:
        gone = {"state": "quarantined" if outcome.aside else "removed", "sku": None, "acked_at": row["now"]}
        values |= UNTIED | gone | {"reason": outcome.reason}
    if outcome.refused and not outcome.uncertain:  # surely not applied: the earlier acknowledgement holds
        values["acked_hash"] = mapping.acked_hash
        if result is PushResult.QUARANTINED:
            values["acked_quantity"] = mapping.acked_quantity
    if outcome.reason is not None:
        values["reason"] = outcome.reason
    return values


def _failure(outcome: PushOutcome, row: sa.RowMapping, most_attempts: int) -> dict[str, object]:
    mapping = outcome.mapping
    # A quarantined item that is pushed again was freed by a person or a change: its attempts restart.
    attempts = 1 if mapping.state == "quarantined" else mapping.attempts + 1
    tied = mapping.fourseller_product_id or outcome.fourseller_product_id
    state = "quarantined" if attempts >= most_attempts else "listed" if tied else "new"
    values: dict[str, object] = {"attempts": attempts, "reason": outcome.reason, "state": state}
    if outcome.content_hash is not None:  # the answer shows it: that is what holds still
        values["acked_hash"] = outcome.content_hash
    if state == "quarantined":
        return values | _dealt_with(outcome, row)
    wait = math.ceil(min(max(RETRY.seconds(attempts), outcome.wait_seconds or 0.0), RETRY.longest))
    return values | {"next_attempt_at": row["now"] + timedelta(seconds=wait) if wait else None}


@dataclass
class PushCounts:
    """Counts of one push; every claimed item is counted once."""

    claimed: int = 0
    created: int = 0
    adopted: int = 0
    updated: int = 0
    pushed: int = 0  # quantities alone
    deleted: int = 0
    unchanged: int = 0
    quarantined: int = 0
    unexpected: int = 0  # of those set aside, the ones that no scan could know: refused, or sharing a SKU
    failed: int = 0
    released: int = 0
    held: int = 0  # released because the brake is on
    shadowed: int = 0  # recorded and not sent: shadow mode
    held_items: list[dict[str, str]] = field(default_factory=list)  # the first of them
    problems: list[dict[str, str]] = field(default_factory=list)  # a preview: the first of them

    def count(self, outcome: PushOutcome, sku: str | None = None) -> None:
        """Adds one item's end; `sku` names it where its mapping holds none yet."""
        name = sku or outcome.mapping.sku or ""
        kind = _count_of(outcome)
        self.claimed += 1
        self.unexpected += outcome.refused or outcome.shared
        self.adopted += outcome.adopted
        setattr(self, kind, getattr(self, kind) + 1)
        if kind == "held" and len(self.held_items) < PREVIEW:
            self.held_items.append({"sku": name, "reason": outcome.reason or ""})
        shown = outcome.refused or outcome.result in (PushResult.QUARANTINED, PushResult.FAILED)
        if outcome.reason and shown and len(self.problems) < PREVIEW:
            self.problems.append({"sku": name, "result": outcome.result.value, "reason": outcome.reason})

    def add(self, other: PushCounts) -> None:
        """Adds the counts of another push."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def _count_of(outcome: PushOutcome) -> str:
    """The count that the item goes into."""
    changed = "deleted" if outcome.result is PushResult.REMOVED else "updated"
    match outcome.result:
        case PushResult.LISTED if outcome.created:
            return "created"
        case PushResult.LISTED | PushResult.REMOVED:
            return changed if outcome.wrote else "unchanged"
        case PushResult.QUANTITY:
            return "quarantined" if outcome.refused else "pushed"
        case PushResult.RELEASED if outcome.reason in (BRAKED, CANARY):
            return "held"
        case PushResult.RELEASED if outcome.reason == SHADOWED:
            return "shadowed"
    return outcome.result.value
