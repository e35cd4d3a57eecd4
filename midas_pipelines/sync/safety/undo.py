"""Puts back what was written, field by field, where 4Seller still shows what was written; lists the rest."""

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
from midas_pipelines.fourseller.errors import CallFailed, NotFound
from midas_pipelines.fourseller.models import Product, ProductDraft
from midas_pipelines.store.items.claims import claim
from midas_pipelines.store.items.mappings import UNTIED, Mapping, mark_dirty, slices
from midas_pipelines.store.items.writes import (
    Listing,
    Written,
    note_undone,
    of_run_or_plan,
    written_by,
)
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.adopt import remove
from midas_pipelines.sync.listings.diff import alike, filled, shown_quantity
from midas_pipelines.sync.listings.pins import CONTENT, LISTED_PIN, pin, with_pins
from midas_pipelines.sync.listings.plan import Planner, content, content_hash, draft_quantity, identity
from midas_pipelines.sync.threads import in_thread

PARTS = {"price": ("price",), "content": CONTENT, "quantity": ("inventory",)}
"""The parts of a listing that make up a field."""


@dataclass
class UndoReport:
    """Listings put back (made again, where they had been removed), and what was left as it is, with the reason."""

    put_back: int = 0
    removed: int = 0  # listings that had been created
    left: list[dict[str, str]] = field(default_factory=list)

    def leave(self, written: Written, what: str, why: str) -> None:
        """Notes a field that stays as it is."""
        self.left.append({"sku": written.sku or "", "field": what, "reason": why})


async def undo_run(context: SyncContext, name: str) -> UndoReport:
    """Undoes a run (by its id, or eight characters of it) or all runs of a plan (by its hash), and pins what it puts
    back, so that the next sync leaves it. Raises WrongInput where none is kept."""
    if len(name) < 8:
        raise WrongInput("Give at least eight characters of the run's id or of the plan's hash.")
    found = context.database.read(written_by, of_run_or_plan(name))
    if not found:
        why = "is kept, or all of it is undone: see MIDAS_KEEP_WRITES_DAYS."
        raise WrongInput(f"Nothing that {name} wrote {why}")
    async with context.channel() as client:
        return await undo_writes(context, client, found, pins=True)


async def undo_writes(
    context: SyncContext, client: FourSeller, written: Iterable[Written], *, pins: bool
) -> UndoReport:
    """Undoes these writes; `pins` keeps it so against the next sync."""
    work = {one.mapping_id: one for one in written}
    undo, limit = _Undo(context, client, pins), asyncio.Semaphore(context.settings.in_flight)

    async def one(mapping: Mapping) -> None:
        async with limit:
            await undo.item(mapping, work[mapping.id])

    async with context.claiming():
        for part in slices(list(work)):  # each claim begins when its work does
            held = await in_thread(_claim, context, part or [])
            for mapping_id in set(part or []) - held.keys():
                why = "It is being pushed, or is no item any more: try again."
                undo.report.leave(work[mapping_id], "all", why)
            await asyncio.gather(*map(one, held.values()))
    return undo.report


def _claim(context: SyncContext, ids: Sequence[int]) -> dict[int, Mapping]:
    lease, worker, most = context.settings.lease_seconds, context.worker, len(ids) or 1
    with context.database.writing() as connection:
        mark_dirty(connection, ids, next_attempt_at=None)
        held = claim(connection, worker=worker, lease_seconds=lease, limit=most, ids=ids, ignore_delays=True)
    return {one.id: one for one in held}


class _Stays(Exception):
    """What stays as it is, a field or "all" or "listing", and why."""


@dataclass
class _Undo:
    context: SyncContext
    client: FourSeller
    pins: bool
    report: UndoReport = field(default_factory=UndoReport)

    async def item(self, mapping: Mapping, written: Written) -> None:
        """Undoes what was written of one claimed item."""
        try:
            if (values := await self._act(mapping, written)) is not None:
                await in_thread(self._record, mapping, written, values)
        except _Stays as stays:
            self.report.leave(written, *stays.args)
        except NotFound:
            self.report.leave(written, "listing", "4Seller no longer has it.")
        except CallFailed as failed:
            self.report.leave(written, "all", str(failed))

    async def _act(self, mapping: Mapping, written: Written) -> dict[str, Any] | None:
        """The values of the mapping once it is undone; None where there was nothing to undo."""
        if written.actions[-1] == "delete":
            return None if written.actions[0] == "create" else await self._list_again(mapping, written)
        if mapping.fourseller_product_id is None:
            raise _Stays("listing", "It was taken off 4Seller since.")
        shown = await self.client.product(mapping.fourseller_product_id)
        if written.actions[0] != "create":
            return await self._put_back(mapping, shown, written)
        if changed := [name for name in ("price", "content") if not _shows(shown, written.after, name)]:
            why = f"Its {' and '.join(changed)} was changed since: delete it at 4Seller."
            raise _Stays("listing", why)
        await remove(self.client, shown.id)
        self.report.removed += 1
        off = {"listing": {"value": None, "held": False}}
        return {**UNTIED, "state": "removed", "sku": None, "pins": off}

    async def _list_again(self, mapping: Mapping, written: Written) -> dict[str, Any]:
        """Creates a listing that had been removed, with as many as the shop has: none where it sells it no more."""
        available = await in_thread(self._available, mapping)
        draft = _draft((written.before or {}) | {"inventory": {"quantity": available or 0}}, mapping)
        if draft is None:
            raise _Stays("listing", "How it was before is not known: list it by a sync.")
        if mapping.fourseller_product_id or await self.client.find_by_sku(draft.sku):
            raise _Stays("listing", "4Seller lists its SKU again already.")
        await in_thread(self._reserve, mapping, draft.sku)
        key = f"midas-undo-{mapping.id}-{mapping.version}"
        made = await self.client.create_product(draft, idempotency_key=key)
        self.report.put_back += 1
        pins = {"listing": LISTED_PIN, "price": pin(made, "price"), "content": pin(made, "content")}
        again = {"fourseller_product_id": made.id, "state": "listed", "creating_since": None}
        return again | _acked(draft) | {"reason": None, "pins": pins}

    def _reserve(self, mapping: Mapping, sku: str) -> None:
        """Notes that it is about to be created, so that a sync looks it up should its answer be lost."""
        try:
            with self.context.database.writing() as connection:
                begun = sa.update(mappings).where(mappings.c.id == mapping.id)
                connection.execute(begun.values(sku=sku, creating_since=utc_now()))
        except sa.exc.IntegrityError:
            raise _Stays("listing", "Another item has its SKU now.") from None

    def _available(self, mapping: Mapping) -> int | None:
        """What the shop may sell of the item now; None where it sells it no more."""
        with self.context.database.reading() as connection:
            planner = Planner(connection, [mapping.key], self.context.settings.title_limit)
            return planner.plan(mapping).quantity

    async def _put_back(self, mapping: Mapping, shown: Product, written: Written) -> dict[str, Any] | None:
        """Writes each field as it was that still shows what was written."""
        if (before := written.before) is None:
            raise _Stays("all", "How it was before is not known.")
        available = await in_thread(self._available, mapping)
        parts = shown.model_dump(mode="json", include={*CONTENT, "sku", "price", "inventory"})
        fields, old = [], before.get("inventory", {}).get("quantity")
        for name in _changed(before, written.after):
            if _same(shown, before, name):
                continue  # it was refused, or somebody put it back
            if not _shows(shown, written.after, name):
                self.report.leave(written, name, "It was changed since.")
            elif name == "quantity" and (old is None or (available is not None and old > available)):
                why = f"The shop has {available} now: quantities follow the shop."
                self.report.leave(written, name, why)
            else:
                fields.append(name)
                parts |= {part: before.get(part) for part in PARTS[name]}
        if not fields:
            return None
        if (draft := _draft(parts, mapping)) is None:
            raise _Stays("all", "How it was before cannot be sent as a whole product.")
        if fields == ["quantity"]:
            level = await self.client.set_quantity(shown.id, draft_quantity(draft), datetime.now(UTC))
            done: dict[str, Any] = {"acked_quantity": level.quantity, "acked_hash": mapping.acked_hash}
            done["pins"] = {}
        else:
            answer = await self.client.update_product(shown.id, draft)
            pins = {name: pin(answer, name) for name in fields if name != "quantity"}
            done = _acked(draft) | {"pins": pins}
        self.report.put_back += 1
        return done

    def _record(self, mapping: Mapping, written: Written, values: dict[str, Any]) -> None:
        added = values.pop("pins")
        if self.pins and added:
            values["pinned_fields"] = with_pins(mapping.pinned_fields, added)
        with self.context.database.writing() as connection:
            connection.execute(sa.update(mappings).where(mappings.c.id == mapping.id).values(values))
            note_undone(connection, written.rows)


def _draft(parts: Listing, mapping: Mapping) -> ProductDraft | None:
    """The whole product to send; None where these parts make none."""
    given = {"sku": mapping.sku} | {name: value for name, value in parts.items() if value is not None}
    given["metadata"] = identity(mapping.key)
    try:
        return ProductDraft.model_validate(given)
    except ValidationError:
        return None


def _acked(draft: ProductDraft) -> dict[str, Any]:
    return {
        "acked_hash": content_hash(draft),
        "acked_price": draft.price,
        "acked_quantity": draft_quantity(draft),
        "observed_hash": None,
    }


def _changed(before: Listing, after: Listing) -> list[str]:
    became = Product.model_validate({**after, "id": "kept"})
    written = {"price": "price" in after, "content": "title" in after, "quantity": True}
    return [name for name in PARTS if written[name] and not _same(became, before, name)]


def _same(shown: Product, listing: Listing, name: str) -> bool:
    kept = Product.model_validate({**listing, "id": "kept"})
    if name == "price":
        return shown.price == kept.price
    if name == "quantity":
        return shown_quantity(shown) == shown_quantity(kept)
    ours, theirs = content(kept), content(shown)
    return all(ours.get(part) == theirs.get(part) for part in {*ours, *theirs} - {"price", "sku"})


def _shows(shown: Product, after: Listing, name: str) -> bool:
    """Whether 4Seller shows the field as it was written."""
    if _same(shown, after, name):
        return True
    draft = ProductDraft.model_validate(after) if name == "content" else None
    return draft is not None and alike(draft, filled(shown, draft))
