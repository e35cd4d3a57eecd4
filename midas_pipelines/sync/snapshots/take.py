"""Takes the two snapshots: what the shop says and 4Seller should show, and what 4Seller shows.

4Seller is read once; syncs and checks of the same run use that read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from midas_pipelines.fourseller.listed import ListedProducts, ListedRow, Listing, product_of
from midas_pipelines.notify.alerts import hub_ahead
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.store.orders.listing import last_import
from midas_pipelines.store.schema.version import require_columns
from midas_pipelines.store.stock.rules import available
from midas_pipelines.storefront.catalog import ShopItem
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.diff import form, hidden, is_confirmed, shown_quantity, storable
from midas_pipelines.sync.listings.plan import Planner, content_hash, title, unlistable
from midas_pipelines.sync.listings.scan import planners
from midas_pipelines.sync.reconcile.decide import expected, is_on_its_way
from midas_pipelines.sync.reconcile.run import ReadListing, read_listing
from midas_pipelines.sync.snapshots.files import CATALOG, LISTING, Snapshots, Spool, spool
from midas_pipelines.sync.threads import in_thread

PREVIEW = 10


def snapshot_catalog(context: SyncContext, run_set: str) -> tuple[Spool, dict[str, list[dict[str, Any]]]]:
    """Writes the catalog as it is now to a file of this machine, for a run or backfill; a few thousand rows are in
    memory. Returns beside it previews: the first rows, and the first that cannot be listed."""
    context.database.read(require_columns)
    counts = Counter[str]()
    previews = dict[str, list[dict[str, Any]]](preview=[], cannot_be_listed_preview=[])

    def counted() -> Iterator[dict[str, Any]]:
        for row in _catalog_rows(context):
            refused = row["reason"] is not None
            counts["units_on_hand"] += row["on_hand"]
            counts["out_of_stock"] += row["available"] == 0
            counts["cannot_be_listed"] += refused
            for kept in (previews["preview"], *([previews["cannot_be_listed_preview"]] if refused else [])):
                if len(kept) < PREVIEW:
                    kept.append(row)
            yield row

    now = datetime.now(UTC)
    known = min(now, last_import(context.database) or now) + hub_ahead(context.database)
    facts = {
        "taken_at": now,
        "sales_known_until": known,  # by 4Seller's clock
        "run_id": context.run_id,
        "run_set": run_set,
        "counts": counts,  # complete once the rows are written
    }
    return spool(CATALOG, counted(), facts), previews


def _catalog_rows(context: SyncContext) -> Iterator[dict[str, Any]]:
    """A row for each active item, read a thousand at a time."""
    now, settings = context.database.now(), context.settings
    for planner, rows in planners(context.database, title_limit=settings.title_limit):
        for mapping in rows:
            item = planner.item(mapping)
            if item is not None and item.active:
                is_waiting = is_on_its_way(mapping, now, settings.products_interval)
                yield _catalog_row(mapping, item, planner) | {"is_waiting": is_waiting}


def _catalog_row(mapping: Mapping, item: ShopItem, planner: Planner) -> dict[str, Any]:
    change, refused = expected(mapping, planner), mapping.reason if mapping.state == "quarantined" else None
    row = {
        **{name: getattr(item, name) for name in ("sku", "category", "brand", "price", "on_hand")},
        "title": title(item),
        "available": available(item.on_hand, planner.rule(mapping)),
        "state": mapping.state,
        "reason": unlistable(item, planner.title_limit) or refused,
        "product_id": item.product_id,
        "variant_id": item.variant_id,
        "mapping_id": mapping.id,
        "fourseller_product_id": mapping.fourseller_product_id,
        "acked_at": mapping.acked_at,
    }
    if (draft := change.draft) is not None:  # else nothing is expected of 4Seller
        row |= {
            "expected_price": draft.price,
            "expected_quantity": change.quantity,
            "expected_content": content_hash(draft, None),
            "accepted_content": mapping.observed_hash if is_confirmed(mapping, draft) else None,
        }
    return row


async def snapshot_listing(context: SyncContext, run_set: str) -> Spool:
    """Reads all that 4Seller shows into a file of this machine, for the syncs and checks of a run or backfill.
    Raises BadCredentials, or ChannelDown where not even the first page could be had."""
    async with context.channel() as client:
        read_at, listing, _ = await read_listing(context, client)
        requests = client.requests
    facts = {
        "read_at": read_at,
        "quantities_until": read_at - timedelta(seconds=context.settings.read_back_grace_seconds),
        "run_id": context.run_id,
        "run_set": run_set,
        "counts": {"requests": requests, "is_complete": listing.complete},
        "gone": sorted(listing.gone),
        "reason": listing.reason,
    }
    return await in_thread(spool, LISTING, _listing_rows(listing.products), facts)


def _listing_rows(products: ListedProducts) -> Iterator[dict[str, Any]]:
    """A row for each product; `answer` is what 4Seller sent."""
    for row in products.rows():
        product = product_of(row)
        yield {
            "fourseller_product_id": row.id,
            "sku": row.sku,
            "title": product.title,
            "price": storable(product.price),
            "quantity": shown_quantity(product),
            "status": product.status,
            "content": None if hidden(product) else form(product),
            "updated_at": product.updated_at,
            "answer": row.answer,
            "stamp": row.stamp,
        }


def listing_of(context: SyncContext, run_set: str) -> ReadListing | None:
    """What 4Seller shows, as read for that run, backfill or tick; None where it was not."""
    kept = Snapshots.of(context.settings)
    shared = kept.path(LISTING, run_set).exists()
    found = (run_set, kept.facts(LISTING, run_set)) if shared else kept.newest_of(LISTING, run_set)
    if found is None:
        return None
    day, facts = found
    products, columns = ListedProducts(), ("fourseller_product_id", "sku", "stamp", "answer")
    for batch in kept.batches(LISTING, day, columns):
        products.add(map(ListedRow, *(batch[name].to_pylist() for name in columns)))
    counts, gone = facts["counts"], frozenset(facts["gone"])
    listing = Listing(products, counts["is_complete"], facts["reason"], gone)
    requests = counts["requests"] if facts["run_id"] == context.run_id else 0  # counted by one run alone
    return ReadListing(datetime.fromisoformat(facts["read_at"]), listing, requests)
