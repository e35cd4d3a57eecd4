"""To decide: one inbox, a card for each thing that waits for a person, with the buttons that end it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import uuid4

import sqlalchemy as sa
from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.errors import ExpectedError, WrongInput
from midas_pipelines.gateway.console.guard import ConsoleRoute, done
from midas_pipelines.gateway.console.pages.today import ELSEWHERE, href
from midas_pipelines.gateway.console.web import person_of, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.items.conflicts import list_conflicts, read_conflict
from midas_pipelines.store.items.listing import list_items, suggest_items
from midas_pipelines.store.operations.attention import CAUSES, needs_a_person
from midas_pipelines.store.orders.decisions import OVERSOLD, UNMAPPED, waiting_lines, waiting_orders
from midas_pipelines.sync.reconcile.conflicts import SIDES, resolve
from midas_pipelines.sync.reconcile.undo import undo_resolution
from midas_pipelines.sync.threads import in_own_loop, in_thread

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

PAGE = 50
Row = dict[str, Any]
Reader = Callable[[sa.Connection, int], list[Row]]

CARDS: dict[str, Reader] = {
    "oversold": lambda connection, after: waiting_lines(connection, OVERSOLD, after=after, limit=PAGE),
    "unmapped": lambda connection, after: waiting_lines(connection, UNMAPPED, after=after, limit=PAGE),
    "order_conflict": lambda connection, after: waiting_orders(
        connection, ["conflict"], after=after, limit=PAGE
    ),
    "quarantined_order": lambda connection, after: waiting_orders(connection, None, after=after, limit=PAGE),
    "refused": lambda connection, after: waiting_orders(connection, ["refused"], after=after, limit=PAGE),
    "order_to_look_at": lambda connection, after: waiting_orders(
        connection,
        ["quantity", "total_mismatch", "unknown_status", "edited", "deleted"],
        after=after,
        limit=PAGE,
    ),
    "conflict": lambda connection, after: list_conflicts(connection, orphans=False, after=after, limit=PAGE),
    "orphan": lambda connection, after: list_conflicts(connection, orphans=True, after=after, limit=PAGE),
    "quarantined_item": lambda connection, after: list_items(
        connection, state="failing", after=after, limit=PAGE
    ),
}
"""How the cards of each cause are read, behind an id."""


@router.get("/decide")
def inbox(request: Request, cause: str | None = None, after: Annotated[int, Query(ge=0)] = 0) -> Response:
    """The cards of one cause; of the worst one where none is named."""
    with service_of(request).database.reading() as connection:
        waiting = needs_a_person(connection)
        here = [one for one in waiting if one.cause not in ELSEWHERE]
        shown = cause if cause in CARDS else (here[0].cause if here else None)
        cards = CARDS[shown](connection, after) if shown else []
    return render(
        request,
        "decide.html",
        waiting=[(one, href(one)) for one in waiting],
        cause=shown,
        title=CAUSES[shown] if shown else "",
        cards=[card | effects(card) for card in cards] if shown == "conflict" else cards,
        more=cards[-1]["id"] if len(cards) == PAGE else None,
        once=uuid4().hex,
    )


@router.get("/decide/lines/{line_id}")
def find_item(request: Request, line_id: int, q: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Which item an unmapped line is: the nearest ones by title, or those that a search finds."""
    with service_of(request).database.reading() as connection:
        lines = waiting_lines(connection, UNMAPPED, after=line_id - 1, limit=1)
        if not lines or lines[0]["id"] != line_id:
            raise WrongInput("This line waits no more: it is mapped, or its order has ended.")
        line = lines[0]
        near = suggest_items(connection, line["title"] or "", line["hub_sku"] or "")
        found = list_items(connection, text=q, limit=20) if q.strip() else near
    return render(request, "line.html", line=line, found=found, q=q, back="/decide?cause=unmapped")


@router.get("/decide/conflicts")
def preview_conflicts(
    request: Request, take: str, id: Annotated[list[int] | None, Query()] = None
) -> Response:
    """What a decision of several conflicts would do, before it is made."""
    _require_side(take)
    with service_of(request).database.reading() as connection:
        found = [read_conflict(connection, one) for one in (id or [])[:PAGE]]
    rows = [one | effects(one) for one in found if one is not None and one["resolved_at"] is None]
    return render(request, "decide_preview.html", rows=rows, take=take)


@router.post("/decide/conflicts")
async def settle_conflicts(
    request: Request, take: Annotated[str, Form()], id: Annotated[list[int], Form()]
) -> Response:
    """Decides one conflict or several."""
    _require_side(take)
    context = service_of(request).sync_context(request.state.request_id)
    by, failed = person_of(request).name, []
    for one in id[:PAGE]:
        try:
            await in_own_loop(lambda one=one: resolve(context, one, take, by))  # type: ignore[misc]
        except ExpectedError as why:
            if len(id) == 1:
                raise
            failed.append(str(why))
    count = len(id) - len(failed)
    whose = "The shop's side counts" if take == "shop" else "The marketplace's side counts"
    text = f"{whose} for {count} conflict{'s' if count != 1 else ''}." + "".join(
        f" {why}" for why in failed[:3]
    )
    return await done(
        request,
        text,
        "/decide?cause=conflict",
        undo=f"/decide/conflicts/{id[0]}/undo" if len(id) == 1 else None,
    )


@router.post("/decide/conflicts/{conflict_id}/undo")
async def undo_decision(request: Request, conflict_id: int) -> Response:
    """Takes a decision back."""
    context = service_of(request).sync_context(request.state.request_id)
    conflict = await in_thread(undo_resolution, context, conflict_id, person_of(request).name)
    return await done(
        request, f"The conflict about the {conflict['field']} of {conflict['sku']} is open again."
    )


def effects(conflict: Row) -> dict[str, str]:
    """What each decision of a conflict does, in a sentence. Pure."""
    field, ours, theirs = conflict["field"], conflict["shop_value"], conflict["fourseller_value"]
    if field == "listing":
        return {
            "if_shop": "The item is listed again with the next push.",
            "if_marketplace": "It stays off 4Seller until it is released.",
        }
    shop = f"4Seller gets {ours if field != 'content' else 'the content of the shop'} with the next push."
    if field == "quantity":
        delta = conflict["delta"] or 0
        return {
            "if_shop": shop,
            "if_marketplace": f"The shop's stock changes by {delta:+d}, as a row of the ledger.",
        }
    return {
        "if_shop": shop,
        "if_marketplace": f"4Seller keeps {theirs}: the {field} is pinned until it is released.",
    }


def _require_side(take: str) -> None:
    if take not in SIDES:
        raise WrongInput("Say whose side counts: shop or marketplace.")
