"""Rules: what a channel may show of the shop's stock; set, cleared, and tried on the past first."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.gateway.console.guard import ConsoleRoute, done
from midas_pipelines.gateway.console.web import person_of, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.stock.rule_changes import list_rules
from midas_pipelines.store.stock.rules import POLICIES
from midas_pipelines.sync.rules.edit import clear_rule, set_rule
from midas_pipelines.sync.rules.simulate import Simulated, simulate
from midas_pipelines.sync.threads import in_thread

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

NUMBERS = ("buffer", "cap", "allocation", "fixed", "low_stock", "cover_days")
Typed = Annotated[str, Form(max_length=20)]


@router.get("/rules")
def rules(
    request: Request,
    sku: Annotated[str, Query(max_length=50)] = "",
    category: Annotated[str, Query(max_length=100)] = "",
    buffer: str = "",
    cap: str = "",
    allocation: str = "",
    fixed: str = "",
) -> Response:
    """Every rule; and what a changed one would have done in the last 30 days."""
    service = service_of(request)
    typed = {"buffer": buffer, "cap": cap, "allocation": allocation, "fixed": fixed}
    values = {name: int(text) for name, text in typed.items() if text.isascii() and text.isdigit()}
    tried: Simulated | None = None
    if values:
        tried = simulate(service.database, values, sku=sku or None, category=category or None)
    with service.database.reading() as connection:
        found = list_rules(connection)
    asked = {"sku": sku, "category": category} | typed
    return render(
        request, "rules.html", rules=found, tried=tried, asked=asked, numbers=NUMBERS, policies=POLICIES
    )


@router.post("/rules")
async def set_(
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
    values: dict[str, object] = {name: int(text) for name, text in typed.items() if text.strip().isdigit()}
    values |= {
        "policy": policy or None,
        "minimum_price": Decimal(minimum_price) if minimum_price.strip() else None,
    }
    database, by = service_of(request).database, person_of(request).actor
    marked = await in_thread(set_rule, database, values, sku=sku or None, category=category or None, by=by)
    return await done(request, f"The rule is set; {marked} items are checked again now.")


@router.post("/rules/clear")
async def clear(
    request: Request, sku: Annotated[str, Form()] = "", category: Annotated[str, Form()] = ""
) -> Response:
    """Removes the rules of exactly one scope."""
    database, by = service_of(request).database, person_of(request).actor
    gone = await in_thread(clear_rule, database, sku=sku or None, category=category or None, by=by)
    return await done(request, f"{gone} rules removed." if gone else "There was no rule of this scope.")
