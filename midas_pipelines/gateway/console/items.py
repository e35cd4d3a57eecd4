"""Items: the list, and one item's story from what the channel shows down to the first unit."""

from __future__ import annotations

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.errors import WrongInput
from midas_pipelines.gateway.console.guard import ConsoleRoute, clicked, done
from midas_pipelines.gateway.console.stock import last_rule_change, rule_changed
from midas_pipelines.gateway.console.web import fragment, person_of, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.items.conflicts import recent_conflicts
from midas_pipelines.store.items.listing import STATES, list_items, quarantined_items, retry_items
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.sync.explain import explain_item
from midas_pipelines.sync.listings.content import FIELDS
from midas_pipelines.sync.product_sync import Mode, mapping_ids, sync_products
from midas_pipelines.sync.reconcile.conflicts import pin_field, release_pin
from midas_pipelines.sync.rules.edit import explain_rule, set_rule
from midas_pipelines.sync.rules.simulate import simulate
from midas_pipelines.sync.threads import in_own_loop

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

PAGE = 50
LEDGER_SHOWN = 60
ONE = "/items/{sku:path}"
Number = Annotated[int | None, Query(ge=0, le=2**31 - 1)]
Field = Annotated[str, Form(max_length=30)]


@router.get("/items")
def item_list(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    state: str = "",
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> Response:
    """The items that hold the words and are in the state."""
    wanted = state if state in STATES else None
    with service_of(request).database.reading() as connection:
        rows = list_items(connection, text=q, state=wanted, after=after, limit=PAGE)
    more = rows[-1]["id"] if len(rows) == PAGE else None
    return render(
        request, "items.html", rows=rows, q=q, state=wanted, states=list(STATES), more=more, after=after
    )


@router.get(ONE + "/rule")
def preview_rule(
    request: Request, sku: str, buffer: Number = None, cap: Number = None, fixed: Number = None
) -> Response:
    """What a changed rule would show now, and what it would have done in the last 30 days."""
    values = {"buffer": buffer, "cap": cap, "fixed": fixed}
    return fragment("preview", "notice", simulate(service_of(request).database, values, sku=sku).sentences())


@router.get(ONE)
def item_page(request: Request, sku: str) -> Response:
    """The story of one item."""
    service = service_of(request)
    facts = explain_item(service.database, sku, service.settings.title_limit, most=LEDGER_SHOWN)
    with service.database.reading() as connection:
        (item,) = mapping_ids(service.sync_context("look-up"), [sku])
        row = connection.execute(sa.select(mappings).where(mappings.c.id == item)).one()
        past = recent_conflicts(connection, mapping_id=item, limit=20)
        listed = list_items(connection, after=item - 1, limit=1)
    return render(
        request,
        "item.html",
        sku=sku,
        facts=facts,
        row=row,
        named=listed[0],
        rule=explain_rule(service.database, sku),
        past=past,
        levels=[one["quantity_after"] for one in reversed(facts["ledger"])],
        fields=FIELDS,
    )


@router.post(ONE + "/push")
async def push_now(request: Request, sku: str) -> Response:
    """Brings the item to 4Seller now, with its content."""
    context = clicked(request, "push")
    report = await in_own_loop(lambda: sync_products(context, Mode.INCREMENTAL, skus=[sku]))
    if report.stopped:
        raise WrongInput(report.stopped)
    names = ("created", "updated", "deleted", "unchanged", "failed", "held", "quarantined", "adopted")
    what = ", ".join(name for name in names if getattr(report, name)) or "pushed by another worker"
    problem = f" {report.problems[0]['reason']}" if report.problems else ""
    return done(request, f"{sku}: {what}.{problem}")


@router.post(ONE + "/retry")
def retry_item(request: Request, sku: str) -> Response:
    """Frees the item for the next sync."""
    freed = retry_items(service_of(request).database, [sku])
    return done(request, f"{sku} is tried again now." if freed else f"{sku} waits for nothing.")


@router.post("/decide/items/retry")
def retry_reason(request: Request, reason: Annotated[str, Form(max_length=5000)]) -> Response:
    """Frees all items that wait for the same reason."""
    database = service_of(request).database
    found = quarantined_items(database)
    skus = [row["sku"] for row in found if (row["reason"] or "") == reason and row["sku"]]
    freed = retry_items(database, skus) if skus else []
    return done(request, f"{len(freed)} items are tried again now.")


@router.post(ONE + "/pin")
async def pin_one(request: Request, sku: str, field: Field) -> Response:
    """Leaves a field on 4Seller as it is."""
    context = clicked(request, "pin")

    async def pin() -> object:
        (item,) = mapping_ids(context, [sku])
        return await pin_field(context, item, field)

    value = await in_own_loop(pin)
    shown = "" if isinstance(value, dict | list) else f" at {value}"
    text = f"{sku}: {field} stays as it is on 4Seller{shown}, until it is released."
    return done(
        request, text, undo=request.url.path.removesuffix("pin") + "release", fields=[("field", field)]
    )


@router.post(ONE + "/release")
def release_one(request: Request, sku: str, field: Field) -> Response:
    """Lets go of a pinned field."""
    context = clicked(request, "release")
    (item,) = mapping_ids(context, [sku])
    released = release_pin(context, item, field)
    return done(request, f"{sku}: released {', '.join(released)}." if released else f"{sku} has no such pin.")


@router.post(ONE + "/exclude")
def set_exclude(request: Request, sku: str, exclude: Field) -> Response:
    """Takes the item off 4Seller, or lets it be listed again."""
    out = exclude == "yes"
    after = last_rule_change(request)
    set_rule(service_of(request).database, {"exclude": out}, sku=sku, by=person_of(request).actor)
    text = f"{sku} is never listed on 4Seller." if out else f"{sku} may be listed."
    return rule_changed(request, text, after, sku=sku)
