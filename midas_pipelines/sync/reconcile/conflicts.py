"""Resolving conflicts: by policy where the marketplace wins a quantity, by a person's choice, by pins and releases; and undoing it."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.models import Product
from midas_pipelines.notify.alerts import match_alerts, open_subjects
from midas_pipelines.store.items.conflicts import OPEN, find_conflicts, read_conflict, resolve_conflicts
from midas_pipelines.store.items.mappings import CHANGED, COLUMNS, Mapping
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import inventory_changes, mappings
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.adopt import remove
from midas_pipelines.sync.listings.pins import CONTENT, FIELDS, Pins, pin, with_pins, without_pins

ALERT = "conflict"
SIDES = ("shop", "marketplace")

UNDO_TIME = timedelta(minutes=10)
_COPIED = "subject mapping_id sku fourseller_product_id field shop_value fourseller_value policy delta found_at run_id"


class NoSuchConflict(WrongInput):
    """There is no open conflict of that id, or no such field; the message says what to do."""


def take_marketplace_quantities(context: SyncContext) -> int:
    """Brings into the shop, by the ledger, what the marketplace won, each in a transaction that locks the stock
    first, as the shop's own code does; returns how many conflicts that resolved."""
    won = context.database.read(find_conflicts, OPEN, policy="marketplace_wins", field="quantity")
    for conflict in won:
        with suppress(NoSuchConflict):  # a person, or another reconciliation, was faster
            _take_quantity(context, conflict, by="policy")
    return len(won)


def _take_quantity(context: SyncContext, conflict: dict[str, Any], *, by: str) -> None:
    reference = f"conflict:{conflict['id']}"
    try:
        with context.database.writing() as connection:
            row = mapping_of(connection, conflict["mapping_id"])
            if row is None:
                _close(connection, conflict, resolution="gone", by=by)
                return
            source = "reconcile" if by == "policy" else "operator"
            move = StockMove(row.key, conflict["delta"] or 0, source, "marketplace", reference)
            ledger = inventory_changes.c
            done = sa.select(ledger.id).where(ledger.cause == move.cause, ledger.reference == reference)
            if connection.execute(done).first() is None:
                move_stock(connection, [move])
            repin(connection, row, without_pins(row.pinned_fields, ["quantity"]))
            _close(connection, conflict, resolution="marketplace", by=by, before=row.pinned_fields)
    except sa.exc.IntegrityError:  # the ledger takes a cause once
        raise _no_longer_open(conflict["id"]) from None


def _close(
    connection: sa.Connection, conflict: dict[str, Any], *, before: Pins | None = None, **how: str
) -> None:
    """Resolves it, or takes back the whole transaction where somebody resolved it first: raises NoSuchConflict."""
    mine = sync_conflicts.c.id == conflict["id"]
    if not resolve_conflicts(connection, mine, pinned_before=before or sa.null(), **how):
        raise _no_longer_open(conflict["id"])


def _no_longer_open(conflict_id: int) -> NoSuchConflict:
    return NoSuchConflict(f"No conflict {conflict_id} is open: `midas conflicts list` shows those that are.")


def match_conflict_alerts(connection: sa.Connection, *, looked: bool = False) -> None:
    """Makes the alerts about conflicts match those of items that wait for a person. Only when 4Seller was `looked` at are new
    ones raised: else one that a person has closed would come back with the next conflict that is resolved."""
    known = open_subjects(connection, ALERT)
    if not looked and not known:
        return
    texts = {
        f"{row['subject']}:{row['field']}": (
            f"{row['sku']}: the {row['field']} is {row['fourseller_value']} on 4Seller and {row['shop_value']} in the "
            "shop. Resolve it with `midas conflicts list`."
        )
        for row in find_conflicts(connection, OPEN, policy="manual")
        if row["mapping_id"] is not None
    }
    match_alerts(connection, kind=ALERT, texts=texts, known=known, only_known=not looked)


async def resolve(context: SyncContext, conflict_id: int, take: str, by: str) -> dict[str, Any]:
    """Resolves a conflict by a person's choice and returns it as it is then.

    To `take` the `shop`'s value pushes it again; the `marketplace`'s is kept: a quantity becomes a ledger row, any other
    field is pinned. Raises NoSuchConflict, or FourSellerError where a product that is no item's could not be deleted.
    """
    conflict = context.database.read(read_conflict, conflict_id)
    if conflict is None or conflict["resolved_at"] is not None:
        raise _no_longer_open(conflict_id)
    if conflict["field"] == "unknown":
        if take == "shop":
            async with context.channel() as client:
                await remove(client, conflict["fourseller_product_id"])
        with context.database.writing() as connection:
            _close(connection, conflict, resolution=take, by=by)
    elif take == "marketplace" and conflict["field"] == "quantity":
        _take_quantity(context, conflict, by=by)
    else:
        name = conflict["field"]
        with context.database.writing() as connection:
            row = mapping_of(connection, conflict["mapping_id"])
            before = row.pinned_fields if row is not None else None
            if row is not None:
                kept = {name: dict((before or {}).get(name) or {"value": None}) | {"held": False}}
                pins = with_pins(before, kept) if take == "marketplace" else without_pins(before, [name])
                repin(connection, row, pins)
            _close(connection, conflict, resolution=take, by=by, before=before)
    with context.database.writing() as connection:
        match_conflict_alerts(connection)
        return read_conflict(connection, conflict_id) or {}


async def pin_field(context: SyncContext, mapping_id: int, name: str) -> Any:
    """Leaves a field of an item on 4Seller as it is until it is released, whatever the shop says; returns its value.
    Raises NoSuchConflict for what is no field, or not on 4Seller, FourSellerError where it cannot be read."""
    if name not in FIELDS:
        raise NoSuchConflict(f"“{name}” cannot be pinned: give one of {', '.join(FIELDS)}.")
    row = context.database.read(mapping_of, mapping_id)
    if row is None or row.fourseller_product_id is None:
        raise NoSuchConflict("The item is not on 4Seller yet, so there is nothing to pin: sync it first.")
    async with context.channel() as client:
        product: Product = await client.product(row.fourseller_product_id)
    made = pin(product, name)
    with context.database.writing() as connection:
        fresh = mapping_of(connection, mapping_id)
        assert fresh is not None
        parts = CONTENT if name == "content" else ()
        repin(connection, fresh, with_pins(without_pins(fresh.pinned_fields, parts), {name: made}))
        _end_conflicts(connection, mapping_id, [name], resolution="marketplace", by="pin")
    return made["value"]


def release_pin(context: SyncContext, mapping_id: int, name: str | None) -> list[str]:
    """Lets go of a pinned field, or of all of them, and marks the item dirty; returns what was released."""
    with context.database.writing() as connection:
        row = mapping_of(connection, mapping_id)
        pins = (row.pinned_fields if row is not None else None) or {}
        names = [one for one in pins if name in (None, one)]
        if row is not None and names:
            repin(connection, row, without_pins(pins, names))
            _end_conflicts(connection, mapping_id, names, resolution="shop", by="release")
    return names


def _end_conflicts(connection: sa.Connection, mapping_id: int, names: list[str], **how: str) -> None:
    which = sa.and_(sync_conflicts.c.mapping_id == mapping_id, sync_conflicts.c.field.in_(names))
    resolve_conflicts(connection, which, **how)
    match_conflict_alerts(connection)


def repin(connection: sa.Connection, row: Mapping, pins: dict[str, Any] | None) -> None:
    """Writes an item's pins and marks it dirty."""
    values = CHANGED | {"pinned_fields": sa.null() if pins is None else pins, "next_attempt_at": None}
    connection.execute(sa.update(mappings).where(mappings.c.id == row.id).values(values))


def mapping_of(connection: sa.Connection, mapping_id: int | None) -> Mapping | None:
    """The mapping with this id."""
    row = connection.execute(sa.select(*COLUMNS).where(mappings.c.id == mapping_id)).first()
    return Mapping(*row) if row is not None else None


def undo_resolution(context: SyncContext, conflict_id: int, by: str) -> dict[str, Any]:
    """Opens a decided conflict again, with the item's pins and stock as they were. Raises NoSuchConflict where no
    person decided it in the last ten minutes, or the shop's value has gone out."""
    with context.database.writing() as connection:
        conflict = read_conflict(connection, conflict_id)
        _require_undoable(connection, conflict, conflict_id)
        assert conflict is not None
        row = mapping_of(connection, conflict["mapping_id"])
        if row is not None:
            if conflict["field"] == "quantity" and conflict["resolution"] == "marketplace":
                delta, reference = -(conflict["delta"] or 0), f"conflict:{conflict_id}"
                move_stock(connection, [StockMove(row.key, delta, "operator", "undo", reference)])
            repin(connection, row, conflict["pinned_before"])
        mine = sync_conflicts.c.id == conflict_id
        undone = {"resolution": "undone", "resolved_by": by[:100]}
        connection.execute(sa.update(sync_conflicts).where(mine).values(undone))
        again = {name: conflict[name] for name in _COPIED.split()}
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(sync_conflicts).values(again))
        except sa.exc.IntegrityError:
            raise NoSuchConflict("The next read-back has found it again: decide that conflict.") from None
    return conflict


def _require_undoable(connection: sa.Connection, conflict: dict[str, Any] | None, conflict_id: int) -> None:
    now = connection.execute(sa.select(utc_now())).scalar_one()
    if conflict is None or conflict["resolved_at"] is None or conflict["resolution"] not in SIDES:
        raise NoSuchConflict(f"Conflict {conflict_id} was not decided by a person: there is nothing to undo.")
    if now - conflict["resolved_at"] > UNDO_TIME:
        raise NoSuchConflict("It was decided more than ten minutes ago: set the value in the shop instead.")
    if conflict["resolution"] == "shop":
        sent = sa.or_(mappings.c.claimed_by.is_not(None), mappings.c.acked_at > conflict["resolved_at"])
        query = sa.select(mappings.c.id).where(mappings.c.id == conflict["mapping_id"], sent)
        if conflict["field"] == "unknown" or connection.execute(query).first() is not None:
            raise NoSuchConflict("The shop's side has gone out to 4Seller already: it cannot be undone here.")
