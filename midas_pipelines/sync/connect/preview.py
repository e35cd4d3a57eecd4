"""The match preview: both sides read, nothing written; what the first sync would change, the worst first."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from pathlib import Path

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.database import Database
from midas_pipelines.sync.connect.match import Match, Sought, match_listings
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines.sync.listings.content import content
from midas_pipelines.sync.listings.diff import filled, shown_quantity
from midas_pipelines.sync.listings.plan import Action, Change
from midas_pipelines.sync.listings.scan import chunks
from midas_pipelines.sync.threads import in_thread

SURE = ("sku", "spelling", "barcode")
"""The ways of matching that `midas connect accept` takes without a person's word on each."""


@dataclass(frozen=True)
class PreviewRow:
    """One line of the preview and of its CSV. Money is USD; `worst` sorts: the larger, the more a buyer would notice."""

    result: str  # sku|spelling|barcode|title|tied|only here|only there|doubled|unlistable
    sku: str
    listing_id: str = ""
    listing_sku: str = ""
    title: str = ""
    listing_title: str = ""
    score: float = 0.0
    price: str = ""
    quantity: str = ""
    content: str = ""
    note: str = ""
    worst: float = 0.0


def counts(rows: Sequence[PreviewRow]) -> dict[str, int]:
    """How many rows each result has."""
    return dict(Counter(row.result for row in rows))


def write_csv(rows: Sequence[PreviewRow], path: Path) -> None:
    """Writes all rows, to be corrected and read again by `midas connect accept --csv`.

    A text that a spreadsheet would take for a formula begins with an apostrophe there. Raises WrongInput where the
    file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([one.name for one in fields(PreviewRow)])
            for row in rows:
                cells = asdict(row).values()
                writer.writerow(
                    [f"'{one}" if str(one).startswith(("=", "+", "-", "@")) else one for one in cells]
                )
    except OSError as failed:
        raise WrongInput(f"The report cannot be written to {path}: {failed.strerror}.") from None


async def make_preview(context: SyncContext) -> list[PreviewRow]:
    """Reads the shop and every listing, and matches them.

    Raises:
        ChannelDown: the list could not be read whole.
        FourSellerError: it could not be read.
    """
    async with context.channel() as client:
        listing = await client.listing()
    if not listing.complete:
        raise ChannelDown(f"4Seller's list is not complete: {listing.reason}. Try again later.")
    products, limit = list(listing.products), context.settings.title_limit
    return await in_thread(build_preview, context.database, products, limit)


def build_preview(database: Database, products: list[Product], title_limit: int) -> list[PreviewRow]:
    """The preview of these listings, the worst change first; reads the database and nothing else."""
    wanted: dict[int, Change] = {}
    unlistable: list[PreviewRow] = []
    for part in chunks(database, title_limit=title_limit):
        for change in part:
            if change.action is Action.QUARANTINED:
                row = PreviewRow("unlistable", change.shop_sku or change.sku or "", note=change.reason or "")
                unlistable.append(row)
            elif change.draft is not None:
                wanted[change.mapping.id] = change
    tied = {change.mapping.fourseller_product_id: change for change in wanted.values()}
    free = [product for product in products if product.id not in tied]
    items = [_sought(change) for change in wanted.values() if change.mapping.fourseller_product_id is None]
    matched = match_listings(items, free)
    pairs = [Match(_sought(tied[one.id]), one, "tied") for one in products if one.id in tied]
    rows = [_pair_row(one, wanted[one.item.mapping_id]) for one in (*matched.pairs, *pairs)]
    rows.sort(key=lambda row: -row.worst)
    only_here = "It would be listed."
    rows += [PreviewRow("only here", one.sku, title=one.title, note=only_here) for one in matched.only_here]
    twice = "Another listing has its SKU: delete one at 4Seller, or match one of them."
    notes = (("only there", matched.only_there, "It stays as it is."), ("doubled", matched.doubled, twice))
    for result, listings, note in notes:
        rows += [
            PreviewRow(result, "", one.id, one.sku or "", listing_title=(one.title or "")[:200], note=note)
            for one in listings
        ]
    return rows + unlistable


def _sought(change: Change) -> Sought:
    assert change.draft is not None
    return Sought(change.mapping.id, change.draft.sku, change.draft.title)


def _pair_row(pair: Match, change: Change) -> PreviewRow:
    """What the first sync would change in a listing; what a policy keeps is no change."""
    draft, product = change.draft, pair.product
    assert draft is not None
    kept = sorted(change.guarded & {"price", "content"})
    price, moved = _moved(product.price, None if "price" in kept else draft.price)
    quantity, fallen = _moved(shown_quantity(product), change.quantity)
    old, new = content(filled(product, draft)), content(draft)
    names = sorted({*old, *new} - {"price"})
    differing = [name for name in names if str(old.get(name)) != str(new.get(name))]
    note = f"The listing's {' and '.join(kept)} is kept by policy." if kept else ""
    return PreviewRow(
        pair.how,
        draft.sku,
        listing_id=product.id,
        listing_sku=product.sku or "",
        title=draft.title,
        listing_title=(product.title or "")[:200],
        score=pair.score,
        price=price,
        quantity=quantity,
        content="" if "content" in kept else ", ".join(differing),
        note="A person has to confirm it." if pair.how == "title" else note,
        worst=round(moved * 100 + (50 if quantity and not change.quantity else min(fallen, 1) * 10), 2),
    )


def _moved(shown: Decimal | int | None, wanted: Decimal | int | None) -> tuple[str, float]:
    """The change as `old -> new`, and its size as a share of the old value; nothing where they agree."""
    if wanted is None or shown == wanted:
        return "", 0.0
    if shown is None:
        return f"unknown -> {wanted}", 0.0
    share = abs(Decimal(wanted) - Decimal(shown)) / max(abs(Decimal(shown)), Decimal(1))
    return f"{shown} -> {wanted}", float(share)
