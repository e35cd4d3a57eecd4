"""To decide: one inbox, a card for each thing that waits for a person, with the buttons that end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any
from uuid import uuid4

import sqlalchemy as sa
from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.errors import ExpectedError, WrongInput
from midas_pipelines.gateway.console.guard import ConsoleRoute, clicked, done
from midas_pipelines.gateway.console.today import ELSEWHERE, href
from midas_pipelines.gateway.console.web import person_of, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.items.conflicts import list_conflicts, read_conflict
from midas_pipelines.store.items.listing import list_items, suggest_items
from midas_pipelines.store.operations.attention import CAUSES, needs_a_person
from midas_pipelines.store.orders.listing import OVERSOLD, UNMAPPED, Filters, list_orders, waiting_lines
from midas_pipelines.sync.reconcile.conflicts import SIDES, resolve, undo_resolution
from midas_pipelines.sync.threads import in_own_loop

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

PAGE = 50
Row = dict[str, Any]
Reader = Callable[[sa.Connection, int], list[Row]]


def _lines(which: sa.ColumnElement[bool]) -> Reader:
    return lambda connection, after: waiting_lines(connection, which, after=after, limit=PAGE)


def _orders(*exceptions: str) -> Reader:
    wanted = Filters(exception=exceptions)
    return lambda connection, after: list_orders(connection, wanted, after=after, limit=PAGE)


def _conflicts(*, orphans: bool) -> Reader:
    return lambda connection, after: list_conflicts(connection, orphans=orphans, after=after, limit=PAGE)


CARDS: dict[str, Reader] = {
    "oversold": _lines(OVERSOLD),
    "unmapped": _lines(UNMAPPED),
    "order_conflict": _orders("conflict"),
    "quarantined_order": _orders("quarantined"),
    "refused": _orders("refused"),
    "order_to_look_at": _orders("quantity", "total_mismatch", "unknown_status", "edited", "deleted"),
    "conflict": _conflicts(orphans=False),
    "orphan": _conflicts(orphans=True),
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
    """Decides one conflict or several; all of them can be undone together."""
    _require_side(take)
    context, by = clicked(request, "conflict"), person_of(request).name
    settled, failed = [], []
    for one in id[:PAGE]:
        try:
            await in_own_loop(lambda one=one: resolve(context, one, take, by))  # type: ignore[misc]
            settled.append(one)
        except ExpectedError as why:
            failed.append(str(why))
    if not settled:
        raise WrongInput(" ".join(failed[:3]))
    text = " ".join([f"The {take}'s side counts for {_conflicts_in_words(settled)}.", *failed[:3]])
    fields = [("id", one) for one in settled]
    return done(request, text, "/decide?cause=conflict", undo="/decide/conflicts/undo", fields=fields)


@router.post("/decide/conflicts/undo")
def undo_decisions(request: Request, id: Annotated[list[int], Form()]) -> Response:
    """Takes decisions back, where nothing has gone out for them."""
    context, by = clicked(request, "undo"), person_of(request).name
    undone, failed = [], []
    for one in id[:PAGE]:
        try:
            undone.append(undo_resolution(context, one, by))
        except ExpectedError as why:
            failed.append(str(why))
    if not undone:
        raise WrongInput(" ".join(failed[:3]))
    return done(request, " ".join([f"{_conflicts_in_words(undone)} open again.", *failed[:3]]))


def _conflicts_in_words(found: Sequence[object]) -> str:
    return f"{len(found)} conflict{'s' if len(found) != 1 else ''}"


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
