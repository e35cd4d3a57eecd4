"""The console's pages as JSON, and the audit log, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from midas_pipelines.console_pages import in_console, page_of
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.service import service_of
from midas_pipelines.notify.alerts import recent_alerts
from midas_pipelines.store.gateway.audit import read_audit
from midas_pipelines.store.items.conflicts import list_conflicts
from midas_pipelines.store.items.listing import STATES, list_items
from midas_pipelines.store.operations.backlog import needs_a_person
from midas_pipelines.store.stock.ledger import top_movers
from midas_pipelines.store.stock.rule_changes import list_rules
from midas_pipelines.sync.explain import explain_item
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines.sync.operations.stock_levels import soonest_low
from midas_pipelines.sync.reconcile.conflicts import resolve
from midas_pipelines.sync.threads import in_own_loop

LARGEST_ID = 2**63 - 1
After = Annotated[int, Query(ge=0, le=LARGEST_ID, description="The id of the last row of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100)]
Sku = Annotated[str, Query(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
State = Literal["waiting", "differing", "failing", "pinned", "excluded", "removed", "low"]
assert set(State.__args__) == set(STATES)  # type: ignore[attr-defined]
Before = Annotated[int | None, Query(ge=1, le=LARGEST_ID, description="`next` of the page before.")]
"""The id of the last row of the page before, of rows that are listed the newest first: new ones shift no page."""

router = APIRouter(prefix=PREFIX, route_class=GuardedRoute, tags=["console"])


class Rows(BaseModel):
    """Rows, as the console shows them."""

    data: list[dict[str, Any]]


class PageOfRows(Rows):
    """Rows, the newest first."""

    next: int | None = Field(description="Give it as `before` for the next page; null on the last.")


class Stock(Rows):
    """What runs out first, and the `movers` that sold most."""

    movers: list[dict[str, Any]]


class ConflictDecision(BaseModel):
    """Whose value counts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    take: Literal["shop", "marketplace"] = Field(description="shop: pushed again. marketplace: kept.")


def older(rows: Sequence[Mapping[str, Any]], limit: int) -> int | None:
    """The id behind which a list goes on; None where it ends with these rows."""
    return rows[-1]["id"] if len(rows) == limit else None


@router.get("/audit", summary="Who changed what", response_model=PageOfRows)
def get_audit(request: Request, limit: Limit = 50, before: Before = None) -> dict[str, Any]:
    """Every call that changed something, and every change at the command line: when, by whom, from where."""
    rows = service_of(request).read(read_audit, before=before, limit=limit)
    return {"data": rows, "next": older(rows, limit)}


@router.get("/exceptions", summary="What needs a person", response_model=Rows)
def get_exceptions(request: Request) -> dict[str, Any]:
    """Each cause with its count and the age of the oldest, the worst first."""
    found = service_of(request).read(needs_a_person)
    return {"data": [asdict(one) | {"title": one.title} for one in found]}


@router.get("/items", summary="List items", response_model=Rows)
def get_items(
    request: Request, q: Text = "", state: State | None = None, after: After = 0, limit: Limit = 50
) -> dict[str, Any]:
    """Items by words or state: what the shop has, what 4Seller confirmed, what it showed last."""
    return {"data": service_of(request).read(list_items, text=q, state=state, after=after, limit=limit)}


@router.get("/explain", summary="Explain an item", response_model=dict[str, Any])
def get_explanation(request: Request, sku: Sku) -> Any:
    """All facts behind what 4Seller shows of one item."""
    service = service_of(request)
    return explain_item(service.database, sku, service.settings.title_limit)


@router.get("/conflicts", summary="List open conflicts", response_model=Rows)
def get_conflicts(
    request: Request, orphans: bool = False, after: After = 0, limit: Limit = 50
) -> dict[str, Any]:
    """Conflicts of items, or products on 4Seller that are no item; the oldest first."""
    return {"data": service_of(request).read(list_conflicts, orphans=orphans, after=after, limit=limit)}


@router.post("/conflicts/{conflict_id}", summary="Resolve a conflict", response_model=dict[str, Any])
async def post_conflict(
    request: Request, conflict_id: Annotated[int, Path(ge=1, le=LARGEST_ID)], body: ConflictDecision
) -> Any:
    """Takes the shop's value or the marketplace's."""
    context = service_of(request).sync_context(request.state.request_id)
    by: str = request.state.caller.name
    return await in_own_loop(lambda: resolve(context, conflict_id, body.take, by))


@router.get("/plan", summary="What a sync would send", response_model=dict[str, Any])
def get_plan(request: Request) -> Any:
    """The plan of the items that changed, with its hash; nothing is sent."""
    plan = make_plan(service_of(request).sync_context("plan"), dirty_only=True)
    return {"hash": plan.hash, "made_at": plan.made_at, "steps": [asdict(step) for step in plan.steps]}


@router.get("/rules", summary="List rules", response_model=Rows)
def get_rules(request: Request) -> dict[str, Any]:
    """Every rule with its scope, the widest first."""
    return {"data": service_of(request).read(list_rules)}


@router.get("/stock", summary="What runs out first, and what sells most", response_model=Stock)
def get_stock(
    request: Request, days: Annotated[int, Query(ge=1, le=365)] = 7, limit: Limit = 50
) -> dict[str, Any]:
    """By the sales of four weeks: days of cover and what to order; and the items that sold most in the last days."""
    service = service_of(request)
    rows = service.read(soonest_low, service.settings, limit)
    return {"data": rows, "movers": top_movers(service.database, days, limit)}


@router.get("/alerts", summary="List alerts", response_model=Rows)
def get_alerts(request: Request, everything: bool = False, limit: Limit = 50) -> dict[str, Any]:
    """The newest open alerts, or all of them; a text names the console's page where it is resolved, a path of this server
    where MIDAS_CONSOLE_URL is not set."""
    service = service_of(request)
    found, _ = service.read(recent_alerts, only_open=not everything, limit=limit)
    root = service.settings.console_url or "/"
    texts = [in_console(row["text"], root, page=page_of(row["kind"], row["subject"])) for row in found]
    return {"data": [row | {"text": text} for row, text in zip(found, texts, strict=True)]}
