"""Explains what 4Seller shows of one item: the number, the rule, the ledger row, its cause."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.conflicts import open_conflicts
from midas_pipelines.store.items.mappings import COLUMNS, Mapping
from midas_pipelines.store.schema.tables import (
    inventory_changes,
    mappings,
    marketplace_orders,
)
from midas_pipelines.store.stock.rules import available, channel_price
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.sync.listings.plan import plan
from midas_pipelines.sync.rules.edit import arithmetic, item_and_rule, price_steps

LEDGER_ROWS = 5


def explain_item(
    database: Database, sku: str, title_limit: int = 255, *, most: int = LEDGER_ROWS
) -> dict[str, Any]:
    """All facts behind what 4Seller shows of the item, with the last `most` rows of its ledger.

    Raises:
        BadRule: no item has the SKU.
    """
    with database.reading() as connection:
        item, rule = item_and_rule(connection, sku)
        row = connection.execute(
            sa.select(
                *COLUMNS, mappings.c.observed_quantity, mappings.c.observed_price, mappings.c.observed_at
            )
            .where(mappings.c.product_id == item.product_id)
            .where(sa.func.coalesce(mappings.c.variant_id, 0) == (item.variant_id or 0))
        ).first()
        mapping = Mapping(*row[: len(COLUMNS)]) if row is not None else None
        ledger = ledger_rows(connection, item.key, most=most)
        conflicts = open_conflicts(connection, mapping_id=mapping.id) if mapping is not None else []
    facts: dict[str, Any] = {
        "sku": item.sku,
        "on_hand": item.on_hand,
        "available": available(item.on_hand, rule),
        "price": str(channel_price(item.price, rule)),
        "arithmetic": arithmetic(item.on_hand, rule) + price_steps(item, rule),
        "ledger": ledger,
        "conflicts": conflicts,
    }
    if row is None or mapping is None:
        return facts | {
            "state": "unknown",
            "next": "It has not been synced yet: the next full sync lists it.",
        }
    action = plan(mapping, item, title_limit, rule).action.value
    following = "Nothing to send."
    if action != "nothing":
        following = f"The next sync will send: {action}." + (
            "" if mapping.dirty else " It is not marked yet."
        )
    return facts | {
        "state": mapping.state,
        "reason": mapping.reason,
        "fourseller_product_id": mapping.fourseller_product_id,
        "mapping_id": mapping.id,
        "confirmed": {
            "quantity": mapping.acked_quantity,
            "price": mapping.acked_price,
            "at": _confirmed_at(mapping, row.observed_quantity, row.observed_at),
        },
        "observed": {"quantity": row.observed_quantity, "price": row.observed_price, "at": row.observed_at},
        "pinned": dict(mapping.pinned_fields or {}),
        "next": following,
    }


def _confirmed_at(
    mapping: Mapping, observed_quantity: int | None, observed_at: datetime | None
) -> datetime | None:
    """When 4Seller last confirmed the quantity on record: by answering a push, or by showing it in a later read-back."""
    if mapping.acked_quantity is None:
        return None
    pushed = mapping.acked_at
    later = observed_at is not None and (pushed is None or observed_at > pushed)
    return observed_at if later and observed_quantity == mapping.acked_quantity else pushed


def ledger_rows(
    connection: sa.Connection,
    key: ItemKey,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    most: int = LEDGER_ROWS,
) -> list[dict[str, Any]]:
    """The last rows of the item's ledger in that span, the newest first, each with what it was for as `because`."""
    table = inventory_changes.c
    query = sa.select(inventory_changes).where(
        table.product_id == key[0], sa.func.coalesce(table.variant_id, 0) == (key[1] or 0)
    )
    if since is not None:
        query = query.where(table.created_at >= since)
    if until is not None:
        query = query.where(table.created_at < until)
    query = query.order_by(table.id.desc()).limit(most)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    for row in rows:
        row["because"] = _because(connection, row)
    return rows


def _because(connection: sa.Connection, row: dict[str, Any]) -> str:
    """A ledger row's cause in words, down to the order."""
    reference = row["reference"] or ""
    if reference.startswith("conflict:"):
        return f"conflict {reference.removeprefix('conflict:')} was resolved for the marketplace"
    parts = reference.split(":")
    if len(parts) < 3:
        return f"{row['cause']} by {row['source']}" + (f" ({reference})" if reference else "")
    order_id, line = ":".join(parts[1:-1]), parts[-1]
    table = marketplace_orders.c
    query = sa.select(table.sales_channel, table.local_order_id).where(table.marketplace_order_id == order_id)
    order = connection.execute(query.limit(1)).first()
    where = f"{order.sales_channel} " if order is not None and order.sales_channel else ""
    shop = f", the shop's order {order.local_order_id}" if order is not None else ""
    return f"{row['cause']}: {where}order {order_id}, line {line}{shop}"


def lineage(facts: dict[str, Any]) -> list[str]:
    """The facts as lines of text, from what 4Seller shows down to the cause."""
    observed, confirmed = facts.get("observed") or {}, facts.get("confirmed") or {}
    lines = []
    if observed.get("at") is not None:
        shown = f"{observed['quantity']} at {observed['price']} USD"
        shown = "nothing of it" if (observed["quantity"], observed["price"]) == (None, None) else shown
        lines.append(f"4Seller showed {shown}, read {observed['at']:%Y-%m-%d %H:%M:%S} UTC")
    if confirmed.get("at") is not None:
        lines.append(
            f"<- it confirmed {confirmed['quantity']} at {confirmed['price']} USD, "
            f"{confirmed['at']:%Y-%m-%d %H:%M:%S} UTC (product {facts['fourseller_product_id']})"
        )
    for name, kept in facts.get("pinned", {}).items():
        lines.append(
            f"<- pinned: {name} stays {kept.get('value')}" + (", until decided" if kept.get("held") else "")
        )
    lines += [f"<- rule: {line}" for line in facts["arithmetic"]]
    lines += [
        f"<- ledger {row['id']}: {row['delta']:+d} → {row['quantity_after']}, {row['because']}, "
        f"{row['created_at']:%Y-%m-%d %H:%M:%S} UTC"
        for row in facts["ledger"]
    ]
    if facts.get("reason"):
        lines.append(f"It is {facts['state']}: {facts['reason']}")
    return [*lines, facts["next"]]
