"""The listing snapshot: what 4Seller shows of each product, read once; syncs and checks of the same run use that read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from midas_pipelines.fourseller.models import Product
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.diff import form, hidden, shown_quantity, storable
from midas_pipelines.sync.reconcile.run import read_listing
from midas_pipelines.sync.snapshots.files import Spool, spool
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
        }
    )


def listing_rows(products: Iterable[Product]) -> Iterator[dict[str, Any]]:
    """A row for each product."""
    for product in products:
        yield {
            "fourseller_product_id": product.id,
            "sku": product.sku,
            "title": product.title,
            "price": storable(product.price),
            "quantity": shown_quantity(product),
            "status": product.status,
            "content": None if hidden(product) else form(product),
            "updated_at": product.updated_at,
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
        read_at, listing = await read_listing(context, client)
    facts = {
        "read_at": read_at,
        "run_id": context.run_id,
        "run_set": run_set,
        "is_complete": listing.complete,
        "reason": listing.reason,
    }
    return await in_thread(spool, schema(), listing_rows(listing.products), facts)
