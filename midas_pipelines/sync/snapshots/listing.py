"""The listing snapshot: what 4Seller shows of each product, read once; syncs and checks of the same run use that read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from midas_pipelines.fourseller.listed import ListedProducts, ListedRow, product_of, stamp_of
from midas_pipelines.fourseller.pages import Listing, listed, read_product
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.diff import form, hidden, shown_quantity, storable
from midas_pipelines.sync.reconcile.run import ReadListing, read_listing
from midas_pipelines.sync.snapshots.files import LISTING, Snapshots, Spool, spool
from midas_pipelines.sync.threads import in_thread

if TYPE_CHECKING:
    import pyarrow as pa


def schema() -> pa.Schema:
    """The columns; `docs/snapshots.md` says what they hold."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        {
            "fourseller_product_id": text,
            "sku": text,
            "title": text,
            "price": pa.decimal128(18, 4),
            "quantity": pa.int64(),
            "status": text,
            "content": text,
            "updated_at": pa.timestamp("us", tz="UTC"),
            "answer": pa.binary(),
            "dated": pa.binary(),
        }
    )


def listing_rows(products: ListedProducts) -> Iterator[dict[str, Any]]:
    """A row for each product; `answer` is what 4Seller sent, apart from the date of the last change."""
    for row in products.rows():
        product = product_of(row, read_product)
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
            "dated": row.dated,
        }


async def snapshot_listing(context: SyncContext, run_set: str) -> Spool:
    """Reads all that 4Seller shows into a file of this machine.

    Args:
        context: settings, database and run.
        run_set: the run, or the backfill, whose syncs and checks may use this read.

    Raises:
        BadCredentials, ChannelDown: not even the first page could be had.
    """
    async with context.channel() as client:
        read_at, listing, _ = await read_listing(context, client)
        requests = client.requests
    facts = {
        "read_at": read_at,
        "run_id": context.run_id,
        "requests": requests,
        "run_set": run_set,
        "is_complete": listing.complete,
        "total": listing.total,
        "gone": sorted(listing.gone),
        "reason": listing.reason,
    }
    return await in_thread(spool, schema(), listing_rows(listing.products), facts)


def listing_of(context: SyncContext, run_set: str) -> ReadListing | None:
    """What 4Seller shows, from the newest snapshot; None where that was read for another run or backfill."""
    kept = Snapshots.of(context.settings)
    found = kept.newest_of(LISTING, run_set)
    if found is None:
        return None
    day, facts = found
    products = listed()
    for chunk in kept.chunks(LISTING, day, ["fourseller_product_id", "sku", "answer", "dated"]):
        products.add(
            ListedRow(row_id, sku, stamp_of(answer), answer, dated) for row_id, sku, answer, dated in chunk
        )
    listing = Listing(
        products, facts["total"], facts["is_complete"], reason=facts["reason"], gone=frozenset(facts["gone"])
    )
    requests = facts["requests"] if facts["run_id"] == context.run_id else 0  # counted by one run alone
    return ReadListing(datetime.fromisoformat(facts["read_at"]), listing, requests)
