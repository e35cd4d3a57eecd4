"""Confirms matches: ties an item to a listing, keeping what a policy says, and accepts the first connection."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.items.mappings import CHANGED, COLUMNS, Mapping
from midas_pipelines.store.operations.cursors import note_connected
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.adopt import kept_by_policy
from midas_pipelines.sync.listings.plan import Planner
from midas_pipelines.sync.listings.scan import CHUNK
from midas_pipelines.sync.product_sync import mapping_ids
from midas_pipelines.sync.threads import in_thread

Pair = tuple[str, str]
"""A SKU of the shop, and the id of a listing."""


async def confirm_matches(context: SyncContext, pairs: Sequence[Pair], *, accept: bool) -> int:
    """Ties each item to its listing; returns how many were tied. Writes nothing to 4Seller.

    Args:
        context: settings and database.
        pairs: what a person confirmed.
        accept: whether the first sync may run from now on.

    Raises:
        WrongInput: a SKU or a listing does not exist, or one of them is tied already or named twice; nothing was changed.
        FourSellerError: the listings could not be read.
    """
    products: dict[str, Product] = {}
    if pairs:
        async with context.channel() as client:
            if len(pairs) == 1:
                products = {pairs[0][1]: await client.product(pairs[0][1])}
            else:
                products = {one.id: one for one in (await client.listing()).products}
    return await in_thread(_tie_all, context, pairs, products, accept)


def _tie_all(context: SyncContext, pairs: Sequence[Pair], products: dict[str, Product], accept: bool) -> int:
    for place, what in enumerate(("SKU", "listing")):
        most = Counter(pair[place] for pair in pairs).most_common(1)
        if most and most[0][1] > 1:
            raise WrongInput(
                f"The {what} {most[0][0]} is matched twice: keep one of them. Nothing was changed."
            )
    parts = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    ids = [mapping_ids(context, [sku for sku, _ in part]) for part in parts]
    with context.database.writing() as connection:
        tied = 0
        for part, found in zip(parts, ids, strict=True):
            tied += _tie_part(connection, context.settings.title_limit, part, found, products)
        if accept:
            note_connected(connection)
    return tied


def _tie_part(
    connection: sa.Connection,
    title_limit: int,
    pairs: Sequence[Pair],
    ids: list[int],
    products: dict[str, Product],
) -> int:
    rows = [Mapping(*row) for row in connection.execute(sa.select(*COLUMNS).where(mappings.c.id.in_(ids)))]
    planner = Planner(connection, [row.key for row in rows], title_limit)
    by_sku: dict[str | None, list[Mapping]] = {}
    for row in rows:
        item = planner.item(row)
        by_sku.setdefault(item.sku if item is not None else row.sku, []).append(row)
    product_id = mappings.c.fourseller_product_id
    named = sa.select(product_id, mappings.c.sku).where(product_id.in_([listing for _, listing in pairs]))
    taken = dict(connection.execute(named).tuples().all())
    new = []
    for sku, listing in pairs:
        if listing not in products:
            raise WrongInput(f"4Seller has no listing {listing}: see the ids in `midas connect`.")
        found = by_sku.get(sku, [])
        if len(found) != 1:
            raise WrongInput(f"{len(found)} items of the shop have the SKU {sku}: give each one of its own.")
        (row,) = found
        if row.fourseller_product_id == listing:
            continue
        if row.fourseller_product_id is not None or listing in taken:
            tied = f"{taken.get(listing) or sku} is tied to {row.fourseller_product_id or listing} already."
            raise WrongInput(f"{tied} Nothing was changed.")
        pins = kept_by_policy(planner.plan(row), products[listing])
        new.append({"row": row.id, "new_listing": listing, "new_sku": sku, "new_pins": pins})
    if new:
        values: dict[str, Any] = {
            "fourseller_product_id": sa.bindparam("new_listing"),
            "sku": sa.bindparam("new_sku"),
            "pinned_fields": sa.bindparam("new_pins"),
            "creating_since": None,
            "next_attempt_at": None,
        }
        free = sa.update(mappings).where(mappings.c.id == sa.bindparam("row"))
        connection.execute(free.values(values | CHANGED), new)
    return len(new)


def read_pairs(path: Path, results: Iterable[str]) -> list[Pair]:
    """The pairs of a CSV with the columns sku and listing_id: of the preview, the rows with these results.

    Raises WrongInput for a file that cannot be read, or lacks a column.
    """
    wanted = set(results)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"sku", "listing_id"} <= set(reader.fieldnames or ()):
                raise WrongInput(f"{path.name} has no columns sku and listing_id.")
            rows = [row for row in reader if row.get("result") in (None, "") or row["result"] in wanted]
    except (OSError, UnicodeDecodeError, csv.Error) as failed:
        raise WrongInput(f"{path.name} cannot be read as CSV: {type(failed).__name__}.") from None
    cells = [((row["sku"] or "").strip(), (row["listing_id"] or "").strip()) for row in rows]
    return [(sku.removeprefix("'"), listing.removeprefix("'")) for sku, listing in cells if sku and listing]
