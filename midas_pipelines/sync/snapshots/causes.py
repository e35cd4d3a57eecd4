"""Why an item changed on a channel in some span of time: ledger rows with their orders, rules, and conflicts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.rule_tables import rule_history, sync_conflicts
from midas_pipelines.storefront.schema import categories, products
from midas_pipelines.sync.explain import ledger_rows

MOST = 20
"""Rows of the ledger, and conflicts, that are shown of one item."""


@dataclass(frozen=True)
class Span:
    """A span of time, its end not included; `run_id` is the run whose read it ends with, which found conflicts in it."""

    start: datetime
    end: datetime
    run_id: str | None = None

    def holds(self, moment: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """True where that column names a moment of the span."""
        return sa.and_(moment >= self.start, moment < self.end)


def causes(
    connection: sa.Connection,
    product_id: int,
    variant_id: int | None,
    mapping_id: int,
    span: Span,
    *,
    stock: bool = True,
) -> list[str]:
    """What is on record of the item in that span, in sentences, the newest of each kind first; of its `stock` too."""
    key = (product_id, variant_id)
    ledger = ledger_rows(connection, key, span.start, span.end, most=MOST) if stock else []
    return [
        *(ledger_line(row) for row in ledger),
        *(_rule_line(row) for row in rules_of(connection, product_id, span)),
        *(_conflict_line(row, span) for row in _conflicts(connection, mapping_id, span)),
    ]


def ledger_line(row: dict[str, Any]) -> str:
    """A row of the ledger, with its cause down to the order."""
    return (
        f"ledger {row['id']}: {row['delta']:+d} → {row['quantity_after']}, {row['because']}, "
        f"{row['created_at']:%Y-%m-%d %H:%M:%S} UTC"
    )


def rules_of(connection: sa.Connection, product_id: int, span: Span) -> list[dict[str, Any]]:
    """Rules for the item, its categories or everything that were set, removed, began or ended in that span."""
    rule = rule_history.c
    of_item = sa.or_(
        rule.product_id == product_id,
        sa.and_(
            rule.product_id.is_(None),
            sa.or_(rule.category_id.is_(None), rule.category_id.in_(_categories(connection, product_id))),
        ),
    )
    moved = sa.or_(*(span.holds(one) for one in (rule.changed_at, rule.valid_from, rule.valid_until)))
    query = sa.select(rule_history).where(of_item, moved).order_by(rule.id.desc()).limit(MOST)
    return [dict(row) for row in connection.execute(query).mappings()]


def _categories(connection: sa.Connection, product_id: int) -> list[int]:
    """The item's category and every one above it."""
    own = connection.scalar(sa.select(products.c.category_id).where(products.c.id == product_id))
    parents = dict(connection.execute(sa.select(categories.c.id, categories.c.parent_id)).tuples().all())
    found: list[int] = []
    while own is not None and own not in found:
        found.append(own)
        own = parents.get(own)
    return found


def _rule_line(row: dict[str, Any]) -> str:
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in (row["said"] or {}).items())
    narrow = next(
        (f"{name} {row[f'{name}_id']}" for name in ("product", "category") if row[f"{name}_id"]), ""
    )
    return (
        f"rule for {narrow or 'everything'} ({row['channel']}): {said or 'removed'}, set by {row['changed_by']}, "
        f"{row['changed_at']:%Y-%m-%d %H:%M:%S} UTC"
    )


def _conflicts(connection: sa.Connection, mapping_id: int, span: Span) -> list[dict[str, Any]]:
    conflict = sync_conflicts.c
    seen = sa.and_(
        conflict.found_at < span.end,
        sa.or_(conflict.resolved_at.is_(None), conflict.resolved_at >= span.start),
    )
    seen = sa.or_(seen, conflict.run_id == span.run_id) if span.run_id is not None else seen
    query = sa.select(sync_conflicts).where(conflict.mapping_id == mapping_id, seen)
    return [
        dict(row) for row in connection.execute(query.order_by(conflict.id.desc()).limit(MOST)).mappings()
    ]


def _conflict_line(row: dict[str, Any], span: Span) -> str:
    ended = row["resolved_at"]
    of_that_read = row["run_id"] is not None and row["run_id"] == span.run_id
    end = (
        f"resolved for the {row['resolution']} by {row['resolved_by']}, {ended:%Y-%m-%d %H:%M:%S} UTC"
        if ended is not None and (ended < span.end or of_that_read)
        else "open then"
    )
    return (
        f"conflict {row['id']}: {row['field']} {row['shop_value']} in the shop, {row['fourseller_value']} on 4Seller, "
        f"found {row['found_at']:%Y-%m-%d %H:%M:%S} UTC, {end}"
    )
