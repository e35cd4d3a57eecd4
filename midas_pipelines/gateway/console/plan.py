"""Plan: what a sync would send; read it, approve that very plan by its hash, watch it, undo it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from decimal import Decimal
from threading import Lock
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Form, Query, Request, Response

from midas_pipelines.errors import ExpectedError, WrongInput
from midas_pipelines.gateway.console.web import ConsoleRoute, clicked, csv_file, done, person_of, render
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.notify.alerts import recent_alerts
from midas_pipelines.store.items.writes import recent_runs
from midas_pipelines.store.schema.gateway_tables import console_plans
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import any_of, upsert
from midas_pipelines.sync.listings.scan import ApprovedPlan, PlanStep, make_plan
from midas_pipelines.sync.product_sync import sync_products
from midas_pipelines.sync.safety.shadow_report import ShadowReport, compare_shadow
from midas_pipelines.sync.safety.undo import undo_run
from midas_pipelines.sync.threads import in_own_loop, in_thread
from midas_pipelines.text import counted, counts_of

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

MOST_SHOWN = 200
HELD = ("brake", "canary")
KEPT_SECONDS = 30 * 86_400  # how long a plan is kept
ONE_PLAN = Lock()
"""Plans are made one at a time: each takes a thread and its share of the processor from webhooks."""
_PLAN = console_plans.c


@router.get("/plan")
def plans(request: Request) -> Response:
    """The newest plans, what the brake or a failed wave holds, and the runs that can be undone."""
    return _overview(request)


def _overview(request: Request, shadow: ShadowReport | None = None) -> Response:
    query = sa.select(*(one for one in _PLAN if one.name != "steps")).order_by(_PLAN.created_at.desc())
    with service_of(request).database.reading() as connection:
        made = connection.execute(query.limit(10)).all()
        held = [row for kind in HELD for row in recent_alerts(connection, only_open=True, kind=kind)[0]]
        runs = recent_runs(connection)
    settings = service_of(request).settings
    shown: dict[str, Any] = {"plans": made, "held": held, "runs": runs, "shadow": shadow}
    return render(request, "plans.html", settings=settings, **shown)


@router.post("/plan/shadow")
async def shadow_report(request: Request) -> Response:
    """Compares what shadow mode kept back with what 4Seller and the shop show by now."""
    context = clicked(request, "shadow")
    report = await in_own_loop(lambda: compare_shadow(context))
    return await in_thread(_overview, request, report)


@router.post("/plan/undo")
async def undo(request: Request, name: Annotated[str, Form(min_length=8, max_length=64)]) -> Response:
    """Puts back what a run or a plan wrote, where 4Seller still shows that."""
    context = clicked(request, "undo")
    report = await in_own_loop(lambda: undo_run(context, name))
    left = f" Left as they are: {report.left[0]['sku']}, {report.left[0]['reason']}" if report.left else ""
    more = f" and {len(report.left) - 1} more." if len(report.left) > 1 else ""
    return done(request, f"{report.put_back} listings put back, {report.removed} removed.{left}{more}")


@router.post("/plan")
def make_new_plan(request: Request, scope: Annotated[str, Form()] = "changed") -> Response:
    """Makes a plan of the changed items, or of all; reads only our database."""
    with ONE_PLAN:
        plan = make_plan(clicked(request, "plan"), dirty_only=scope != "all")
    service_of(request).write(_keep, plan, person_of(request).name)
    return done(request, "This is what would be sent. Nothing has been sent yet.", f"/plan/{plan.hash}")


@router.get("/plan/{digest}")
def read_one_plan(
    request: Request, digest: str, action: str = "", q: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """One plan: totals by action, its steps, the largest changes of price first."""
    with service_of(request).database.reading() as connection:
        plan = _plan(connection, digest)
        fits = [one for one in plan.steps if action in ("", one["action"])]
        steps = _with_now(connection, [one for one in fits if q.lower() in (one["sku"] or "").lower()])
    totals = sorted(Counter(one["action"] for one in plan.steps).items())
    steps.sort(key=lambda one: (-one["price_change"], one["sku"] or ""))
    shown: dict[str, Any] = {"steps": steps[:MOST_SHOWN], "count": len(steps), "action": action, "q": q}
    return render(request, "plan.html", plan=plan, totals=totals, **shown)


@router.get("/plan/{digest}/steps.csv")
def steps_file(request: Request, digest: str) -> Response:
    """Every step as a file."""
    with service_of(request).database.reading() as connection:
        plan = _plan(connection, digest)
        return csv_file(f"plan-{plan.hash[:12]}.csv", _with_now(connection, plan.steps))


@router.post("/plan/{digest}/approve")
async def approve_one_plan(
    request: Request,
    digest: str,
    typed: Annotated[str, Form()],
    leave: Annotated[list[int] | None, Form()] = None,
) -> Response:
    """Applies exactly this plan, or all of it but the ticked items, once its first characters are typed."""
    if len(typed.strip()) < 6 or not digest.startswith(typed.strip().lower()):
        raise WrongInput("Type the first six characters of the plan's hash to approve that very plan.")
    service = service_of(request)
    plan = await in_thread(service.write, _approve, digest, person_of(request).name, set(leave or ()))
    service.background.start(_apply(service, plan, request.state.request_id))
    return done(request, "Approved. It is being sent now.", f"/plan/{plan.hash}")


def _approve(connection: sa.Connection, digest: str, by: str, leave: set[int]) -> ApprovedPlan:
    """The plan, or a plan of its own without the items to leave, marked as approved."""
    row = _plan(connection, digest)
    plan = ApprovedPlan(row.made_at, tuple(PlanStep(**step) for step in row.steps))
    if plan.hash != digest:
        raise WrongInput("This plan is not as it was made: make a new one.")
    if leave:
        plan = ApprovedPlan(plan.made_at, tuple(step for step in plan.steps if step.item not in leave))
        _keep(connection, plan, by)
    fresh = sa.update(console_plans).where(_PLAN.hash == plan.hash, _PLAN.approved_at.is_(None))
    approved = fresh.values(approved_at=utc_now(), approved_by=by)
    if not plan.steps or not connection.execute(approved).rowcount:
        raise WrongInput("This plan is empty, or was approved before: make a new one.")
    return plan


def _keep(connection: sa.Connection, plan: ApprovedPlan, by: str) -> None:
    """Keeps the plan by its hash; the same plan again only renews its date. Those of a month ago go."""
    connection.execute(sa.delete(console_plans).where(_PLAN.created_at < utc_now(-KEPT_SECONDS)))
    values = {"made_at": plan.made_at, "made_by": by, "steps": [asdict(step) for step in plan.steps]}
    renewed = {"created_at": utc_now(), "approved_at": None, "result": None}
    upsert(connection, console_plans, {"hash": plan.hash}, values | renewed)


async def _apply(service: Service, plan: ApprovedPlan, run_id: str) -> None:
    try:
        report = await in_own_loop(lambda: sync_products(service.sync_context(run_id), agreed=plan))
        result = counted(counts_of(vars(report)) | {"scanned": 0}) or "nothing to send"
    except ExpectedError as why:
        result = f"Refused: {why}"
    except Exception as error:
        result = f"It failed: {type(error).__name__}; see the gateway's log."
        raise
    finally:
        ended = sa.update(console_plans).where(_PLAN.hash == plan.hash).values(result=result)
        await in_thread(service.write, lambda connection: connection.execute(ended))


def _plan(connection: sa.Connection, digest: str) -> sa.Row[Any]:
    row = connection.execute(sa.select(console_plans).where(_PLAN.hash == digest[:64])).first()
    if row is None:
        raise WrongInput("There is no such plan: make a new one.")
    return row


def _with_now(connection: sa.Connection, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps with what 4Seller confirmed last, and by how much the price changes."""
    table = mappings.c
    query = sa.select(table.id, table.acked_quantity, table.acked_price)
    items = any_of(connection, table.id, [one["item"] for one in steps])
    acked = {item: (quantity, price) for item, quantity, price in connection.execute(query.where(items))}
    shown = []
    for one in steps:
        quantity, old = acked.get(one["item"], (None, None))
        change = abs(Decimal(one["price"]) - old) / old if old and one["price"] is not None else Decimal(0)
        shown.append(one | {"acked_quantity": quantity, "acked_price": old, "price_change": change})
    return shown
