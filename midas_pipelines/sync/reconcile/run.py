"""Reconciliation: reading back what 4Seller really shows, and resolving by policy what differs from the shop.

The listing is read page by page. A list proves presence, never absence: lists lag behind writes, end early and come back
empty, so what they lack is asked for by id, and only a 404 for the very id makes a listed product missing. Then each item
is judged (`decide.py`) and what the decision asks for is written, a thousand at a time (`apply.py`). Where a sale may
explain a quantity, new sales are imported before that is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from midas_pipelines.fourseller import errors
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.listed import ListedRow, Listing, product_of
from midas_pipelines.fourseller.models import Product
from midas_pipelines.notify.alerts import match_alerts
from midas_pipelines.store.items.claims import free_dead_claims
from midas_pipelines.store.items.conflicts import OPEN, resolve_pushed, resolve_unseen
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import any_of
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines.sync.listings.adopt import Known
from midas_pipelines.sync.listings.diff import shown_quantity
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.reconcile.apply import ReadBack
from midas_pipelines.sync.reconcile.conflicts import match_conflict_alerts, take_marketplace_quantities
from midas_pipelines.sync.reconcile.report import ReconcileReport
from midas_pipelines.sync.reconcile.strays import judge_untied
from midas_pipelines.sync.sync_log import logged_sync
from midas_pipelines.sync.threads import in_thread

FEW, FEW_PERCENT = 3, 1
"""A list may lack so many of the known products, or that share of them, and still be believed."""

FIRST, AT_ONCE = 100, 1000  # how many are asked for by id at first, and then at once
READ_AT_ONCE = 10_000


class ReadListing(NamedTuple):
    """A listing, the moment before it was read by the database's clock, and the calls for it that another client made
    in this same run."""

    read_at: datetime
    listing: Listing
    requests: int = 0


async def reconcile(
    context: SyncContext, *, shards: Shards | None = None, listed: ReadListing | None = None
) -> ReconcileReport:
    """Reads every listing, writes what was observed, records conflicts, and resolves them by policy.

    Args:
        shards: judges the items of these alone, and no product that is no item's; None for all. 4Seller can only be
            read whole.
        listed: what was read before, in the same run or backfill; read now where it is left out.

    Raises ChannelDown where the listing could not be read, BadCredentials for a wrong key or seller id.
    """
    report = ReconcileReport()
    with logged_sync(context, "reconcile", str(shards or "all")[:200], report) as clock:
        async with context.channel() as client:
            clock.client = client
            listed = listed or await read_listing(context, client, shards)
            judging = await read_back(context, client, shards, report, listed)
            clock.requests = report.sale_requests + listed.requests
            if judging.to_push and context.gate.connected:
                known = Known(judging.listing.products) if judging.listing.complete else None
                pushing = Push(context, client, known=known, ids=judging.to_push, ignore_delays=True)
                tally = await pushing.run()
                report.pushed = tally.created + tally.updated + tally.pushed + tally.deleted
                report.failed = tally.failed + tally.released + tally.held
                report.stopped = pushing.stopped
        await in_thread(close_resolved, context, judging)
    return report


async def read_back(
    context: SyncContext,
    client: FourSeller,
    shards: Shards | None,
    report: ReconcileReport,
    listed: ReadListing,
) -> ReadBack:
    """Judges every item by the listing, and resolves by policy what differs; imports sales where one may explain it.

    Where sales cannot be imported, the quantities they may explain are left as they are. Raises BadCredentials.
    """
    read_at, listing, _ = listed
    report.resolved = await in_thread(take_marketplace_quantities, context)  # of a run that died before
    if shards is not None:  # else each is met in its turn
        await in_thread(_tie_all, context, listing)
    judging = ReadBack(context, listing, read_at, shards=shards, report=report)
    await in_thread(judging.judge_all)
    if judging.need_sales:
        try:
            report.sale_requests = (await import_orders(context)).requests
            await judge_sold(client, judging)
        except errors.CallFailed as failed:
            judging.leave_sales(f"New sales could not be imported, so they were not weighed: {failed}")
    report.resolved += await in_thread(take_marketplace_quantities, context)
    await judge_untied(client, judging)
    report.listed, report.complete = len(listing.products), listing.complete
    return judging


async def read_listing(context: SyncContext, client: FourSeller, shards: Shards | None = None) -> ReadListing:
    """Everything 4Seller has, with what its list lacks asked for by id, and the moment before by the database's
    clock. Raises BadCredentials, or ChannelDown when not even the first page can be had."""
    await in_thread(free_dead_claims, context.database)
    # Acknowledgements are dated by the database's clock, and the two will be compared.
    read_at = await in_thread(context.database.now)
    try:
        listing = await client.listing()
    except errors.NOT_READ as failed:
        raise ChannelDown(f"4Seller's products could not be read: {failed} Nothing was changed.") from failed
    return ReadListing(read_at, await _ask_for_missing(context, client, listing, shards))


async def _ask_for_missing(
    context: SyncContext, client: FourSeller, listing: Listing, shards: Shards | None
) -> Listing:
    """The listing, with each known product that it lacked either found by id or among the `gone`.

    A list that lacks more than a few is tried on some of them first: when 4Seller still has any of those, the list
    is not believed, it counts as incomplete, and staff get an alert. Raises BadCredentials.
    """
    lacking, known, past_lag = await in_thread(_lacking, context, listing, shards)
    few = max(FEW, known * FEW_PERCENT // 100)
    gone: set[str] = set()
    start, refuted = 0, False
    while start < len(lacking) and not refuted:
        part = lacking[start : start + (AT_ONCE if start else max(few, FIRST))]
        start += len(part)
        answers = await asyncio.gather(*(_ask(client, product_id) for product_id in part))
        listing.products.add(answer for answer in answers if isinstance(answer, ListedRow))
        gone |= {product_id for product_id, answer in zip(part, answers, strict=True) if answer is None}
        refuted = len(lacking) > few and len(gone) < start
    reason = listing.reason
    if refuted:
        reason = f"4Seller's list lacks {len(lacking)} of {known} products that it was known to have"
    alarming = past_lag > few or 2 * len(lacking) > known  # no mere lag
    await in_thread(_report, context, reason if refuted and alarming else None)
    return replace(listing, complete=listing.complete and not refuted, reason=reason, gone=frozenset(gone))


async def _ask(client: FourSeller, product_id: str) -> ListedRow | errors.FourSellerError | None:
    """The product; None where 4Seller no longer has it; an error proves nothing."""
    try:
        return await client.product_row(product_id)
    except errors.NotFound:
        return None
    except errors.CallFailed as failed:
        return failed


def _tie_all(context: SyncContext, listing: Listing) -> None:
    """Marks the products of every item, of whatever shard."""
    for rows in _known_products(context, None):
        listing.products.tie([row[1] for row in rows])


def _known_products(context: SyncContext, shards: Shards | None) -> Iterator[Sequence[sa.Row[Any]]]:
    """The listed items of these shards: mapping, product, when it was confirmed, and whether that is before the lists' lag."""
    columns, product_id = mappings.c, mappings.c.fourseller_product_id
    before = utc_now(-int(context.settings.list_lag_seconds))
    past_lag = sa.func.coalesce(columns.acked_at < before, sa.true())
    query = sa.select(columns.id, product_id, columns.acked_at, past_lag).where(product_id.is_not(None))
    query, after = query.order_by(columns.id).limit(READ_AT_ONCE), 0
    if shards is not None:
        query = query.where(shards.holds(columns.id))
    with context.database.reading() as connection:
        while rows := connection.execute(query.where(columns.id > after)).all():
            after = rows[-1][0]
            yield rows


def _lacking(context: SyncContext, listing: Listing, shards: Shards | None) -> tuple[list[str], int, int]:
    """The known products of these shards that a list lacks, the longest confirmed first; how many are known; and how many
    of the lacking were confirmed before the lists' lag."""
    known = past_lag = 0
    absent = list[tuple[float, str]]()  # a cut list may lack all there are: as little of each as will do
    for rows in _known_products(context, shards):
        known += len(rows)
        present = listing.products.stamps([row[1] for row in rows])
        for _, one, confirmed, is_past_lag in rows:
            if one not in present:
                past_lag += bool(is_past_lag)
                absent.append((confirmed.timestamp() if confirmed else 0.0, one))
    strangers = len(listing.products) > known - len(absent)
    absent.sort(key=itemgetter(0))
    lacking = [one for _, one in absent]
    del absent
    # Some are only shown in other letters (`p7` for `P7`): they are listed by the ids that they are known by.
    if strangers and (shown := listing.products.respellings(lacking)):
        product_id = mappings.c.fourseller_product_id
        with context.database.reading() as connection:
            tied = sa.select(product_id).where(any_of(connection, product_id, shown))
            of_others = set(connection.scalars(tied))
        for one in shown.keys() - of_others:
            listing.products.rename(one, shown[one])
        respelled = {shown[one] for one in shown.keys() - of_others}
        lacking = [one for one in lacking if one not in respelled]
    return lacking, known, past_lag


def _report(context: SyncContext, reason: str | None) -> None:
    text = (
        f"{reason}. The list was not believed: nothing counts as missing and nothing was listed again. "
        "Check on 4Seller's own pages whether they are there."
    )
    context.database.write(match_alerts, kind="listing", texts={} if reason is None else {"short list": text})


async def judge_sold(client: FourSeller, judging: ReadBack) -> None:
    """Judges what `ReadBack.judge_all` left, once sales are imported: what 4Seller shows unchanged since is an
    edit; an item that has moved on is being bought, and counts as changing. Raises BadCredentials."""
    waiting = judging.need_sales
    still = await asyncio.gather(*(_still_shown(client, product) for product in waiting.values()))
    same = sorted(item for item, unchanged in zip(waiting, still, strict=True) if unchanged)
    judging.leave(waiting.keys() - same)
    if same:
        await in_thread(judging.resume, same)


async def _still_shown(client: FourSeller, product: Product) -> bool:
    answer = await _ask(client, product.id)
    if not isinstance(answer, ListedRow):
        return False
    again = product_of(answer)
    return (shown_quantity(again), again.updated_at) == (shown_quantity(product), product.updated_at)


def close_resolved(context: SyncContext, judging: ReadBack) -> None:
    """Closes what is resolved by now, after a read-back and what it pushed, and counts what is not."""
    report = judging.report
    with context.database.writing() as connection:
        closed = resolve_pushed(connection)
        if judging.listing.complete:
            closed += resolve_unseen(connection, judging.read_at, judging.busy, judging.shards)
        match_conflict_alerts(connection, looked=True)
        report.open_conflicts = connection.scalar(sa.select(sa.func.count()).where(OPEN)) or 0
    report.resolved += closed
