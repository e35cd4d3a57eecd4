"""Asks 4Seller by id for what its list lacks: a list proves presence, never absence.

Lists lag behind writes, end early and come back empty. Only a 404 for the very id makes a listed product missing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError, NotFound
from midas_pipelines.fourseller.listed import ListedRow, Listing
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
    await in_thread(_respell, context, listing, lacking)
    many = len(lacking.ids) > lacking.few
    gone: set[str] = set()
    start, refuted = 0, False
    while start < len(lacking.ids) and not refuted:
        part = lacking.ids[start : start + (AT_ONCE if start else max(lacking.few, FIRST))]
        start += len(part)
        answers = await asyncio.gather(*(_ask(client, product_id) for product_id in part))
        listing.products.add(answer for answer in answers if isinstance(answer, ListedRow))
        gone |= {product_id for product_id, answer in zip(part, answers, strict=True) if answer is None}
        refuted = many and len(gone) < start
    reason = listing.reason
    if refuted:
        reason = (
            f"4Seller's list lacks {len(lacking.ids)} of {lacking.known} products that it was known to have"
        )
    alarming = lacking.settled > lacking.few or 2 * len(lacking.ids) > lacking.known  # no mere lag
    await in_thread(_report, context, reason if refuted and alarming else None)
    complete = listing.complete and not refuted
    return replace(listing, complete=complete, reason=reason, gone=frozenset(gone))


def tie_all(context: SyncContext, listing: Listing) -> None:
    """Marks the products of every item, of whatever shard."""
    query = sa.select(mappings.c.id, mappings.c.fourseller_product_id).order_by(mappings.c.id)
    query, after = query.where(mappings.c.fourseller_product_id.is_not(None)).limit(READ_AT_ONCE), 0
    with context.database.reading() as connection:
        while rows := connection.execute(query.where(mappings.c.id > after)).all():
            after = rows[-1][0]
            listing.products.tie([row[1] for row in rows])


def _respell(context: SyncContext, listing: Listing, lacking: Lacking) -> None:
    """Lists the products that are only shown in other letters (`p7` for `P7`) by the ids that they are known by."""
    shown = listing.products.respellings(lacking.ids)
    if not shown:
        return
    query = sa.select(mappings.c.fourseller_product_id).where(mappings.c.fourseller_product_id.in_(shown))
    with context.database.reading() as connection:
        of_others = set(connection.scalars(query))
    for one in shown.keys() - of_others:
        listing.products.rename(one, shown[one])
    known = {shown[one] for one in shown.keys() - of_others}
    lacking.ids = [one for one in lacking.ids if one not in known]


async def _ask(client: FourSeller, product_id: str) -> ListedRow | FourSellerError | None:
    """The product; None where 4Seller no longer has it; an error proves nothing."""
    try:
        return await client.product_row(product_id)
    except NotFound:
        return None
    except BadCredentials:
        raise
    except FourSellerError as failed:
        return failed


def _lacking(context: SyncContext, listing: Listing, shards: Shards | None) -> Lacking:
    columns, product_id = mappings.c, mappings.c.fourseller_product_id
    settled = sa.func.coalesce(columns.acked_at < utc_now(-int(context.settings.list_lag_seconds)), sa.true())
    query = sa.select(columns.id, product_id, columns.acked_at, settled).where(product_id.is_not(None))
    query = query.order_by(columns.id).limit(READ_AT_ONCE)
    if shards is not None:
        query = query.where(shards.holds(columns.id))
    known, after, absent = 0, 0, list[sa.Row[Any]]()
    with context.database.reading() as connection:
        while rows := connection.execute(query.where(columns.id > after)).all():
            after, known = rows[-1][0], known + len(rows)
            present = listing.products.present([row[1] for row in rows])
            absent += [row for row in rows if row[1] not in present]
    absent.sort(key=lambda row: str(row[2] or ""))
    return Lacking(known, [row[1] for row in absent], sum(bool(row[3]) for row in absent))


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
