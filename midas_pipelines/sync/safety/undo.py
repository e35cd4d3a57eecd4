"""Puts back what a run wrote, field by field, where 4Seller still shows what it wrote; lists the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError, NotFound
from midas_pipelines.fourseller.models import Product, ProductDraft
from midas_pipelines.store.items.claims import FORGOTTEN, Mapping, claim
from midas_pipelines.store.items.mappings import mark_dirty
from midas_pipelines.store.items.written import Listing, Written, find_runs, note_undone, written_by
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.adopt import remove
from midas_pipelines.sync.listings.content import (
    CONTENT,
    content,
    content_hash,
    draft_quantity,
    identity,
    pin,
    with_pins,
)
from midas_pipelines.sync.listings.diff import alike, filled, shown_quantity
from midas_pipelines.sync.listings.plan import Planner
from midas_pipelines.sync.threads import in_thread


@dataclass
class UndoReport:
    """Items put back, and what was left as it is, with the reason."""

    put_back: int = 0
    removed: int = 0  # listings that the run had created
    left: list[dict[str, str]] = field(default_factory=list)

    def leave(self, written: Written, what: str, why: str) -> None:
        """Notes a field that stays as it is."""
        self.left.append({"sku": written.sku or "", "field": what, "reason": why})


@dataclass(frozen=True)
class Restored:
    """The listing as it is to be, and which fields of it are as before."""

    draft: ProductDraft
    fields: tuple[str, ...]


async def undo_run(context: SyncContext, name: str) -> UndoReport:
    """Undoes a run, or all runs of a plan, and pins price and content, so that the next sync leaves them.

    Args:
        context: settings and database.
        name: a run's id or at least eight characters of its beginning, or a plan's hash.

    Raises:
        WrongInput: nothing of it is kept, or several runs begin so.
    """
    if len(name) < 8:
        raise WrongInput("Give at least eight characters of the run's id or of the plan's hash.")
    with context.database.reading() as connection:
        runs = find_runs(connection, name)
    if not runs:
        raise WrongInput(f"Nothing is kept of what {name} wrote: see MIDAS_KEEP_WRITES_DAYS.")
    async with context.channel() as client:
        return await undo_writes(context, client, runs, pins=True)


async def undo_writes(
    context: SyncContext,
    client: FourSeller,
    runs: Sequence[str],
    *,
    pins: bool,
    ids: Iterable[int] | None = None,
) -> UndoReport:
    """Undoes what these runs wrote, of these mappings or of all; `pins` keeps it so against the next sync."""
    report = UndoReport()
    with context.database.reading() as connection:
        found = written_by(connection, runs)
    wanted = None if ids is None else set(ids)
    work = {one.mapping_id: one for one in found if wanted is None or one.mapping_id in wanted}
    await in_thread(context.heartbeat.begin)
    try:
        held = await in_thread(_claim, context, list(work))
        for mapping_id in work.keys() - held.keys():
            report.leave(work[mapping_id], "all", "It is being pushed, or is no item any more: try again.")
        limit = asyncio.Semaphore(context.settings.in_flight)

        async def one(mapping: Mapping) -> None:
            async with limit:
                await _undo_item(context, client, mapping, work[mapping.id], runs, pins, report)

        await asyncio.gather(*(one(mapping) for mapping in held.values()))
    finally:
        await in_thread(_release, context)
    return report


def _claim(context: SyncContext, ids: list[int]) -> dict[int, Mapping]:
    with context.database.writing() as connection:
        mark_dirty(connection, ids, next_attempt_at=None)
        lease = context.settings.lease_seconds
        claimed = claim(
            connection,
            worker=context.worker,
            lease_seconds=lease,
            limit=len(ids) or 1,
            ids=ids,
            ignore_delays=True,
        )
    return {one.id: one for one in claimed}


def _release(context: SyncContext) -> None:
    with context.database.writing() as connection:
        mine = sa.update(mappings).where(mappings.c.claimed_by == context.worker)
        connection.execute(mine.values(claimed_by=None, claimed_until=None))
    context.heartbeat.end()


async def _undo_item(
    context: SyncContext,
    client: FourSeller,
    mapping: Mapping,
    written: Written,
    runs: Sequence[str],
    pins: bool,
    report: UndoReport,
) -> None:
    if written.actions[-1] == "delete" or mapping.fourseller_product_id is None:
        report.leave(
            written,
            "listing",
            "It was taken off 4Seller: put it on sale in the shop, and it is listed again.",
        )
        return
    try:
        shown = await client.product(mapping.fourseller_product_id)
        if written.actions[0] == "create":
            values = await _remove_created(client, shown, written, report)
        else:
            available = await in_thread(_available, context, mapping)
            values = await _put_back(client, mapping, shown, written, available, report)
    except BadCredentials:
        raise
    except NotFound:
        report.leave(written, "listing", "4Seller no longer has it.")
        return
    except FourSellerError as failed:
        report.leave(written, "all", str(failed))
        return
    if values is not None:
        await in_thread(_record, context, mapping, values, runs, pins)


def _available(context: SyncContext, mapping: Mapping) -> int | None:
    """What the shop may sell of the item now; None where it sells it no more."""
    with context.database.reading() as connection:
        planner = Planner(connection, [mapping.key], context.settings.title_limit)
        return planner.plan(mapping).quantity


async def _remove_created(
    client: FourSeller, shown: Product, written: Written, report: UndoReport
) -> dict[str, Any] | None:
    if changed := [name for name in ("price", "content") if not _shows(shown, written.after, name)]:
        report.leave(
            written, "listing", f"Its {' and '.join(changed)} was changed since: delete it at 4Seller."
        )
        return None
    await remove(client, shown.id)
    report.removed += 1
    pins = {"listing": {"value": None, "held": False}}
    return {**FORGOTTEN, "state": "removed", "sku": None, "pins": pins}


async def _put_back(
    client: FourSeller,
    mapping: Mapping,
    shown: Product,
    written: Written,
    available: int | None,
    report: UndoReport,
) -> dict[str, Any] | None:
    restored = _restored(mapping, shown, written, available, report)
    if restored is None:
        return None
    if restored.fields == ("quantity",):
        level = await client.set_quantity(shown.id, draft_quantity(restored.draft), datetime.now(UTC))
        report.put_back += 1
        return {"acked_quantity": level.quantity, "acked_hash": mapping.acked_hash, "pins": {}}
    answer = await client.update_product(shown.id, restored.draft)
    report.put_back += 1
    return {
        "acked_hash": content_hash(restored.draft),
        "acked_price": restored.draft.price,
        "acked_quantity": draft_quantity(restored.draft),
        "observed_hash": None,
        "pins": {name: pin(answer, name) for name in restored.fields if name in ("price", "content")},
    }


def _restored(
    mapping: Mapping, shown: Product, written: Written, available: int | None, report: UndoReport
) -> Restored | None:
    """The listing with each field put back that still shows what was written; None where there is none."""
    before = written.before
    if before is None:
        report.leave(written, "all", "How it was before is not known.")
        return None
    parts = _as_draft(shown, mapping)
    fields = []
    for name in _changed(before, written.after):
        old = before.get("inventory", {}).get("quantity") if name == "quantity" else None
        if not _shows(shown, written.after, name):
            report.leave(written, name, "It was changed since.")
        elif name == "quantity" and (old is None or (available is not None and old > available)):
            report.leave(written, name, f"The shop has {available} now: quantities follow the shop.")
        else:
            fields.append(name)
            parts |= {part: before.get(part) for part in _parts(name)}
    if not fields:
        return None
    try:
        given = {name: value for name, value in parts.items() if value is not None}
        return Restored(ProductDraft.model_validate(given), tuple(fields))
    except ValidationError:
        report.leave(written, "all", "How it was before cannot be sent as a whole product.")
        return None


def _as_draft(shown: Product, mapping: Mapping) -> dict[str, Any]:
    parts = shown.model_dump(mode="json", include={*CONTENT, "sku", "price", "inventory"})
    return {**parts, "sku": shown.sku or mapping.sku, "metadata": identity(mapping.key)}


def _parts(name: str) -> tuple[str, ...]:
    return CONTENT if name == "content" else ("inventory",) if name == "quantity" else (name,)


def _changed(before: Listing, after: Listing) -> list[str]:
    """The fields that the run changed."""
    was, became = _product(before), _product(after)
    found = []
    if "price" in after and was.price != became.price:
        found.append("price")
    if "title" in after and _words(was) != _words(became):
        found.append("content")
    if shown_quantity(was) != shown_quantity(became):
        found.append("quantity")
    return found


def _shows(shown: Product, after: Listing, name: str) -> bool:
    """Whether 4Seller shows the field as it was written."""
    wrote = _product(after)
    if name == "price":
        return shown.price == wrote.price
    if name == "quantity":
        return shown_quantity(shown) == shown_quantity(wrote)
    draft = ProductDraft.model_validate(after)
    return _words(shown) == _words(wrote) or alike(draft, filled(shown, draft))


def _product(listing: Listing) -> Product:
    return Product.model_validate({**listing, "id": "kept"})


def _words(product: Product) -> dict[str, Any]:
    return {name: value for name, value in content(product).items() if name not in ("price", "sku")}


def _record(
    context: SyncContext, mapping: Mapping, values: dict[str, Any], runs: Sequence[str], pins: bool
) -> None:
    added = values.pop("pins")
    if pins and added:
        values["pinned_fields"] = with_pins(mapping.pinned_fields, added)
    with context.database.writing() as connection:
        connection.execute(sa.update(mappings).where(mappings.c.id == mapping.id).values(values))
        note_undone(connection, runs, [mapping.id])
