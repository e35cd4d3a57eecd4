"""Reconciliation: reading back what 4Seller really shows, and settling by policy what differs from the shop.

The listing is read page by page; then each item is judged (`decide.py`) and what the decision asks for is written, a
thousand at a time (`apply.py`). Where a sale may explain a quantity, new sales are imported before that is judged.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import NamedTuple

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import (
    BadCredentials,
    ContractBroken,
    FourSellerError,
    RateLimited,
    Unavailable,
)
from midas_pipelines.fourseller.listed import Listing
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.items.claims import free_dead_claims
from midas_pipelines.store.items.conflicts import resolve_pushed, resolve_unseen
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines.sync.listings.adopt import Known
from midas_pipelines.sync.listings.diff import shown_quantity
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.reconcile.run import ask_for_missing, tie_all
from midas_pipelines.sync.reconcile.apply import ReadBack
from midas_pipelines.sync.reconcile.conflicts import close_alerts, take_marketplace_quantities
from midas_pipelines.sync.reconcile.apply import ReconcileReport
from midas_pipelines.sync.reconcile.strays import settle_unknown
from midas_pipelines.sync.sync_log import logged_sync
from midas_pipelines.sync.threads import in_thread


class ReadListing(NamedTuple):
    """A listing, the moment before it was read by the database's clock, and the calls for it that another client made
    in this same run."""

    read_at: datetime
    listing: Listing
    requests: int = 0


async def reconcile(
    context: SyncContext,
    *,
    push: bool = True,
    shards: Shards | None = None,
    listed: ReadListing | None = None,
) -> ReconcileReport:
    """Reads every listing, writes what was observed, records conflicts, and settles them by policy.

    Args:
        context: settings, database and run.
        push: whether what the shop wins is sent at once; otherwise the next sync sends it.
        shards: judges the items of these alone, and no product that is no item's; None for all. 4Seller can only be
            read whole.
        listed: what was read before, in the same run or backfill; read now where it is left out.

    Raises:
        ChannelDown: the listing could not be read.
        BadCredentials: the key or the seller id is wrong.
    """
    report = ReconcileReport()
    with logged_sync(context, "reconcile", str(shards or "all")[:200], report) as clock:
        async with context.channel() as client:
            clock.client = client
            await in_thread(take_marketplace_quantities, context)
            settling = await read_back(context, client, shards, report, listed)
            clock.requests = report.sale_requests + (listed.requests if listed is not None else 0)
            if push and settling.to_push and context.gate.connected:
                known = Known(settling.listing.products) if settling.listing.complete else None
                pushing = Push(context, client, known=known, ids=settling.to_push, ignore_delays=True)
                tally = await pushing.run()
                report.pushed = tally.created + tally.updated + tally.pushed + tally.deleted
                report.failed = tally.failed + tally.released + tally.held
                report.stopped = pushing.stopped
        await in_thread(_close, context, settling, report)
    return report


async def read_back(
    context: SyncContext,
    client: FourSeller,
    shards: Shards | None,
    report: ReconcileReport,
    listed: ReadListing | None = None,
) -> ReadBack:
    """Reads every listing, judges every item, and settles by policy what differs; imports sales where one may explain it.

    Where sales cannot be imported, the quantities they may explain are left as they are. Raises BadCredentials, or
    ChannelDown when not even the first page of products can be had.
    """
    read_at, listing, _ = listed or await read_listing(context, client, shards)
    if shards is not None:  # else each is met in its turn
        await in_thread(tie_all, context, listing)
    settling = ReadBack(context, listing, read_at, shards=shards, report=report)
    await in_thread(settling.judge_all)
    if settling.need_sales:
        try:
            imported = await import_orders(context)
            report.sale_requests = imported.requests
            await settle_sold(client, settling)
        except BadCredentials:
            raise
        except FourSellerError as failed:
            settling.leave_sales(f"New sales could not be imported, so they were not weighed: {failed}")
    await settle_unknown(client, settling)
    report.listed, report.complete = len(listing.products), listing.complete
    return settling


async def read_listing(context: SyncContext, client: FourSeller, shards: Shards | None = None) -> ReadListing:
    """The moment before the read by the database's clock, and everything 4Seller has; what its list lacks is asked for by id.

    Raises BadCredentials, or ChannelDown when not even the first page can be had.
    """
    read_at = await in_thread(_database_now, context)
    try:
        listing = await client.listing()
    except (Unavailable, RateLimited, ContractBroken) as failed:
        raise ChannelDown(f"4Seller's products could not be read: {failed} Nothing was changed.") from failed
    return ReadListing(read_at, await ask_for_missing(context, client, listing, shards))


async def settle_sold(client: FourSeller, settling: ReadBack) -> None:
    """Settles what `ReadBack.judge_all` left, once sales are imported: what 4Seller shows unchanged since is an edit.

    An item that has moved on meanwhile is being bought; it counts as changing.

    Raises BadCredentials.
    """
    waiting = settling.need_sales
    still = await asyncio.gather(*(_still_shown(client, product) for product in waiting.values()))
    same = sorted(item for item, unchanged in zip(waiting, still, strict=True) if unchanged)
    settling.report.leave_open(len(waiting) - len(same))
    if same:
        await in_thread(settling.resume, same)


async def _still_shown(client: FourSeller, product: Product) -> bool:
    try:
        again = await client.product(product.id)
    except BadCredentials:
        raise
    except FourSellerError:
        return False
    return (shown_quantity(again), again.updated_at) == (shown_quantity(product), product.updated_at)


def _database_now(context: SyncContext) -> datetime:
    """The clock that acknowledgements are dated by: ours may differ from it, and the two will be compared."""
    free_dead_claims(context.database)
    return context.database.now()


def _close(context: SyncContext, settling: ReadBack, report: ReconcileReport) -> None:
    """Closes what is settled by now, and counts what is not."""
    moved = take_marketplace_quantities(context)
    with context.database.writing() as connection:
        closed = resolve_pushed(connection)
        if settling.listing.complete:
            closed += resolve_unseen(connection, settling.read_at, settling.busy, settling.shards)
        report.waiting = close_alerts(connection, closed)
    report.settled = len(closed) + moved + report.settled
