"""Asks 4Seller by id for what its list lacks: a list proves presence, never absence.

Lists lag behind writes, end early and come back empty. Only a 404 for the very id makes a listed product missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError, NotFound
from midas_pipelines.fourseller.models import Product
from midas_pipelines.fourseller.pages import Listing
from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.threads import in_thread

FEW, FEW_PERCENT = 3, 1
"""A list may lack so many of the known products, or that share of them, and still be believed."""

FIRST, AT_ONCE = 100, 1000
"""How many are asked for by id at first, and then at once."""
READ_AT_ONCE = 10_000
ALERT, SUBJECT = "listing", "short list"


@dataclass
class Lacking:
    """Known products that a list lacks, the longest confirmed first; `settled` were confirmed before the lists' lag."""

    known: int
    ids: list[str]
    settled: int
    unknown: set[str]  # ids in the list that no item is tied to

    @property
    def few(self) -> int:
        """How many may be missing from a list that is believed."""
        return max(FEW, self.known * FEW_PERCENT // 100)


async def ask_for_missing(
    context: SyncContext, client: FourSeller, listing: Listing, shards: Shards | None = None
) -> Listing:
    """The listing, with each known product that it lacked either found by id or among the `gone`.

    A list that lacks more than a few is tried on some of them first: when 4Seller still has any of those, the list
    is not believed, it counts as incomplete, and staff get an alert. Raises BadCredentials.
    """
    lacking = await in_thread(_lacking, context, listing, shards)
    listing = _respelled(listing, lacking)
    many = len(lacking.ids) > lacking.few
    found: list[Product] = []
    gone: set[str] = set()
    start, refuted = 0, False
    while start < len(lacking.ids) and not refuted:
        part = lacking.ids[start : start + (AT_ONCE if start else max(lacking.few, FIRST))]
        start += len(part)
        answers = await asyncio.gather(*(_ask(client, product_id) for product_id in part))
        found += [answer for answer in answers if isinstance(answer, Product)]
        gone |= {product_id for product_id, answer in zip(part, answers, strict=True) if answer is None}
        refuted = many and len(gone) < start
    reason = listing.reason
    if refuted:
        reason = (
            f"4Seller's list lacks {len(lacking.ids)} of {lacking.known} products that it was known to have"
        )
    alarming = lacking.settled > lacking.few or 2 * len(lacking.ids) > lacking.known  # no mere lag
    await in_thread(_report, context, reason if refuted and alarming else None)
    products = [*listing.products, *found]
    complete = listing.complete and not refuted
    return replace(listing, products=products, complete=complete, reason=reason, gone=frozenset(gone))


def _respelled(listing: Listing, lacking: Lacking) -> Listing:
    """The listing with the ids that it only shows in other letters (`p7` for `P7`) as they are known."""
    shown = {product_id.casefold(): product_id for product_id in lacking.unknown} if lacking.ids else {}
    known = {shown[one.casefold()]: one for one in lacking.ids if one.casefold() in shown}
    lacking.ids = [one for one in lacking.ids if one not in known.values()]
    products = [
        one.model_copy(update={"id": known[one.id]}) if one.id in known else one for one in listing.products
    ]
    return replace(listing, products=products) if known else listing


async def _ask(client: FourSeller, product_id: str) -> Product | FourSellerError | None:
    """The product; None where 4Seller no longer has it; an error proves nothing."""
    try:
        return await client.product(product_id)
    except NotFound:
        return None
    except BadCredentials:
        raise
    except FourSellerError as failed:
        return failed


def _lacking(context: SyncContext, listing: Listing, shards: Shards | None) -> Lacking:
    unknown = {product.id for product in listing.products}
    lag = utc_now(-int(context.settings.list_lag_seconds))
    settled = sa.func.coalesce(mappings.c.acked_at < lag, sa.true())
    query = sa.select(mappings.c.id, mappings.c.fourseller_product_id, mappings.c.acked_at, settled)
    query = query.where(mappings.c.fourseller_product_id.is_not(None)).order_by(mappings.c.id)
    if shards is not None:
        query = query.where(shards.holds(mappings.c.id))
    known, after, lacking = 0, 0, list[Sequence[object]]()
    with context.database.reading() as connection:
        while rows := connection.execute(query.where(mappings.c.id > after).limit(READ_AT_ONCE)).all():
            after, known = rows[-1].id, known + len(rows)
            lacking += [row for row in rows if row.fourseller_product_id not in unknown]
            unknown -= {row.fourseller_product_id for row in rows}
    lacking.sort(key=lambda row: str(row[2] or ""))
    return Lacking(known, [str(row[1]) for row in lacking], sum(bool(row[3]) for row in lacking), unknown)


def _report(context: SyncContext, reason: str | None) -> None:
    with context.database.writing() as connection:
        if reason is None:
            clear_alert(connection, kind=ALERT, subject=SUBJECT)
            return
        text = (
            f"{reason}. The list was not believed: nothing counts as missing and nothing was listed again. "
            "Check on 4Seller's own pages whether they are there."
        )
        raise_alert(connection, kind=ALERT, subject=SUBJECT, text=text)
