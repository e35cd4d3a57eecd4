"""What to do when 4Seller says that a product changed: nothing where it was our own push, else look and set it right.

What somebody changed on 4Seller is resolved by the policy of its item and field, as in a reconciliation. A
quantity that a sale may have changed waits for the order's own event first; orders are read only when none comes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import NotFound
from midas_pipelines.fourseller.listed import ListedProducts, Listing
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.gateway.webhooks import orders_wait
from midas_pipelines.store.items.mappings import COLUMNS, UNCLAIMED, Mapping
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.diff import seen
from midas_pipelines.sync.reconcile.apply import ReadBack
from midas_pipelines.sync.reconcile.conflicts import take_marketplace_quantities
from midas_pipelines.sync.reconcile.run import judge_sold
from midas_pipelines.sync.threads import in_thread

ORDER_SECONDS = 2.0
"""How long an order's own event may take to explain a quantity before orders are read for it."""


class EventResult(StrEnum):
    """What a reported product turned out to be."""

    STRANGER = "stranger"  # no item is tied to it
    ECHO = "echo"  # 4Seller shows what it confirmed to us
    BUSY = "busy"  # its item is being pushed, or an order may explain it; ask again when that is over
    FRESH = "fresh"  # pushed so lately that 4Seller may still show what was before
    DIFFERS = "differs"  # somebody changed it there; its policy says what follows
    GONE = "gone"  # it is no longer there; the item is dirty now


async def handle_product_event(
    context: SyncContext,
    client: FourSeller,
    product_id: str,
    reports: Sequence[Product | None],
    import_sales: Callable[[], Awaitable[object]],
    *,
    waited_seconds: float,
) -> EventResult:
    """Compares what was reported with what 4Seller last confirmed, and where they differ with what it shows now.

    A report may be late, so a difference alone proves nothing: 4Seller is asked before anything is believed.

    Args:
        reports: the product as each event had it; None in one that says it was deleted.
        import_sales: imports what was sold, before a quantity counts as an edit.
        waited_seconds: how long ago the first of the events came.

    Raises FourSellerError where it could not be asked.
    """
    mapping, held, read_at = await in_thread(_find, context, product_id)
    if mapping is None:
        return EventResult.STRANGER
    if held:
        return EventResult.BUSY
    if all(product is not None and not seen(mapping, product) for product in reports):
        return EventResult.ECHO
    if waited_seconds < ORDER_SECONDS and all(_may_be_sold(mapping, product) for product in reports):
        return EventResult.BUSY
    try:
        shown = await client.product(product_id)
    except NotFound:
        shown = None
    judging = await in_thread(_judge, context, mapping, shown, read_at)
    if judging.need_sales:
        late = int(waited_seconds - ORDER_SECONDS)  # an order's event may come yet, or wait behind others
        if waited_seconds < ORDER_SECONDS or await in_thread(context.database.read, orders_wait, late):
            return EventResult.BUSY
        await import_sales()
        await judge_sold(client, judging)
    await in_thread(take_marketplace_quantities, context)
    report = judging.report
    if report.equal or not report.scanned:  # the shop does not sell it, or cannot list it
        return EventResult.ECHO
    if not report.discrepancies:  # in shadow mode its change is never sent, so nothing is waited for
        return EventResult.ECHO if context.settings.shadows("listing") else EventResult.FRESH
    return EventResult.GONE if shown is None else EventResult.DIFFERS


def _find(context: SyncContext, product_id: str) -> tuple[Mapping | None, bool, datetime]:
    """The item's row, whether it is being pushed, and the moment by the database's clock."""
    query = sa.select(*COLUMNS, ~UNCLAIMED).where(mappings.c.fourseller_product_id == product_id)
    with context.database.reading() as connection:
        now = connection.execute(sa.select(utc_now())).scalar_one()
        row = connection.execute(query).first()
    return (None, False, now) if row is None else (Mapping(*row[:-1]), bool(row[-1]), now)


def _may_be_sold(mapping: Mapping, product: Product | None) -> bool:
    """Whether a sale, whose event is on its way, explains all that the product shows."""
    differs = seen(mapping, product) if product is not None else {"deleted": True}
    shown, acked = differs.get("acked_quantity"), mapping.acked_quantity
    fell = isinstance(shown, int) and acked is not None and shown < acked
    return not differs or (differs.keys() == {"acked_quantity"} and fell)


def _judge(context: SyncContext, mapping: Mapping, shown: Product | None, read_at: datetime) -> ReadBack:
    """Judges this one item as a reconciliation would: by its policy, its pins, and who pushed since it was asked."""
    products = ListedProducts(() if shown is None else [shown])
    gone = frozenset[str]() if shown is not None else frozenset({str(mapping.fourseller_product_id)})
    listing = Listing(products, complete=True, gone=gone)
    judging = ReadBack(context, listing, read_at, ids=[mapping.id])
    judging.judge_all()
    return judging
