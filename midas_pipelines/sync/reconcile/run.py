"""Reconciliation: reading back what 4Seller really shows, and settling by policy what differs from the shop.

The listing is read page by page; then new sales are imported, so that stock that a marketplace has sold is no
discrepancy; then each item is judged (`verdicts.py`) and what the judgement asks for is written, a thousand at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import (
    BadCredentials,
    ContractBroken,
    FourSellerError,
    RateLimited,
    Unavailable,
)
from midas_pipelines.fourseller.models import Product
from midas_pipelines.fourseller.pages import Listing
from midas_pipelines.store.items.claims import free_dead_claims
from midas_pipelines.store.items.conflicts import resolve_pushed, resolve_unseen
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines.sync.listings.adopt import Known
from midas_pipelines.sync.listings.diff import shown_quantity
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.reconcile.absence import ask_for_missing
from midas_pipelines.sync.reconcile.apply import ReadBack
from midas_pipelines.sync.reconcile.conflicts import close_alerts, take_marketplace_quantities
from midas_pipelines.sync.reconcile.strays import settle_unknown
from midas_pipelines.sync.sync_log import logged_sync
from midas_pipelines.sync.threads import in_thread

FOUND = ("above", "doubled")


@dataclass
class ReconcileReport:
    """What a reconciliation saw and did.

    `consistency` is the share of items that 4Seller showed as they should be, of those that it showed or should have;
    None when none could be judged.
    """

    scanned: int = 0
    listed: int = 0  # products that 4Seller has, ours or not
    equal: int = 0
    changing: int = 0  # changed in the shop, or confirmed since the read; no discrepancy
    not_seen: int = 0  # in no row that could be read, or in one without price or quantity
    discrepancies: int = 0  # items
    settled: int = 0  # conflicts
    waiting: int = 0  # conflicts that are open still
    differing: dict[str, int] = field(default_factory=dict)  # items by the field that differs
    unknown: int = 0  # on 4Seller under no item's name
    consistency: float | None = None
    complete: bool = True
    pushed: int = 0
    failed: int = 0
    requests: int = 0
    seconds: float = 0.0
    worst: list[dict[str, str]] = field(default_factory=list)
    above: list[dict[str, str]] = field(
        default_factory=list
    )  # offered for sale in a quantity that is not there
    doubled: list[dict[str, str]] = field(
        default_factory=list
    )  # items with more than one product of their SKU
    stopped: str | None = None  # why what the shop wins was not pushed: the brake
    note: str | None = None  # why some quantities were not judged


async def reconcile(
    context: SyncContext, *, push: bool = True, shards: Shards | None = None
) -> ReconcileReport:
    """Reads every listing, writes what was observed, records conflicts, and settles them by policy.

    Args:
        engine: settings, database and run.
        push: whether what the shop wins is sent at once; otherwise the next sync sends it.
        shards: judges the items of these alone, and no product that is no item's; None for all. 4Seller can only be
            read whole.

    Raises:
        ChannelDown: the listing could not be read.
        BadCredentials: the key or the seller id is wrong.
    """
    report = ReconcileReport()
    with logged_sync(context, "reconcile", str(shards or "all")[:200], report) as clock:
        async with context.channel() as client:
            clock.client = client
            await in_thread(take_marketplace_quantities, context)
            settling = await read_back(context, client, shards)
            _fill(report, settling)
            if push and settling.to_push:
                await _push(context, client, settling, report)
        await in_thread(_close, context, settling, report)
    report.requests += settling.sale_requests
    return report


async def read_back(context: SyncContext, client: FourSeller, shards: Shards | None = None) -> ReadBack:
    """Reads every listing, judges every item, and settles by policy what differs; imports sales where one may explain it.

    Where sales cannot be imported, the quantities they may explain are left as they are. Raises BadCredentials, or
    ChannelDown when not even the first page of products can be had.
    """
    read_at, listing = await read_listing(context, client, shards)
    settling = await in_thread(apply_read_back, context, listing, read_at, shards)
    if settling.need_sales:
        try:
            imported = await import_orders(context)
            settling.sale_requests = imported.requests
            await settle_sold(client, settling)
        except BadCredentials:
            raise
        except FourSellerError as failed:
            settling.leave_sales(f"New sales could not be imported, so they were not weighed: {failed}")
    await settle_unknown(client, settling)
    return settling


async def read_listing(
    context: SyncContext, client: FourSeller, shards: Shards | None = None
) -> tuple[datetime, Listing]:
    """The moment before the read by the database's clock, and everything 4Seller has; what its list lacks is asked for by id.

    Raises BadCredentials, or ChannelDown when not even the first page can be had.
    """
    read_at = await in_thread(_database_now, context)
    try:
        listing = await client.listing()
    except (Unavailable, RateLimited, ContractBroken) as failed:
        raise ChannelDown(f"4Seller's products could not be read: {failed} Nothing was changed.") from failed
    return read_at, await ask_for_missing(context, client, listing, shards)


def apply_read_back(
    context: SyncContext,
    listing: Listing,
    read_at: datetime,
    shards: Shards | None = None,
    ids: Sequence[int] | None = None,
) -> ReadBack:
    """Judges every item against the listing and writes what that asks for; marks dirty what the shop wins.

    Items whose quantity a sale may have changed are left to `settle_sold`.

    Args:
        engine: settings, database and run.
        listing: as read; one that is not complete lets nothing count as missing.
        read_at: before the read began. What was confirmed later is left alone.
        shards: only the items of these; None for all, and for products that are no item's.
        ids: only these mappings; None for all, and for products that are no item's.
    """
    settling = ReadBack(context, listing, read_at, ids=ids, shards=shards)
    while settling.next_chunk():
        pass
    return settling


async def settle_sold(client: FourSeller, settling: ReadBack) -> None:
    """Settles what `apply_read_back` left, once sales are imported: what 4Seller shows unchanged since is an edit.

    An item that has moved on meanwhile is being bought; it counts as changing.

    Raises BadCredentials.
    """
    waiting = settling.need_sales
    still = await asyncio.gather(*(_still_shown(client, product) for product in waiting.values()))
    same = sorted(item for item, unchanged in zip(waiting, still, strict=True) if unchanged)
    settling.leave_open(len(waiting) - len(same))
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


async def _push(
    context: SyncContext, client: FourSeller, settling: ReadBack, report: ReconcileReport
) -> None:
    ids, known = settling.to_push, Known(settling.orphans) if settling.listing.complete else None
    push = Push(context, client, known=known, ids=ids, ignore_delays=True)
    tally = await push.run()
    report.pushed = tally.created + tally.updated + tally.pushed + tally.deleted
    report.failed = tally.failed + tally.released + tally.held
    report.stopped = push.stopped


def _fill(report: ReconcileReport, settling: ReadBack) -> None:
    report.listed, report.complete = len(settling.listing.products), settling.listing.complete
    report.note = settling.note
    for name in (
        "scanned",
        "equal",
        "changing",
        "not_seen",
        "discrepancies",
        "unknown",
        "differing",
        "worst",
        *FOUND,
    ):
        setattr(report, name, getattr(settling, name))
    judged = report.equal + report.discrepancies
    report.consistency = round(report.equal / (judged + report.not_seen), 6) if judged else None


def _close(context: SyncContext, settling: ReadBack, report: ReconcileReport) -> None:
    """Closes what is settled by now, and counts what is not."""
    moved = take_marketplace_quantities(context)
    with context.database.writing() as connection:
        closed = resolve_pushed(connection)
        if settling.listing.complete:
            closed += resolve_unseen(connection, settling.read_at, settling.busy, settling.shards)
        report.waiting = close_alerts(connection, closed)
    report.settled = len(closed) + moved + settling.settled
