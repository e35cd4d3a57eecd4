"""Takes off 4Seller what carries our mark and should not be there: second products of an item, and those of what the shop
no longer sells. Each is set to quantity 0, deleted again, and reported to staff.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import CallFailed, NotFound
from midas_pipelines.fourseller.models import Product
from midas_pipelines.notify.alerts import match_alerts
from midas_pipelines.store.items.acknowledge import PREVIEW
from midas_pipelines.store.items.conflicts import item_subject, left_alone, orphan_subject, record_conflicts
from midas_pipelines.store.items.mappings import CHUNK, COLUMNS, UNCLAIMED, Mapping, mark_dirty
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.writing import any_of
from midas_pipelines.sync.listings.adopt import owner, remove
from midas_pipelines.sync.listings.brake import exceeds
from midas_pipelines.sync.listings.plan import Action, Change, Planner
from midas_pipelines.sync.listings.scan import given_up
from midas_pipelines.sync.reconcile.apply import ReadBack
from midas_pipelines.sync.threads import in_thread

ALERT = "stray_product"
REMOVED = "It was set to 0 and deleted again."
TWIN, LEFT = "its item has another product", "the shop no longer sells its item"


async def judge_untied(client: FourSeller, judging: ReadBack) -> None:
    """Removes or records the products that are tied to no item, after all items were judged. Raises BadCredentials."""
    if judging.shards is None:  # whose a product is, some of the items alone cannot tell
        await _remove_strays(client, judging)
        await in_thread(_record_orphans, judging)


async def _remove_strays(client: FourSeller, judging: ReadBack) -> None:
    """Removes the strays among the products that are tied to no item, also from the listing; they wait for a person
    where the brake would. Raises BadCredentials."""
    strays = await in_thread(_find, judging)
    context, many, texts = judging.context, len(strays), {}
    words = {
        product.id: f"{product.sku or '(no SKU)'}, product {product.id} on 4Seller: {why}."
        for product, why in strays
    }
    if many >= context.settings.brake_items and await in_thread(
        exceeds, context.database, many, context.settings.brake_percent
    ):
        held = f"There are {many} of them, so none was removed: decide each with `midas conflicts list`."
        texts = {orphan_subject(product_id): f"{text} {held}" for product_id, text in words.items()}
        words = {}
    ends = await asyncio.gather(*(_remove(client, product_id) for product_id in words))
    for (product_id, text), end in zip(words.items(), ends, strict=True):
        if end is not None:
            texts[orphan_subject(product_id)] = f"{text} {end}"
        if end in (None, REMOVED):
            judging.listing.products.remove(product_id)
    await in_thread(_report, judging, texts)


async def _remove(client: FourSeller, product_id: str) -> str | None:
    """What came of it, in a sentence; None where it is gone and the list only lags behind."""
    try:
        await client.product(product_id)
        await client.set_quantity(product_id, 0, datetime.now(UTC))
        await remove(client, product_id)
    except NotFound:
        return None
    except CallFailed as failed:
        return str(failed)
    return REMOVED


def _find(judging: ReadBack) -> list[tuple[Product, str]]:
    """Each product of ours that should be gone, and why."""
    left = iter(judging.listing.products.untied())
    return [stray for part in iter(lambda: list(islice(left, CHUNK)), []) for stray in _among(judging, part)]


def _among(judging: ReadBack, untied: list[Product]) -> list[tuple[Product, str]]:
    context = judging.context
    marked = [(whose, one) for one in untied if (whose := owner(one)) is not None]
    if not marked:
        return []
    with context.database.reading() as connection:
        tied = sa.select(mappings.c.fourseller_product_id)
        tied = tied.where(mappings.c.fourseller_product_id.in_([one.id for _, one in marked]))
        alone = left_alone(connection, [orphan_subject(one.id) for _, one in marked])
        passed = {*connection.scalars(tied)}
        changes, busy = _changes(connection, {whose[0] for whose, _ in marked}, context.settings.title_limit)
    found = []
    for whose, product in marked:
        why = _why(changes.get(whose), judging)
        if why and whose not in busy and product.id not in passed and orphan_subject(product.id) not in alone:
            found.append((product, why))
    return found


def _changes(
    connection: sa.Connection, product_ids: set[int], title_limit: int
) -> tuple[dict[ItemKey, Change], set[ItemKey]]:
    """What the items of these products need, and which of them are being pushed or in doubt."""
    which = any_of(connection, mappings.c.product_id, product_ids)
    rows = connection.execute(sa.select(*COLUMNS, ~UNCLAIMED).where(which)).all()
    found = [Mapping(*row[:-1]) for row in rows]
    busy = {one.key for one, row in zip(found, rows, strict=True) if row[-1] or one.in_doubt}
    planner = Planner(connection, [one.key for one in found], title_limit)
    return {one.key: planner.plan(one) for one in found}, busy


def _why(change: Change | None, judging: ReadBack) -> str | None:
    """Why the product should be gone; None where it may be adopted yet, or a person has decided about it."""
    if change is None:
        return LEFT
    mapping = change.mapping
    if mapping.fourseller_product_id in judging.listing.products:
        return TWIN
    off = change.action in (Action.DELETE, Action.NOTHING) and change.draft is None and not change.aside
    return LEFT if off and "listing" not in (mapping.pinned_fields or {}) else None


def _report(judging: ReadBack, texts: dict[str, str]) -> None:
    texts |= {item_subject(row.id): f"{row.sku}: {LEFT}. {row.reason}" for row in judging.staying}
    with judging.context.database.writing() as connection:
        mark_dirty(connection, [row.id for row in judging.staying if given_up(row)])
        known = None if judging.listing.complete else ()  # what a list that was cut lacks may be there
        match_alerts(connection, kind=ALERT, texts=texts, known=known)


def _record_orphans(judging: ReadBack) -> None:
    """Records the products that are no item's, which only a person's word deletes."""
    left = iter(judging.listing.products.untied())
    while orphans := list(islice(left, CHUNK)):
        with judging.context.database.writing() as connection:
            alone = left_alone(connection, [orphan_subject(one.id) for one in orphans])
            wanted = [one for one in orphans if orphan_subject(one.id) not in alone]
            record_conflicts(connection, [_orphan_row(judging, one) for one in wanted])
        judging.report.orphans += len(wanted)
        judging.report.orphan_rows += [
            {"sku": one.sku or "", "4Seller": one.id, "title": one.title or ""}
            for one in wanted[: PREVIEW - len(judging.report.orphan_rows)]
        ]


def _orphan_row(judging: ReadBack, product: Product) -> dict[str, Any]:
    return {
        "subject": orphan_subject(product.id),
        "mapping_id": None,
        "sku": (product.sku or "")[:255] or None,
        "fourseller_product_id": product.id,
        "field": "unknown",
        "shop_value": "no item",
        "fourseller_value": (product.title or "")[:200],
        "policy": "manual",
        "delta": None,
        "run_id": judging.context.run_id,
    }
