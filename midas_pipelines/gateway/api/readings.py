"""What the gateway reports: probes, metrics, the status of all parts, the audit log, and the console's pages as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from midas_pipelines.console_pages import in_api
from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.lib.timetable import entry, is_on, next_run
from midas_pipelines.notify.alerts import recent_alerts
from midas_pipelines.store.gateway.audit import read_audit
from midas_pipelines.store.items.conflicts import list_conflicts
from midas_pipelines.store.items.listing import STATES, list_items
from midas_pipelines.store.operations.backlog import needs_a_person, overview
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.schema.version import require_columns, require_upgraded
from midas_pipelines.store.schema.version import version as database_version
from midas_pipelines.store.stock.ledger import top_movers
from midas_pipelines.store.stock.rule_changes import list_rules
from midas_pipelines.sync.explain import explain_item
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines.sync.operations.stock_levels import soonest_low
from midas_pipelines.sync.reconcile.conflicts import resolve
from midas_pipelines.sync.threads import in_own_loop
from midas_pipelines.workflows import WORKFLOWS

PACKAGES = ("midas-pipelines", "dagster", "fastapi")
READY_SECONDS = 3.0
"""What a probe waits for the database."""

LARGEST_ID = 2**63 - 1
After = Annotated[int, Query(ge=0, le=LARGEST_ID, description="The id of the last row of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100)]
Sku = Annotated[str, Query(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
State = Literal["waiting", "differing", "failing", "pinned", "excluded", "removed", "low"]
assert set(State.__args__) == set(STATES)  # type: ignore[attr-defined]
Cursor = Annotated[str | None, Query(pattern=r"^b[0-9]{1,18}$", description="`next` of the page before.")]
"""Names the last row of the page before, so that new rows shift no page."""

router = APIRouter(route_class=GuardedRoute, tags=["status"])
pages = APIRouter(prefix=PREFIX, route_class=GuardedRoute, tags=["console"])


class BacklogReport(BaseModel):
    """A backlog and its age."""

    waiting: int
    oldest: datetime | None
    oldest_seconds: float
    quarantined: int


class WorkflowStatus(BaseModel):
    """One workflow: how it last went, and when Dagster is due to run it."""

    name: str
    last_started_at: datetime | None
    last_outcome: str | None
    last_seconds: float | None
    next_at: datetime | None = Field(description="Null while schedules are not switched on.")


class Channel(BaseModel):
    """A sales channel."""

    name: str
    listed: int = Field(description="Items it lists.")
    healthy: bool
    trouble: str | None
    failed_calls_last_day: int


class StatusReport(BaseModel):
    """The status of all parts."""

    channels: list[Channel]
    items: BacklogReport
    webhooks: BacklogReport
    orders: int = Field(description="Imported in the last 24 hours.")
    order_exceptions: int
    needs_a_person: dict[str, int] = Field(
        description="How many of each cause: conflicts, oversold and unmapped lines, low stock, alerts and more."
    )
    consistency: float | None = Field(
        description="The share of items shown as the shop has them, last read back."
    )
    consistency_at: datetime | None
    workflows: list[WorkflowStatus]
    versions: dict[str, str]
    worker: str = Field(description="running, stopped, or elsewhere")
    up_since: datetime


class AuditRow(BaseModel):
    """One request or its answer, a command, or who was not let in."""

    at: datetime
    event: str
    actor: str
    role: str | None
    action: str
    target: str | None
    detail: dict[str, Any] | None
    status: int | None
    remote: str | None
    request_id: str | None


class AuditPage(BaseModel):
    """The audit log, the newest first."""

    data: list[AuditRow]
    next: str | None


class Rows(BaseModel):
    """Rows, as the console shows them."""

    data: list[dict[str, Any]]


class Stock(Rows):
    """What runs out first, and the `movers` that sold most."""

    movers: list[dict[str, Any]]


class ConflictDecision(BaseModel):
    """Whose value counts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    take: Literal["shop", "marketplace"] = Field(description="shop: pushed again. marketplace: kept.")


def decode_cursor(cursor: str | None) -> int | None:
    """The id that the page starts before."""
    return None if cursor is None else int(cursor.removeprefix("b"))


def page_of_rows(rows: Sequence[Mapping[str, Any]], limit: int) -> dict[str, Any]:
    """A page with the cursor behind it, which is None on the last."""
    return {"data": rows, "next": f"b{rows[-1]['id']}" if len(rows) == limit else None}


@router.get("/healthz", summary="Does the process work?", response_model=dict[str, str])
async def healthz(request: Request) -> dict[str, str]:
    """503 when a task of this process has ended, is stuck or keeps failing: then restart it."""
    problem = service_of(request).supervisor.problem()
    if problem is not None:
        raise CallRefused(503, problem)
    return {"status": "alive"}


@router.get("/readyz", summary="Can it do its work?", response_model=dict[str, str])
async def readyz(request: Request) -> dict[str, str]:
    """503 while the database does not answer or is not prepared, or a task of this process does not work."""
    service, problem = service_of(request), None
    try:
        async with asyncio.timeout(READY_SECONDS):
            await service.probe(require_upgraded)
            await service.probe(require_columns)
            problem = service.supervisor.problem()
    except TimeoutError:
        problem = "The database does not answer."
    if problem is not None:
        raise CallRefused(503, problem, {"Retry-After": "5"})
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="For Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Counters, histograms of latency, backlogs."""
    return Response(generate_latest(service_of(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get(f"{PREFIX}/status", summary="Status of all parts", response_model=StatusReport)
def get_status(request: Request) -> dict[str, Any]:
    """Channels, workflows, backlogs and their age, consistency, 4Seller's health, versions."""
    service, now = service_of(request), datetime.now(UTC)
    seen = overview(service.database)
    with service.database.reading() as connection:
        waiting = {one.cause: one.count for one in needs_a_person(connection)}
    trouble = service.worker.trouble if service.worker is not None else None
    sold = sum(count for state, count in seen.items.items() if state != "removed")
    works = "running" if service.supervisor.problem() is None else "stopped"

    def channel(name: str, listed: int, trouble: str | None, failed: int) -> dict[str, Any]:
        health = {"healthy": trouble is None, "trouble": trouble, "failed_calls_last_day": failed}
        return {"name": name, "listed": listed, **health}

    def backlog(waiting: int, oldest: datetime | None, quarantined: int) -> dict[str, Any]:
        age = round(max(0.0, (now - oldest).total_seconds()) if oldest is not None else 0.0, 3)
        return {"waiting": waiting, "quarantined": quarantined, "oldest": oldest, "oldest_seconds": age}

    def workflow(row: dict[str, Any]) -> dict[str, Any]:
        last = {
            f"last_{name}": (row["last"] or {}).get(name) for name in ("started_at", "outcome", "seconds")
        }
        return {"name": row["kind"], "next_at": row["next_at"], **last}

    versions = {name: version(name) for name in PACKAGES}
    return {
        **vars(seen),
        "channels": [
            channel("website", sold, None, 0),
            channel("fourseller", seen.items.get("listed", 0), trouble, seen.failed_calls),
        ],
        "items": backlog(seen.dirty, seen.oldest_dirty, seen.quarantined_items),
        "webhooks": backlog(seen.webhooks, seen.oldest_webhook, seen.quarantined_webhooks),
        "needs_a_person": waiting,
        "workflows": [workflow(row) for row in workflow_rows(service) if row["kind"]],
        "versions": versions | {"database": database_version(service.database).current or "none"},
        "worker": "elsewhere" if service.worker is None else works,
        "up_since": service.started_at,
    }


def workflow_rows(service: Service) -> list[dict[str, Any]]:
    """Each workflow: what it does, when it runs, and the last sync of its kind, if it is one that syncs."""
    now, settings = datetime.now(UTC), service.settings
    syncs = {row["kind"]: row for row in last_syncs(service.database)}
    rows = []
    for one in WORKFLOWS:
        row = {"every": entry(settings, one).every, "on": is_on(settings, one)}
        row |= {"next_at": next_run(settings, one, now), "last": syncs.get(one.kind) if one.kind else None}
        rows.append(row | {"name": one.name, "what": one.what, "kind": one.kind})
    return rows


@router.get(f"{PREFIX}/audit", summary="Who changed what", response_model=AuditPage)
def get_audit(request: Request, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    """Every call that changed something, and every change at the command line: when, by whom, from where."""
    rows = service_of(request).read(read_audit, before=decode_cursor(cursor), limit=limit)
    return page_of_rows(rows, limit)


@pages.get("/exceptions", summary="What needs a person", response_model=Rows)
def get_exceptions(request: Request) -> dict[str, Any]:
    """Each cause with its count and the age of the oldest, the worst first."""
    found = service_of(request).read(needs_a_person)
    return _rows([asdict(one) | {"title": one.title} for one in found])


@pages.get("/items", summary="List items", response_model=Rows)
def get_items(
    request: Request, q: Text = "", state: State | None = None, after: After = 0, limit: Limit = 50
) -> dict[str, Any]:
    """Items by words or state: what the shop has, what 4Seller confirmed, what it showed last."""
    return _rows(service_of(request).read(list_items, text=q, state=state, after=after, limit=limit))


@pages.get("/explain", summary="Explain an item", response_model=dict[str, Any])
def get_explanation(request: Request, sku: Sku) -> Any:
    """All facts behind what 4Seller shows of one item."""
    service = service_of(request)
    return jsonable_encoder(explain_item(service.database, sku, service.settings.title_limit))


@pages.get("/conflicts", summary="List open conflicts", response_model=Rows)
def get_conflicts(
    request: Request, orphans: bool = False, after: After = 0, limit: Limit = 50
) -> dict[str, Any]:
    """Conflicts of items, or products on 4Seller that are no item; the oldest first."""
    return _rows(service_of(request).read(list_conflicts, orphans=orphans, after=after, limit=limit))


@pages.post("/conflicts/{conflict_id}", summary="Resolve a conflict", response_model=dict[str, Any])
async def post_conflict(
    request: Request, conflict_id: Annotated[int, Path(ge=1, le=LARGEST_ID)], decision: ConflictDecision
) -> Any:
    """Takes the shop's value or the marketplace's."""
    context = service_of(request).sync_context(request.state.request_id)
    by: str = request.state.caller.name
    return jsonable_encoder(await in_own_loop(lambda: resolve(context, conflict_id, decision.take, by)))


@pages.get("/plan", summary="What a sync would send", response_model=dict[str, Any])
def get_plan(request: Request) -> Any:
    """The plan of the items that changed, with its hash; nothing is sent."""
    plan = make_plan(service_of(request).sync_context("plan"), dirty_only=True)
    return {"hash": plan.hash, "made_at": plan.made_at, "steps": [asdict(step) for step in plan.steps]}


@pages.get("/rules", summary="List rules", response_model=Rows)
def get_rules(request: Request) -> dict[str, Any]:
    """Every rule with its scope, the widest first."""
    return _rows(service_of(request).read(list_rules))


@pages.get("/stock", summary="What runs out first, and what sells most", response_model=Stock)
def get_stock(
    request: Request, days: Annotated[int, Query(ge=1, le=365)] = 7, limit: Limit = 50
) -> dict[str, Any]:
    """By the sales of four weeks: days of cover and what to order; and the items that sold most in the last days."""
    service = service_of(request)
    rows = service.read(soonest_low, service.settings, limit)
    return _rows(rows) | {"movers": jsonable_encoder(top_movers(service.database, days, limit))}


@pages.get("/alerts", summary="List alerts", response_model=Rows)
def get_alerts(request: Request, everything: bool = False, limit: Limit = 50) -> dict[str, Any]:
    """The newest open alerts, or all of them; a text names the endpoint or the console's page where it is settled."""
    found, _ = service_of(request).read(recent_alerts, only_open=not everything, limit=limit)
    return _rows([row | {"text": in_api(row["text"])} for row in found])


def _rows(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"data": jsonable_encoder(found)}


router.include_router(pages)
