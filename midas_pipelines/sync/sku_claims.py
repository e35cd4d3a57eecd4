"""One SKU, one item: before a SKU is sent to 4Seller its mapping row must hold it, by a unique constraint.

The shop says who owns a SKU. A row that holds one its item no longer has lets it go; where that item is no
longer sold, the new owner inherits its 4Seller product rather than making a second one of the same SKU.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from midas_pipelines.store.claims import COLUMNS, Mapping
from midas_pipelines.store.tables import mappings
from midas_pipelines.storefront.catalog import read_items
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.plan import Action, Change


def take_skus(connection: sa.Connection, changes: list[Change], *, has_status: bool) -> list[Change]:
    """The same changes, with their SKUs held by their mapping rows, or set aside where another item has the SKU.

    Runs in the transaction that claimed the rows. Creates are noted as begun, so that a create whose answer is
    lost is looked up before it is sent again.
    """
    wanting = [c for c in changes if c.draft is not None and c.action in (Action.CREATE, Action.UPDATE)]
    moving = [
        change for change in wanting if change.draft is not None and change.draft.sku != change.mapping.sku
    ]
    granted = _grant(connection, moving, has_status) if moving else {}
    settled = [granted.get(change.mapping.id, change) for change in changes]
    _note_creates(connection, [change for change in settled if change.action is Action.CREATE])
    return settled


def _grant(connection: sa.Connection, moving: list[Change], has_status: bool) -> dict[int, Change]:
    holders = _holders(connection, moving)
    owners = read_items(connection, [holder.key for holder in holders.values()], has_status=has_status)
    granted: dict[int, Change] = {}
    taken: dict[str, Change] = {}
    moving_ids = {change.mapping.id for change in moving}
    for change in moving:
        sku = change.sku
        assert sku is not None
        holder = holders.get(sku)
        item = owners.get(holder.key) if holder is not None else None
        if sku in taken or (item is not None and item.sku == sku and holder and holder.id not in moving_ids):
            granted[change.mapping.id] = replace(change, action=Action.SET_ASIDE, reason=_shared(sku))
            continue
        taken[sku] = change
        if holder is not None and holder.id not in moving_ids:
            change = _inherit(connection, change, holder, gone=item is None or not item.active)
        granted[change.mapping.id] = change
    _hold(connection, {change.mapping.id: sku for sku, change in taken.items()})
    return granted


def _holders(connection: sa.Connection, moving: list[Change]) -> dict[str, Mapping]:
    skus = [change.sku for change in moving]
    rows = connection.execute(sa.select(*COLUMNS).where(mappings.c.sku.in_(skus)))
    return {row.sku: Mapping(*row) for row in rows}


def _inherit(connection: sa.Connection, change: Change, holder: Mapping, *, gone: bool) -> Change:
    """Frees the SKU of its holder; hands the holder's 4Seller product on when the shop no longer sells that item."""
    freed: dict[str, object] = {"sku": None, "version": mappings.c.version + 1}
    freed["dirty_since"] = sa.func.coalesce(mappings.c.dirty_since, utc_now())
    inherits = gone and holder.fourseller_product_id is not None and change.action is Action.CREATE
    if inherits:
        freed |= {
            "fourseller_product_id": None,
            "acked_hash": None,
            "acked_quantity": None,
            "state": "removed",
        }
    connection.execute(sa.update(mappings).where(mappings.c.id == holder.id).values(freed))
    if not inherits:
        return change
    product_id = holder.fourseller_product_id
    statement = sa.update(mappings).where(mappings.c.id == change.mapping.id)
    connection.execute(statement.values(fourseller_product_id=product_id))
    return change.with_mapping(replace(change.mapping, fourseller_product_id=product_id))


def _hold(connection: sa.Connection, skus: dict[int, str]) -> None:
    # Two items may swap their SKUs: all let go first, then each takes its own.
    if not skus:
        return
    connection.execute(sa.update(mappings).where(mappings.c.id.in_(skus)).values(sku=None))
    statement = sa.update(mappings).where(mappings.c.id == sa.bindparam("row"))
    connection.execute(
        statement.values(sku=sa.bindparam("new_sku")),
        [{"row": row, "new_sku": sku} for row, sku in skus.items()],
    )


def _note_creates(connection: sa.Connection, creates: list[Change]) -> None:
    fresh = [change.mapping.id for change in creates if change.mapping.creating_since is None]
    if fresh:
        connection.execute(
            sa.update(mappings).where(mappings.c.id.in_(fresh)).values(creating_since=utc_now())
        )


def _shared(sku: str) -> str:
    return f"Its SKU {sku} is another item's too: give each item in the shop a SKU of its own."
