"""Items: the list, and one item's page from what the channel shows down to the first unit. Stock and rules: what runs out
first, and what a channel may show of it; rules are tried on the past first."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Form, Query, Request, Response

from midas_pipelines.errors import WrongInput
from midas_pipelines.gateway.api.readings import older
from midas_pipelines.gateway.console import web
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.items.conflicts import find_conflicts
from midas_pipelines.store.items.listing import STATES, list_items, quarantined_items, retry_items
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.store.stock.ledger import top_movers
from midas_pipelines.store.stock.rule_changes import list_rules, newest_change
from midas_pipelines.store.stock.rules import POLICIES
from midas_pipelines.sync.explain import explain_item
from midas_pipelines.sync.listings.pins import FIELDS
from midas_pipelines.sync.operations.stock_levels import soonest_low
from midas_pipelines.sync.product_sync import Mode, mapping_ids, sync_products
from midas_pipelines.sync.reconcile.conflicts import pin_field, release_pin
from midas_pipelines.sync.rules.edit import clear_rule, set_rule, undo_rule
from midas_pipelines.sync.rules.simulate import simulate
from midas_pipelines.sync.threads import in_own_loop
from midas_pipelines.text import counts_of

router = APIRouter(include_in_schema=False, route_class=web.ConsoleRoute)

LEDGER_SHOWN = 60
MOST_SHOWN = 100
MOST_IN_FILE = 100_000
NUMBERS = ("buffer", "cap", "allocation", "fixed", "low_stock", "cover_days")
TRIED = NUMBERS[:4]
ONE = "/items/{sku:path}"
Number = Annotated[int | None, Query(ge=0, le=2**31 - 1)]
Field = Annotated[str, Form(max_length=30)]
Row = Annotated[int, Form()]
Scope = Annotated[str, Form(max_length=100)]
PRICE = r"^\s*([0-9]+([.][0-9]{1,2})?)?\s*$"


@router.get("/items")
def item_list(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    state: str = "",
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> Response:
    """The items that hold the words and are in the state."""
    wanted = state if state in STATES else None
    rows = service_of(request).read(list_items, text=q, state=wanted, after=after, limit=web.PAGE)
    shown: dict[str, Any] = {"q": q, "state": wanted, "states": list(STATES), "after": after}
    return web.render(request, "items.html", rows=rows, more=older(rows, web.PAGE), **shown)


@router.get(ONE + "/rule")
def preview_rule(
    request: Request, sku: str, buffer: Number = None, cap: Number = None, fixed: Number = None
) -> Response:
    """What a changed rule would show now, and what it would have done in the last 30 days."""
    values = {"buffer": buffer, "cap": cap, "fixed": fixed}
    tried = simulate(service_of(request).database, values, sku=sku)
    return web.fragment("preview", "notice", tried.sentences())


@router.get(ONE)
def item_page(request: Request, sku: str) -> Response:
    """One item, from what the channel shows down to the ledger."""
    service = service_of(request)
    facts = explain_item(service.database, sku, service.settings.title_limit, most=LEDGER_SHOWN)
    (item,) = mapping_ids(service.sync_context("look-up"), [sku])
    with service.database.reading() as connection:
        row = connection.execute(sa.select(mappings).where(mappings.c.id == item)).one()
        past = find_conflicts(connection, mapping_id=item, limit=20)
        listed = list_items(connection, after=item - 1, limit=1)
    shown: dict[str, Any] = {"row": row, "named": listed[0], "past": past, "fields": FIELDS}
    return web.render(request, "item.html", sku=sku, facts=facts, **shown)


@router.post(ONE + "/push")
async def push_now(request: Request, sku: str) -> Response:
    """Brings the item to 4Seller now, with its content."""
    context = web.clicked(request, "push")
    report = await in_own_loop(lambda: sync_products(context, Mode.INCREMENTAL, skus=[sku]))
    if report.stopped:
        raise WrongInput(report.stopped)
    counts = counts_of(vars(report)) | {"scanned": 0}
    what = ", ".join(name for name, count in counts.items() if count) or "pushed by another worker"
    problem = f" {report.problems[0]['reason']}" if report.problems else ""
    return web.done(request, f"{sku}: {what}.{problem}")


@router.post(ONE + "/retry")
def retry_item(request: Request, sku: str) -> Response:
    """Frees the item for the next sync."""
    freed = retry_items(service_of(request).database, [sku])
    return web.done(request, f"{sku} is tried again now." if freed else f"{sku} waits for nothing.")


@router.post("/decide/items/retry")
def retry_reason(request: Request, reason: Annotated[str, Form(max_length=5000)]) -> Response:
    """Frees all items that wait for the same reason."""
    database = service_of(request).database
    found = quarantined_items(database)
    skus = [row["sku"] for row in found if (row["reason"] or "") == reason and row["sku"]]
    freed = retry_items(database, skus) if skus else []
    return web.done(request, f"{len(freed)} items are tried again now.")


@router.post(ONE + "/pin")
async def pin_one(request: Request, sku: str, field: Field) -> Response:
    """Leaves a field on 4Seller as it is."""
    context = web.clicked(request, "pin")

    async def pin() -> object:
        (item,) = mapping_ids(context, [sku])
        return await pin_field(context, item, field)

    value = await in_own_loop(pin)
    shown = "" if isinstance(value, dict | list) else f" at {value}"
    text = f"{sku}: {field} stays as it is on 4Seller{shown}, until it is released."
    return web.done(request, text, undo=request.url.path.removesuffix("pin") + "release", field=field)


@router.post(ONE + "/release")
def release_one(request: Request, sku: str, field: Field) -> Response:
    """Lets go of a pinned field."""
    context = web.clicked(request, "release")
    (item,) = mapping_ids(context, [sku])
    released = release_pin(context, item, field)
    return web.done(
        request, f"{sku}: released {', '.join(released)}." if released else f"{sku} has no such pin."
    )


@router.post(ONE + "/exclude")
def set_exclude(request: Request, sku: str, exclude: Field) -> Response:
    """Takes the item off 4Seller, or lets it be listed again."""
    out = exclude == "yes"
    after = _last_rule_change(request)
    set_rule(service_of(request).database, {"exclude": out}, sku=sku, by=web.person_of(request).actor)
    text = f"{sku} is never listed on 4Seller." if out else f"{sku} may be listed."
    return _rule_changed(request, text, after, sku)


@router.get("/stock")
def stock(request: Request) -> Response:
    """The hundred items that run out first, and those that sell most."""
    service = service_of(request)
    rows = service.read(soonest_low, service.settings, MOST_SHOWN)
    return web.render(request, "stock.html", rows=rows, movers=top_movers(service.database))


@router.get("/stock.csv")
def stock_file(request: Request) -> Response:
    """All of them as a file."""
    service = service_of(request)
    return web.csv_file("stock.csv", service.read(soonest_low, service.settings, MOST_IN_FILE))


@router.get("/rules")
def rules(
    request: Request,
    sku: Annotated[str, Query(max_length=50)] = "",
    category: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """Every rule; and what a changed one would have done in the last 30 days."""
    service = service_of(request)
    typed = {name: request.query_params.get(name, "")[:9] for name in TRIED}
    values = _numbers(typed, TRIED)
    tried = simulate(service.database, values, sku=sku or None, category=category or None) if values else None
    asked = {"sku": sku, "category": category} | typed
    shown: dict[str, Any] = {"rules": service.read(list_rules), "numbers": NUMBERS, "policies": POLICIES}
    return web.render(request, "rules.html", tried=tried, asked=asked, **shown)


@router.post("/rules")
def set_(
    request: Request,
    sku: Scope = "",
    category: Scope = "",
    minimum_price: Annotated[str, Form(max_length=12, pattern=PRICE)] = "",
    policy: Field = "",
) -> Response:
    """Sets the fields that are given; the others stay."""
    price = Decimal(minimum_price) if minimum_price.strip() else None
    values = _numbers(request.state.form, NUMBERS) | {"policy": policy or None, "minimum_price": price}
    after = _last_rule_change(request)
    marked = set_rule(service_of(request).database, values, **_scope(request, sku, category))
    text = f"The rule is set; {marked} items are checked again now."
    return _rule_changed(request, text, after, sku, category)


@router.post("/rules/clear")
def clear(request: Request, sku: Scope = "", category: Scope = "") -> Response:
    """Removes the rules of exactly one scope."""
    after = _last_rule_change(request)
    gone = clear_rule(service_of(request).database, **_scope(request, sku, category))
    if not gone:
        return web.done(request, "There was no rule of this scope.")
    return _rule_changed(request, f"{gone} rules removed.", after, sku, category)


@router.post("/rules/undo")
def undo_(request: Request, after: Row, last: Row, sku: Scope = "", category: Scope = "") -> Response:
    """Puts the rules of one scope back as they were before a click."""
    undo_rule(service_of(request).database, after=after, last=last, **_scope(request, sku, category))
    return web.done(request, "The rule is as it was before.")


def _scope(request: Request, sku: str, category: str) -> dict[str, Any]:
    return {"sku": sku or None, "category": category or None, "by": web.person_of(request).actor}


def _rule_changed(request: Request, text: str, after: int, sku: str, category: str = "") -> Response:
    """The end of a click that changed the rules of one scope behind that row of their history."""
    last = _last_rule_change(request)
    return web.done(request, text, undo="/rules/undo", sku=sku, category=category, after=after, last=last)


def _last_rule_change(request: Request) -> int:
    return service_of(request).read(newest_change)


def _numbers(typed: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, object]:
    given = {name: str(typed.get(name, "")).strip()[:20] for name in names}
    return {name: int(text) for name, text in given.items() if text.isdecimal()}
