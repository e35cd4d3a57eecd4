"""Explains what 4Seller shows of one item: the number, the rule, the ledger row, its cause."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.conflicts import OPEN, find_conflicts
from midas_pipelines.store.items.mappings import COLUMNS, Mapping
from midas_pipelines.store.schema.tables import inventory_changes, mappings, marketplace_orders
from midas_pipelines.store.stock.rules import available, channel_price
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.sync.listings.plan import plan
from midas_pipelines.sync.rules.edit import arithmetic, item_and_rule, price_steps

LEDGER_ROWS = 5
MOMENT = "%Y-%m-%d %H:%M:%S UTC"


def explain_item(
    database: Database, sku: str, title_limit: int = 255, *, most: int = LEDGER_ROWS
) -> dict[str, Any]:
    """All facts behind what 4Seller shows of the item, with the last `most` rows of its ledger. Raises UnknownSku."""
    table = mappings.c
    with database.reading() as connection:
        item, rule = item_and_rule(connection, sku)
        query = sa.select(*COLUMNS, table.observed_quantity, table.observed_price, table.observed_at)
        row = connection.execute(query.where(*_about(table.product_id, table.variant_id, item.key))).first()
        ledger = ledger_rows(connection, item.key, most=most)
        conflicts = find_conflicts(connection, OPEN, mapping_id=row.id) if row is not None else []
    facts: dict[str, Any] = {
        "sku": item.sku,
        "on_hand": item.on_hand,
        "available": available(item.on_hand, rule),
        "shop_price": str(item.price),
        "price": str(channel_price(item.price, rule)),
        "arithmetic": arithmetic(item.on_hand, rule) + price_steps(item, rule),
        "ledger": ledger,
        "conflicts": conflicts,
    }
    if row is None:
        missing = "It has not been synced yet: the next full sync lists it."
        return facts | {"state": "unknown", "next": missing}
    mapping = Mapping(*row[: len(COLUMNS)])
    action = plan(mapping, item, title_limit, rule).action.value
    marked = "" if mapping.dirty else " It is not marked yet."
    # It was confirmed by the answer to a push, or by showing the quantity in a later read-back.
    confirmed_at = mapping.acked_at if mapping.acked_quantity is not None else None
    if row.observed_at is not None and row.observed_quantity == mapping.acked_quantity is not None:
        confirmed_at = max(row.observed_at, confirmed_at or row.observed_at)
    confirmed = {"quantity": mapping.acked_quantity, "price": mapping.acked_price, "at": confirmed_at}
    observed = {"quantity": row.observed_quantity, "price": row.observed_price, "at": row.observed_at}
    return facts | {
        "state": mapping.state,
        "reason": mapping.reason,
        "fourseller_product_id": mapping.fourseller_product_id,
        "mapping_id": mapping.id,
        "confirmed": confirmed,
        "observed": observed,
        "pinned": dict(mapping.pinned_fields or {}),
        "next": "Nothing to send." if action == "nothing" else f"The next sync will send: {action}.{marked}",
    }


def _about(product: sa.Column[Any], variant: sa.Column[Any], key: ItemKey) -> list[sa.ColumnElement[bool]]:
    return [product == key[0], sa.func.coalesce(variant, 0) == (key[1] or 0)]


def ledger_rows(
    connection: sa.Connection,
    key: ItemKey,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    most: int,
) -> list[dict[str, Any]]:
    """The last rows of the item's ledger in that span, the newest first, each with what it was for as `because`."""
    table = inventory_changes.c
    query = sa.select(inventory_changes).where(*_about(table.product_id, table.variant_id, key))
    if since is not None:
        query = query.where(table.created_at >= since)
    if until is not None:
        query = query.where(table.created_at < until)
    rows = connection.execute(query.order_by(table.id.desc()).limit(most)).mappings().all()
    return [{**row, "because": _because(connection, row)} for row in rows]


def ledger_line(row: dict[str, Any]) -> str:
    """A row of `ledger_rows` in words."""
    change = f"{row['delta']:+d} → {row['quantity_after']}, {row['because']}"
    return f"ledger {row['id']}: {change}, {row['created_at']:{MOMENT}}"


def _because(connection: sa.Connection, row: sa.RowMapping) -> str:
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
    lines = []
    if (seen := facts.get("observed", {})).get("at") is not None:
        shown = f"{seen['quantity']} at {seen['price']} USD"
        shown = "nothing of it" if (seen["quantity"], seen["price"]) == (None, None) else shown
        lines.append(f"4Seller showed {shown}, read {seen['at']:{MOMENT}}")
    if (known := facts.get("confirmed", {})).get("at") is not None:
        product = facts["fourseller_product_id"]
        what = f"{known['quantity']} at {known['price']} USD, {known['at']:{MOMENT}}"
        lines.append(f"<- it confirmed {what} (product {product})")
    for name, kept in facts.get("pinned", {}).items():
        until = ", until decided" if kept.get("held") else ""
        lines.append(f"<- pinned: {name} stays {kept.get('value')}{until}")
    lines += [f"<- rule: {line}" for line in facts["arithmetic"]]
    lines += [f"<- {ledger_line(row)}" for row in facts["ledger"]]
    if facts.get("reason"):
        lines.append(f"It is {facts['state']}: {facts['reason']}")
    return [*lines, facts["next"]]
