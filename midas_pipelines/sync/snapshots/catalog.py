"""The catalog snapshot: what the shop says of each item, and what 4Seller should show of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.store.orders.days import last_import
from midas_pipelines.store.stock.rules import available
from midas_pipelines.storefront.catalog import ShopItem
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.content import content_hash, title, unlistable
from midas_pipelines.sync.listings.diff import is_confirmed
from midas_pipelines.sync.listings.plan import Change, Planner
from midas_pipelines.sync.listings.scan import read_chunk
from midas_pipelines.sync.snapshots.files import Spool, spool

if TYPE_CHECKING:
    import pyarrow as pa

PREVIEW = 10


def schema() -> pa.Schema:
    """The columns; `docs/snapshots.md` says what they hold."""
    import pyarrow as pa

    money, text, moment = pa.decimal128(18, 4), pa.string(), pa.timestamp("us", tz="UTC")
    return pa.schema(
        {
            "sku": text,
            "title": text,
            "category": text,
            "brand": text,
            "price": money,
            "on_hand": pa.int64(),
            "available": pa.int64(),
            "state": text,
            "reason": text,
            "product_id": pa.int64(),
            "variant_id": pa.int64(),
            "mapping_id": pa.int64(),
            "fourseller_product_id": text,
            "expected_price": money,
            "expected_quantity": pa.int64(),
            "expected_content": text,
            "accepted_content": text,
            "is_waiting": pa.bool_(),
            "acked_at": moment,
        }
    )


@dataclass
class CatalogTotals:
    """What was counted while the rows were read."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[dict[str, Any]] = field(default_factory=list)
    unlistable: list[dict[str, Any]] = field(default_factory=list)

    def count(self, row: dict[str, Any]) -> None:
        """Counts a row, and keeps the first few for people to look at."""
        self.counts["units_on_hand"] += row["on_hand"]
        self.counts["out_of_stock"] += row["available"] == 0
        self.counts["cannot_be_listed"] += row["reason"] is not None
        if len(self.first) < PREVIEW:
            self.first.append(row)
        if row["reason"] is not None and len(self.unlistable) < PREVIEW:
            self.unlistable.append(row)


def catalog_rows(database: Database, title_limit: int, totals: CatalogTotals) -> Iterator[dict[str, Any]]:
    """A row for each active item, read a thousand at a time; counted in `totals`."""
    after = 0
    while rows := read_chunk(database, after):
        after = rows[-1].id
        with database.reading() as connection:
            planner = Planner(connection, [row.key for row in rows], title_limit)
        for mapping in rows:
            item = planner.item(mapping)
            if item is not None and item.active:
                found = _row(mapping, item, planner)
                totals.count(found)
                yield found


def _row(mapping: Mapping, item: ShopItem, planner: Planner) -> dict[str, Any]:
    change = planner.plan(mapping)
    refused = mapping.reason if mapping.state == "quarantined" else None
    return {
        "sku": item.sku,
        "title": title(item),
        "category": item.category,
        "brand": item.brand,
        "price": item.price,
        "on_hand": item.on_hand,
        "available": available(item.on_hand, planner.rule(mapping)),
        "state": mapping.state,
        "reason": unlistable(item, planner.title_limit) or refused,
        "product_id": item.product_id,
        "variant_id": item.variant_id,
        "mapping_id": mapping.id,
        "fourseller_product_id": mapping.fourseller_product_id,
        "is_waiting": mapping.dirty,
        "acked_at": mapping.acked_at,
        **_expected(change),
    }


def _expected(change: Change) -> dict[str, Any]:
    """What 4Seller should show; nothing of an item that should not be there, or cannot be."""
    draft, mapping = change.draft, change.mapping
    if draft is None or mapping.state == "quarantined":
        return {}
    accepted = mapping.observed_hash if is_confirmed(mapping, draft) else None
    return {
        "expected_price": draft.price,
        "expected_quantity": change.quantity,
        "expected_content": content_hash(draft, None),
        "accepted_content": accepted,
    }


def snapshot_catalog(context: SyncContext, run_set: str) -> tuple[Spool, CatalogTotals]:
    """Writes the catalog as it is now to a file of this machine, a few thousand rows in memory at a time.

    Args:
        context: settings, database and run.
        run_set: the run, or the backfill, that it is made for.
    """
    totals = CatalogTotals()
    rows = catalog_rows(context.database, context.settings.title_limit, totals)
    facts = {
        "taken_at": datetime.now(UTC),
        "orders_read_at": last_import(context.database),
        "run_id": context.run_id,
        "run_set": run_set,
    }
    return spool(schema(), rows, facts), totals
