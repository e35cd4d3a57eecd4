"""Confirms matches: ties an item to a listing, keeping what a policy says, and accepts the first connection."""

from __future__ import annotations

import csv
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
    _require_once(pairs)
    ids = mapping_ids(context, [sku for sku, _ in pairs]) if pairs else []
    limit = context.settings.title_limit
    with context.database.writing() as connection:
        rows = [
            Mapping(*row) for row in connection.execute(sa.select(*COLUMNS).where(mappings.c.id.in_(ids)))
        ]
        planner = Planner(connection, [row.key for row in rows], limit)
        by_sku: dict[str | None, list[Mapping]] = {}
        for row in rows:
            item = planner.item(row)
            by_sku.setdefault(item.sku if item is not None else row.sku, []).append(row)
        tied = 0
        for sku, product_id in pairs:
            product = products.get(product_id)
            if product is None:
                raise WrongInput(f"4Seller has no listing {product_id}: see the ids in `midas connect`.")
            tied += _tie(connection, sku, by_sku.get(sku, []), product, planner)
        if accept:
            note_connected(connection)
    return tied


def _require_once(pairs: Sequence[Pair]) -> None:
    for place, what in ((0, "SKU"), (1, "listing")):
        named = [pair[place] for pair in pairs]
        twice = (
            next((one for one in named if named.count(one) > 1), None)
            if len(set(named)) < len(named)
            else None
        )
        if twice is not None:
            raise WrongInput(f"The {what} {twice} is matched twice: keep one of them. Nothing was changed.")


def _tie(
    connection: sa.Connection, sku: str, rows: list[Mapping], product: Product, planner: Planner
) -> bool:
    if len(rows) != 1:
        raise WrongInput(f"{len(rows)} items of the shop have the SKU {sku}: give each one of its own.")
    (row,) = rows
    if row.fourseller_product_id == product.id:
        return False
    other = connection.scalar(
        sa.select(mappings.c.sku).where(
            mappings.c.fourseller_product_id == product.id, mappings.c.id != row.id
        )
    )
    if row.fourseller_product_id is not None or other is not None:
        raise WrongInput(
            f"{sku if other is None else other} is tied to {row.fourseller_product_id or product.id} already. "
            "Nothing was changed."
        )
    values: dict[str, Any] = {"fourseller_product_id": product.id, "sku": sku, "creating_since": None}
    pins = kept_by_policy(planner.plan(row), product)
    free = sa.update(mappings).where(mappings.c.id == row.id)
    connection.execute(free.values(values | CHANGED | {"pinned_fields": pins, "next_attempt_at": None}))
    return True


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
