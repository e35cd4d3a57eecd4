"""Alerts about oversold items; their quantity is pushed again at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from midas_pipelines.notify.alerts import clear_alerts, open_subjects, raise_alert
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import mark_dirty
from midas_pipelines.store.schema.tables import ITEM_KEY, mappings, marketplace_order_lines
from midas_pipelines.storefront.catalog import ItemKey

ALERT = "oversold"
_LINES = marketplace_order_lines.c


@dataclass(frozen=True, slots=True)
class Short:
    """An oversold item: its name, the order that waits for it, and the backordered units."""

    item: ItemKey
    name: str
    order_id: str
    backordered: int


def raise_oversold_alert(connection: sa.Connection, found: Iterable[Short]) -> None:
    """Alerts staff to the items that these lines oversold, and pushes their quantity again even if it was pushed
    before: the channel that oversold may show an outdated one."""
    for short in {one.item: one for one in found}.values():
        text = (
            f"{short.name} is oversold: order {short.order_id} waits for {short.backordered}. "
            "Restock it, or cancel on the marketplace. `midas orders list --exception oversold` shows all."
        )
        raise_alert(connection, kind=ALERT, subject=subject(short.item), text=text)
        push_again(connection, short.item)


def clear_oversold_alert(connection: sa.Connection, items: Collection[ItemKey]) -> None:
    """Closes the alerts of those of these items that no order waits for."""
    wanted = {subject(item): item for item in items}
    if not wanted:
        return
    still_open = wanted.keys() & open_subjects(connection, ALERT)
    quiet = [one for one in sorted(still_open) if not _waits(connection, wanted[one])]
    clear_alerts(connection, kind=ALERT, subjects=quiet)


def clear_old_alerts(database: Database) -> None:
    """Closes every alert of an item that no order waits for, such as one whose id the shop has reused."""
    with database.reading() as connection:
        subjects = open_subjects(connection, ALERT)
    if subjects:
        with database.writing() as connection:
            clear_oversold_alert(connection, {_item(one) for one in subjects})


def _waits(connection: sa.Connection, item: ItemKey) -> bool:
    product_id, variant_id = item
    owing = sa.select(_LINES.id).where(
        _LINES.product_id == product_id,
        sa.func.coalesce(_LINES.variant_id, 0) == (variant_id or 0),
        _LINES.backordered > 0,
    )
    return connection.execute(owing.limit(1)).first() is not None


def push_again(connection: sa.Connection, item: ItemKey) -> None:
    """Marks the item's quantity to be pushed again whatever 4Seller acknowledged; skips an item being pushed now."""
    product_id, variant_id = item
    query = sa.select(mappings.c.id).where(
        mappings.c.product_id == product_id, ITEM_KEY.in_([variant_id or 0])
    )
    mark_dirty(connection, list(connection.scalars(query)), acked_quantity=None, next_attempt_at=None)


def subject(item: ItemKey) -> str:
    """The alert's name for an item."""
    return f"item:{item[0]}:{item[1] or 0}"


def _item(named: str) -> ItemKey:
    _, product_id, variant_id = named.split(":")
    return int(product_id), int(variant_id) or None
