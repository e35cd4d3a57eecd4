"""`/api/marketplace/sync/*`: syncs a few items at once, anything larger as a Dagster run; reports progress."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from midas_pipelines.errors import WrongInput
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.store.items.mappings import mark_dirty
from midas_pipelines.store.operations.sync_log import RunningSync, newest_sync, running_syncs
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.sync import product_sync
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines.text import counts_of

router = APIRouter(prefix=PREFIX, route_class=GuardedRoute, tags=["sync"])

AT_ONCE = 50  # items done within the call; more become a Dagster run

FINISH_SECONDS = 5.0  # how long a call waits for items that another worker is pushing this moment

Sku = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f\x7f]+$")]
Kind = Literal["products", "inventory"]
Outcome = Literal["done", "partial", "planned"]
_ITEM = mappings.c


class SyncRequest(BaseModel):
    """What to sync, as `midas sync` takes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mode: Literal["full", "incremental"] | None = Field(
        "incremental", description="full: every item. incremental: those that changed."
    )
    skus: Annotated[list[Sku], Field(min_length=1, max_length=10_000)] | None = Field(
        None, description="Only these items, changed or not."
    )
    dry_run: bool = Field(False, description="Report what would be done, and send nothing.")


class Item(BaseModel):
    """The state of an item after the call."""

    sku: str | None
    state: str
    fourseller_product_id: str | None
    quantity: int | None = Field(description="As 4Seller last confirmed.")
    waits: bool = Field(description="Whether it still has changes to push.")
    reason: str | None


class SyncDone(BaseModel):
    """What was done at once."""

    outcome: Outcome
    run_id: str = Field(description="Found again in the log rows.")
    counts: dict[str, int | float]
    items: list[Item]
    plan: list[dict[str, str | int | None]] = Field(description="Only for a dry run.")


class SyncLaunched(BaseModel):
    """The Dagster run that does it."""

    run_id: str
    url: str = Field(description="The run in Dagster's UI.")
    progress: str = Field(description="URL of its progress.")


class Ended(BaseModel):
    """The last sync that ended."""

    run_id: str | None
    scope: str
    started_at: datetime
    outcome: str
    seconds: float | None
    requests: int | None
    counts: dict[str, Any]
    reason: str | None


class SyncState(BaseModel):
    """What is running now, and how the last one ended."""

    running: RunningSync | None
    last: Ended | None


LAUNCHED: dict[int | str, dict[str, Any]] = {
    202: {"model": SyncLaunched, "description": "Too large for a call; launched as a Dagster run."}
}


@router.get("/sync/{kind}", summary="How a sync is going", response_model=SyncState)
def get_sync(request: Request, kind: Kind) -> dict[str, Any]:
    """The running one and the last that ended, from any source."""
    return service_of(request).read(_state, kind)


@router.post(
    "/sync/{kind}", summary="Sync products, or quantities alone", response_model=SyncDone, responses=LAUNCHED
)
async def post_sync(request: Request, kind: Kind, body: SyncRequest) -> object:
    """Up to 50 items are done at once and answered with what happened; more become a Dagster run (202)."""
    service = service_of(request)
    ids = await asyncio.to_thread(_few, service, body)
    if ids is None:
        return await _launch(service, kind, body)
    if body.dry_run:
        return await asyncio.to_thread(_plan_few, service, request.state.request_id, kind, ids)
    return await _sync_few(service, request.state.request_id, kind, body.skus or [], ids)


def _few(service: Service, wanted: SyncRequest) -> list[int] | None:
    """The mappings of the request when they are few enough to sync at once; else None. Raises UnknownSku."""
    if wanted.skus:
        few = len(set(wanted.skus)) <= AT_ONCE
        return product_sync.mapping_ids(service.sync_context("look-up"), wanted.skus) if few else None
    if wanted.mode == "full":
        return None
    query = sa.select(_ITEM.id).where(_ITEM.dirty_since.is_not(None)).limit(AT_ONCE + 1)
    dirty = [row["id"] for row in service.database.rows(query)]
    return dirty if len(dirty) <= AT_ONCE else None


async def _sync_few(service: Service, run_id: str, kind: Kind, skus: list[str], ids: list[int]) -> SyncDone:
    context = service.sync_context(run_id)
    report: product_sync.ProductReport | product_sync.InventoryReport
    if kind == "products":
        report = await product_sync.sync_products(context, skus=skus)
    else:
        if skus:
            await asyncio.to_thread(service.write, lambda connection: mark_dirty(connection, ids))
        some = ids if skus else None
        report = await product_sync.push_inventory(context, ids=some, ignore_delays=bool(skus))
    if report.stopped:
        raise WrongInput(report.stopped)
    items = await _items(service, ids)
    outcome: Outcome = "partial" if any(item.waits for item in items) or report.failed else "done"
    return SyncDone(outcome=outcome, run_id=run_id, counts=counts_of(vars(report)), items=items, plan=[])


def _plan_few(service: Service, run_id: str, kind: Kind, ids: list[int]) -> SyncDone:
    """What a sync of these items would do, or of it what a push of quantities would."""
    plan = make_plan(service.sync_context(run_id), ids=ids)
    if kind == "inventory":
        steps = tuple(step for step in plan.steps if step.action in ("quantity", "update"))
        plan = replace(plan, steps=steps, unlisted=())
    return SyncDone(outcome="planned", run_id=run_id, counts=plan.counts, items=[], plan=plan.rows)


async def _launch(service: Service, kind: Kind, wanted: SyncRequest) -> Response:
    skus, full = wanted.skus or [], wanted.mode == "full"
    job = "incremental_sync"
    ops: dict[str, dict[str, Any]] = {"fourseller_listings": {"skus": skus}}
    if wanted.dry_run:
        job, ops = "plan_sync", {"sync_plan": {"full": full, "skus": skus}}
    elif kind == "inventory" and not skus:
        job, ops = "inventory_push", {"inventory_levels": {}}
    elif full and not skus:
        job, ops = "full_sync", {}
    run_id, url = await asyncio.to_thread(service.orchestrator.launch, job, ops)
    logged_as = "inventory" if job == "inventory_push" else "products"
    progress = f"{PREFIX}/sync/{logged_as}"
    return JSONResponse({"run_id": run_id, "url": url, "progress": progress}, 202, {"Location": progress})


async def _items(service: Service, ids: list[int]) -> list[Item]:
    """The items, once no worker has a claim on them, or after `FINISH_SECONDS`."""
    until = time.monotonic() + FINISH_SECONDS
    shown = _ITEM.acked_quantity.label("quantity"), _ITEM.dirty_since.is_not(None).label("waits")
    query = sa.select(mappings, *shown).where(_ITEM.id.in_(ids)).order_by(_ITEM.id)
    while True:
        rows = await asyncio.to_thread(service.database.rows, query)
        held = any(row["claimed_by"] is not None for row in rows)
        if not held or time.monotonic() > until:
            return [Item.model_validate(row) for row in rows]
        await asyncio.sleep(0.02)


def _state(connection: sa.Connection, kind: Kind) -> dict[str, Any]:
    sync = next((one for one in reversed(running_syncs(connection)) if one.kind == kind), None)
    last = newest_sync(connection, kind)
    if last is not None:
        last["counts"] = counts_of(last["counts"] or {})
    return {"running": sync, "last": last}
