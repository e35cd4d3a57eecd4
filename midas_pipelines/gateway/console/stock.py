"""Stock and rules: what runs out first, and what a channel may show of it; rules are tried on the past first."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.gateway.console.guard import ConsoleRoute, done
from midas_pipelines.gateway.console.web import csv_file, person_of, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.stock.levels import top_movers
from midas_pipelines.store.stock.rule_changes import list_rules, newest_change
from midas_pipelines.store.stock.rules import POLICIES
from midas_pipelines.sync.operations.stock_levels import soonest_low
from midas_pipelines.sync.rules.edit import clear_rule, set_rule, undo_rule
from midas_pipelines.sync.rules.simulate import simulate

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

MOST_SHOWN = 100
MOST_IN_FILE = 100_000
NUMBERS = ("buffer", "cap", "allocation", "fixed", "low_stock", "cover_days")
TRIED = NUMBERS[:4]
Typed = Annotated[str, Form(max_length=20)]


@router.get("/stock")
def stock(request: Request) -> Response:
    """The hundred items that run out first, and those that sell most."""
    service = service_of(request)
    with service.database.reading() as connection:
        rows = soonest_low(connection, service.settings, MOST_SHOWN)
    return render(request, "stock.html", rows=rows, movers=top_movers(service.database))


@router.get("/stock.csv")
def stock_file(request: Request) -> Response:
    """All of them as a file."""
    service = service_of(request)
    with service.database.reading() as connection:
        return csv_file("stock.csv", soonest_low(connection, service.settings, MOST_IN_FILE))


@router.get("/rules")
def rules(
    request: Request,
    sku: Annotated[str, Query(max_length=50)] = "",
    category: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """Every rule; and what a changed one would have done in the last 30 days."""
    service = service_of(request)
    typed = {name: request.query_params.get(name, "")[:9] for name in TRIED}
    values = _numbers(typed)
    tried = simulate(service.database, values, sku=sku or None, category=category or None) if values else None
    with service.database.reading() as connection:
        found = list_rules(connection)
    asked = {"sku": sku, "category": category} | typed
    return render(
        request, "rules.html", rules=found, tried=tried, asked=asked, numbers=NUMBERS, policies=POLICIES
    )


@router.post("/rules")
def set_(
    request: Request,
    sku: Annotated[str, Form(max_length=50)] = "",
    category: Annotated[str, Form(max_length=100)] = "",
    buffer: Typed = "",
    cap: Typed = "",
    allocation: Typed = "",
    fixed: Typed = "",
    low_stock: Typed = "",
    cover_days: Typed = "",
    minimum_price: Annotated[str, Form(max_length=12, pattern=r"^\s*([0-9]+([.][0-9]{1,2})?)?\s*$")] = "",
    policy: Typed = "",
) -> Response:
    """Sets the fields that are given; the others stay."""
    typed = dict(zip(NUMBERS, (buffer, cap, allocation, fixed, low_stock, cover_days), strict=True))
    values = _numbers(typed) | {
        "policy": policy or None,
        "minimum_price": Decimal(minimum_price) if minimum_price.strip() else None,
    }
    database, by = service_of(request).database, person_of(request).actor
    after = last_rule_change(request)
    marked = set_rule(database, values, sku=sku or None, category=category or None, by=by)
    text = f"The rule is set; {marked} items are checked again now."
    return rule_changed(request, text, after, sku, category)


@router.post("/rules/clear")
def clear(
    request: Request, sku: Annotated[str, Form()] = "", category: Annotated[str, Form()] = ""
) -> Response:
    """Removes the rules of exactly one scope."""
    by, after = person_of(request).actor, last_rule_change(request)
    gone = clear_rule(service_of(request).database, sku=sku or None, category=category or None, by=by)
    if not gone:
        return done(request, "There was no rule of this scope.")
    return rule_changed(request, f"{gone} rules removed.", after, sku, category)


@router.post("/rules/undo")
def undo_(
    request: Request,
    after: Annotated[int, Form()],
    last: Annotated[int, Form()],
    sku: Annotated[str, Form()] = "",
    category: Annotated[str, Form()] = "",
) -> Response:
    """Puts the rules of one scope back as they were before a click."""
    database, by = service_of(request).database, person_of(request).actor
    undo_rule(database, after=after, last=last, sku=sku or None, category=category or None, by=by)
    return done(request, "The rule is as it was before.")


def rule_changed(request: Request, text: str, after: int, sku: str = "", category: str = "") -> Response:
    """The end of a click that changed the rules of one scope behind that row of their history."""
    fields = {"sku": sku, "category": category, "after": after, "last": last_rule_change(request)}
    return done(request, text, undo="/rules/undo", fields=list(fields.items()))


def last_rule_change(request: Request) -> int:
    """The newest row of the history of rules."""
    with service_of(request).database.reading() as connection:
        return newest_change(connection)


def _numbers(typed: dict[str, str]) -> dict[str, object]:
    return {name: int(text) for name, text in typed.items() if text.strip().isdecimal()}
