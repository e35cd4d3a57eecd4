"""What a push writes: the listing before and after, kept as it is about to be sent, and then each claimed item's result.

A result is acknowledged on the item's mapping and ends its claim. `midas undo` puts back what was kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.claims import LATE_SECONDS, RETRY
from midas_pipelines.store.items.mappings import FORGOTTEN, Mapping
from midas_pipelines.store.schema.operation_tables import listing_writes
from midas_pipelines.store.schema.tables import mappings, sync_logs
from midas_pipelines.storefront.types import unfit, utc_now
from midas_pipelines.storefront.writing import in_short, insert_rows, update_rows, write_each

CONFIRMING = ("listed", "quantity")
"""Results that confirm the quantity."""

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

    @property
    def unexpected(self) -> bool:
        """Whether it was quarantined for a reason outside the item."""
        return self.refused or self.shared


def acknowledge(
    connection: sa.Connection, outcomes: Sequence[PushOutcome], *, most_attempts: int
) -> tuple[list[PushOutcome], list[PushOutcome]]:
    """Writes each outcome to its mapping and ends the claim; returns them as written, and those to be written later.

    A mapping row that the shop's own transaction holds is not waited for (see `mappings.unlocked`). An outcome
    whose claim another one has followed is not written; what it sent may have arrived after what the other claim sent,
    so its item is pushed again.
    """
    ids = [outcome.mapping.id for outcome in outcomes]
    locked = _READ.where(mappings.c.id.in_(ids)).order_by(mappings.c.id).with_for_update(skip_locked=True)
    rows = {row["id"]: row for row in connection.execute(locked).mappings()}
    found = [outcome for outcome in outcomes if outcome.mapping.id in rows]
    mine = [one for one in found if rows[one.mapping.id]["claim_number"] == one.mapping.claim_number]
    for lost in found if len(mine) < len(found) else ():
        if lost not in mine and (lost.wrote or lost.uncertain):
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

    write_each(connection, mine, write, quarantine)
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
            wait = RETRY.bounded(outcome.wait_seconds, mapping.attempts)
            values["next_attempt_at"] = now + timedelta(seconds=math.ceil(wait))
        if outcome.vanished:
            values |= FORGOTTEN
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
        values |= FORGOTTEN | gone | {"reason": outcome.reason}
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
    wait = math.ceil(RETRY.bounded(max(RETRY.seconds(attempts), outcome.wait_seconds or 0.0), attempts))
    return values | {"next_attempt_at": row["now"] + timedelta(seconds=wait) if wait else None}


# The listing before and after each write

_TABLE = listing_writes.c
Listing = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """Some writes of one item, by their rows: how it was before the first, and how the last one left it."""

    mapping_id: int
    rows: tuple[int, ...]
    sku: str | None
    actions: tuple[str, ...]
    before: Listing | None
    after: Listing


def keep_writes(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Keeps what is about to be sent; runs in the transaction of the claim."""
    insert_rows(connection, listing_writes, rows)


def last_content(
    connection: sa.Connection, mapping_ids: Sequence[int]
) -> dict[int, tuple[str | None, Listing]]:
    """By item, the hash and the whole content of its newest kept write, where there is one."""
    if not mapping_ids:
        return {}
    newest = sa.select(sa.func.max(_TABLE.id)).where(
        _TABLE.mapping_id.in_(mapping_ids), _TABLE.content_hash.is_not(None)
    )
    query = sa.select(_TABLE.mapping_id, _TABLE.content_hash, _TABLE.after)
    rows = connection.execute(query.where(_TABLE.id.in_(newest.group_by(_TABLE.mapping_id))))
    return {row.mapping_id: (row.content_hash, row.after) for row in rows}


def keep_before(database: Database, mapping_id: int, run_id: str | None, before: Listing) -> None:
    """Adds how the listing was to the newest write of the item, which was read just before it is sent."""
    newest = sa.select(sa.func.max(_TABLE.id)).where(
        _TABLE.mapping_id == mapping_id, _TABLE.run_id.is_not_distinct_from(run_id)
    )
    changed = sa.update(listing_writes).where(
        _TABLE.id == newest.scalar_subquery(), _TABLE.action != "quantity"
    )
    adopted = sa.case((_TABLE.action == "create", "update"), else_=_TABLE.action)
    with database.writing() as connection:
        connection.execute(changed.values(before=before, action=adopted))


def recent_runs(connection: sa.Connection, limit: int = 10) -> list[dict[str, Any]]:
    """The newest runs that wrote listings, what each wrote, and how much of that is undone; writes of quantities alone
    are none."""
    count = sa.func.count
    query = (
        sa.select(
            _TABLE.run_id,
            sa.func.max(_TABLE.at, type_=_TABLE.at.type).label("at"),
            count(_TABLE.mapping_id.distinct()).label("items"),
            count(_TABLE.undone_at).label("undone"),
            sa.func.min(_TABLE.sku).label("sku"),
        )
        .where(_TABLE.action != "quantity", _TABLE.run_id.is_not(None))
        .group_by(_TABLE.run_id)
        .order_by(sa.func.max(_TABLE.id).desc())
    )
    return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def of_run_or_plan(name: str) -> sa.ColumnElement[bool]:
    """The writes of a run, by its id or its beginning, or of all runs of a plan, by its hash."""
    plans = sa.select(sync_logs.c.run_id).where(
        sync_logs.c.scope.startswith(f"plan {name[:12]}", autoescape=True)
    )
    return sa.or_(_TABLE.run_id.startswith(name, autoescape=True), _TABLE.run_id.in_(plans))


def of_run(run_id: str) -> sa.ColumnElement[bool]:
    """The writes of this run."""
    return _TABLE.run_id == run_id


def of_span(since: datetime, until: datetime) -> sa.ColumnElement[bool]:
    """All writes of a span of time, its end not included."""
    return sa.and_(_TABLE.at >= since, _TABLE.at < until)


def written_by(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[Written]:
    """What these writes changed and is not undone yet, by item."""
    query = sa.select(listing_writes).where(which, _TABLE.undone_at.is_(None)).order_by(_TABLE.id)
    found: dict[int, Written] = {}
    for row in connection.execute(query):
        known = found.get(row.mapping_id, Written(row.mapping_id, (), row.sku, (), None, {}))
        # A quantity's row knows that alone: the rest of how it was is in the rows after it.
        before = {**(row.before or {}), **(known.before or {})}
        if known.actions and known.before is None:
            before = {}
        found[row.mapping_id] = Written(
            row.mapping_id,
            (*known.rows, row.id),
            row.sku or known.sku,
            (*known.actions, row.action),
            before or None,
            {**known.after, **(row.after or {})},
        )
    return list(found.values())


def note_undone(connection: sa.Connection, rows: Sequence[int]) -> None:
    """Records that these writes are put back."""
    connection.execute(sa.update(listing_writes).where(_TABLE.id.in_(rows)).values(undone_at=utc_now()))
