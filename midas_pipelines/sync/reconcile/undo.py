"""Takes a person's decision of a conflict back, for ten minutes, where nothing has gone out for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.items.conflicts import read_conflict
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.reconcile.conflicts import SIDES, NoSuchConflict, mapping_of, repin

UNDO_TIME = timedelta(minutes=10)
_COPIED = ("subject", "mapping_id", "sku", "fourseller_product_id", "field", "shop_value", "fourseller_value")
_COPIED_TOO = ("policy", "delta", "found_at", "run_id")


def undo_resolution(context: SyncContext, conflict_id: int, by: str) -> dict[str, Any]:
    """Opens the conflict again, as a new one with the same values, with the item's pins and stock as they were.

    Args:
        context: settings, database and run.
        conflict_id: of the one that was decided.
        by: who takes it back.

    Raises:
        NoSuchConflict: it was not decided by a person in the last ten minutes, or the shop's value has gone out.
    """
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
        again = {name: conflict[name] for name in (*_COPIED, *_COPIED_TOO)}
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(sync_conflicts).values(again))
        except sa.exc.IntegrityError:
            raise NoSuchConflict(
                "The next read-back has found this conflict again: decide that one."
            ) from None
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
