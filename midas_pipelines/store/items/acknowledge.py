"""Acknowledges pushes: writes each claimed item's result to its mapping and ends the claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.items.claims import FORGOTTEN, LATE_SECONDS, RETRY, PushOutcome, PushResult
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.refusals import in_short, write_each
from midas_pipelines.storefront.types import utc_now


def acknowledge(
    connection: sa.Connection, outcomes: Sequence[PushOutcome], *, most_attempts: int
) -> tuple[list[PushOutcome], list[PushOutcome]]:
    """Writes each outcome to its mapping and ends the claim; returns them as written, and those to be written later.

    A mapping row that the shop's own transaction holds is not waited for (see `mappings.unlocked`). An outcome
    whose claim another one has followed is not written; what it sent may have arrived after what the other claim sent,
    so its item is pushed again.
    """
    numbers = _claim_numbers(connection, [outcome.mapping.id for outcome in outcomes])
    lost = [
        o for o in outcomes if numbers.get(o.mapping.id, o.mapping.claim_number) != o.mapping.claim_number
    ]
    _push_lost_again(connection, lost)
    mine = [o for o in outcomes if numbers.get(o.mapping.id) == o.mapping.claim_number]

    def write(part: Sequence[PushOutcome]) -> None:
        _write(connection, part, most_attempts)

    refused: dict[int, PushOutcome] = {}

    def quarantine(bad: PushOutcome, why: Exception) -> None:
        refused[bad.mapping.id] = _quarantined(connection, bad, why)
        write([refused[bad.mapping.id]])

    write_each(connection, mine, write, quarantine)
    written = [refused.get(one.mapping.id, one) for one in outcomes if one.mapping.id in numbers]
    return written, [one for one in outcomes if one.mapping.id not in numbers]


def _claim_numbers(connection: sa.Connection, ids: list[int]) -> dict[int, int]:
    """Locks those of the rows that no other transaction holds; their claim numbers by id."""
    query = sa.select(mappings.c.id, mappings.c.claim_number).where(mappings.c.id.in_(ids))
    locked = query.order_by(mappings.c.id).with_for_update(skip_locked=True)
    return {row.id: row.claim_number for row in connection.execute(locked)}


def _write(connection: sa.Connection, outcomes: Sequence[PushOutcome], most_attempts: int) -> None:
    alike: dict[Shape, list[dict[str, object]]] = {}
    for outcome in outcomes:
        shape, row = _split(_acknowledgement(outcome, most_attempts))
        row |= {"row": outcome.mapping.id, "pushed_version": outcome.mapping.version}
        alike.setdefault(shape, []).append(row)
    for shape, rows in alike.items():
        connection.execute(_statement(shape), rows)


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


def _push_lost_again(connection: sa.Connection, lost: list[PushOutcome]) -> None:
    for outcome in lost:
        if not (outcome.wrote or outcome.uncertain):
            continue
        values: dict[str, object] = {"recheck_at": utc_now(LATE_SECONDS if outcome.uncertain else 0)}
        if outcome.created:
            values["creating_since"] = utc_now()  # the SKU may have two products now
        connection.execute(sa.update(mappings).where(mappings.c.id == outcome.mapping.id).values(values))


class Dealt(Enum):
    """What is written where this version of the item waits no more; one that changed since stays dirty."""

    VERSION = "acked_version"
    DIRTY = "dirty_since"


@dataclass(frozen=True, slots=True)
class Later:
    """A time by the database's clock, that many seconds from now."""

    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Pinned:
    """Pins as just read; a pin or release by a person in the meantime wins, having raised the version."""

    fields: dict[str, Any] | None = field(default=None, hash=False, compare=False)


DEALT_WITH = {"acked_version": Dealt.VERSION, "dirty_since": Dealt.DIRTY}
Expression = Dealt | Later | Pinned | None
Shape = tuple[tuple[str, Expression], ...]
"""The columns that an acknowledgement writes, and which by an expression: equal ones share a statement."""


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
    statement = sa.update(mappings).where(mappings.c.id == sa.bindparam("row"))
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


def _acknowledgement(outcome: PushOutcome, most_attempts: int) -> dict[str, object]:
    values: dict[str, object] = {"claimed_by": None, "claimed_until": None}
    if outcome.uncertain:
        values["recheck_at"] = Later(LATE_SECONDS)
    elif outcome.settled and not _create_may_arrive(outcome):
        values["creating_since"] = None
    if outcome.result is PushResult.FAILED:
        values |= _failure(outcome, most_attempts)
        if outcome.content_hash is not None:  # the answer shows it: that is what holds still
            values["acked_hash"] = outcome.content_hash
    elif outcome.result is PushResult.RELEASED:
        if outcome.wait_seconds:
            wait = RETRY.bounded(outcome.wait_seconds, outcome.mapping.attempts)
            values["next_attempt_at"] = Later(math.ceil(wait))
        if outcome.vanished:
            values |= FORGOTTEN
            if outcome.pinned_fields is not None:
                values["pinned_fields"] = outcome.pinned_fields
    else:
        values |= _done(outcome)
    if outcome.fourseller_product_id is not None:  # it exists, whatever the result of the rest
        values["fourseller_product_id"] = outcome.fourseller_product_id
    return values


def _create_may_arrive(outcome: PushOutcome) -> bool:
    """Whether an earlier create may still add a second product beside the item's."""
    tied = outcome.fourseller_product_id or outcome.mapping.fourseller_product_id
    return (
        outcome.mapping.recheck_at is not None
        and tied is not None
        and outcome.result is not PushResult.REMOVED
    )


def _done(outcome: PushOutcome) -> dict[str, object]:
    values: dict[str, object] = {}
    if outcome.result in (PushResult.LISTED, PushResult.QUANTITY):
        values |= {"acked_quantity": outcome.quantity, "acked_at": Later()}
    if not outcome.finished:  # the rest has yet to be sent, and goes on backing off where it failed before
        return values
    attempts = outcome.mapping.attempts + 1 if outcome.refused else 0
    values |= DEALT_WITH | {"next_attempt_at": None, "attempts": attempts}
    if outcome.result in (PushResult.LISTED, PushResult.QUANTITY, PushResult.UNCHANGED):
        values |= {"state": "listed", "reason": None} if outcome.reason is None else {"state": "quarantined"}
    if outcome.result is PushResult.LISTED:
        values |= {
            "acked_hash": outcome.content_hash,
            "acked_price": outcome.price,
            "observed_hash": outcome.observed_hash,
        }
    if outcome.pinned_fields is not None:
        values["pinned_fields"] = Pinned(outcome.pinned_fields)
    if outcome.result is PushResult.REMOVED:
        values |= FORGOTTEN | {
            "state": "quarantined" if outcome.aside else "removed",
            "reason": outcome.reason,
            "sku": None,
            "acked_at": Later(),
        }
    if outcome.result is PushResult.QUARANTINED:
        values |= {"state": "quarantined"}
    if (
        outcome.refused and not outcome.uncertain
    ):  # certainly not applied: the earlier acknowledgement still holds
        values["acked_hash"] = outcome.mapping.acked_hash
        if outcome.result is PushResult.QUARANTINED:
            values["acked_quantity"] = outcome.mapping.acked_quantity
    if outcome.reason is not None:
        values["reason"] = outcome.reason
    return values


def _failure(outcome: PushOutcome, most_attempts: int) -> dict[str, object]:
    mapping = outcome.mapping
    # A quarantined item that is pushed again was freed by a person or a change: its attempts restart.
    attempts = 1 if mapping.state == "quarantined" else mapping.attempts + 1
    tied = mapping.fourseller_product_id or outcome.fourseller_product_id
    state = "quarantined" if attempts >= most_attempts else "listed" if tied else "new"
    values: dict[str, object] = {"attempts": attempts, "reason": outcome.reason, "state": state}
    if state == "quarantined":
        return values | DEALT_WITH
    wait = RETRY.bounded(max(RETRY.seconds(attempts), outcome.wait_seconds or 0.0), attempts)
    return values | {"next_attempt_at": Later(math.ceil(wait)) if wait else None}
