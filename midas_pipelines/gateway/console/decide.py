"""To decide: one inbox, a card for each thing that waits for a person, with the buttons that end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import uuid4

import sqlalchemy as sa
from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.errors import ExpectedError, WrongInput
from midas_pipelines.gateway.console.guard import ConsoleRoute, clicked, done
from midas_pipelines.gateway.console.today import ELSEWHERE, href
from midas_pipelines.gateway.console.web import person_of, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.items.conflicts import list_conflicts, read_conflict, resolve_conflicts
from midas_pipelines.store.items.listing import list_items, suggest_items
from midas_pipelines.store.operations.backlog import CAUSES, needs_a_person
from midas_pipelines.store.orders.listing import (
    LINE_ID,
    OVERSOLD,
    UNMAPPED,
    Filters,
    list_orders,
    waiting_lines,
)
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.sync.connect.first_connection import confirm_matches
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.reconcile.conflicts import SIDES, close_alerts, resolve, undo_resolution
from midas_pipelines.sync.threads import in_own_loop, in_thread

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

PAGE = 50
Row = dict[str, Any]
Reader = Callable[[sa.Connection, int, str], list[Row]]


def _lines(which: sa.ColumnElement[bool]) -> Reader:
    return lambda connection, skip, _: waiting_lines(connection, which, skip=skip, limit=PAGE)


def _orders(*exceptions: str) -> Reader:
    wanted = Filters(exception=exceptions)
    return lambda connection, skip, _: list_orders(connection, wanted, skip=skip, limit=PAGE)


def _conflicts(*, orphans: bool) -> Reader:
    return lambda connection, skip, about: list_conflicts(
        connection, orphans=orphans, about=about, skip=skip, limit=PAGE
    )


CARDS: dict[str, Reader] = {
    "oversold": _lines(OVERSOLD),
    "unmapped": _lines(UNMAPPED),
    "order_conflict": _orders("conflict"),
    "quarantined_order": _orders("quarantined"),
    "refused": _orders("refused"),
    "order_to_look_at": _orders("quantity", "total_mismatch", "unknown_status", "edited", "deleted"),
    "conflict": _conflicts(orphans=False),
    "orphan": _conflicts(orphans=True),
    "quarantined_item": lambda connection, skip, _: list_items(
        connection, state="failing", skip=skip, limit=PAGE
    ),
}
"""How the cards of each cause are read, the most money at stake first: behind how many, and about which conflict."""


@router.get("/decide")
def inbox(
    request: Request,
    cause: str | None = None,
    skip: Annotated[int, Query(ge=0, le=2**31)] = 0,
    about: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """The cards of one cause; of the worst one where none is named."""
    with service_of(request).database.reading() as connection:
        waiting = needs_a_person(connection)
        here = [one for one in waiting if one.cause not in ELSEWHERE]
        shown = cause if cause in CARDS else (here[0].cause if here else None)
        cards = CARDS[shown](connection, skip, about) if shown else []
    return render(
        request,
        "decide.html",
        waiting=[(one, href(one)) for one in waiting],
        cause=shown,
        title=CAUSES[shown] if shown else "",
        cards=[card | effects(card) for card in cards] if shown == "conflict" else cards,
        more=skip + PAGE if len(cards) == PAGE else None,
        once=uuid4().hex,
    )


@router.get("/decide/choose/{what}/{number}")
def choose_item(
    request: Request,
    what: Literal["map", "substitute", "adopt"],
    number: int,
    q: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Which item an unmapped line or a product of 4Seller is, or goes in place of an oversold one: the nearest by name."""
    with service_of(request).database.reading() as connection:
        if what == "adopt":
            found = list_conflicts(connection, orphans=True, after=number - 1, limit=1)
        else:
            which = sa.and_(UNMAPPED if what == "map" else OVERSOLD, LINE_ID.in_([number]))
            found = waiting_lines(connection, which, limit=1)
        if not found or found[0]["id"] != number:
            raise WrongInput("This waits no more: it was decided, or its order has ended.")
        card = found[0]
        title = card["fourseller_value"] if what == "adopt" else card["title"]
        near = suggest_items(connection, title or "", card["sku"] or "", in_stock=what == "substitute")
        shown = list_items(connection, text=q, limit=20) if q.strip() else near
    action = f"/decide/adopt/{number}"
    if what != "adopt":
        action = f"/orders/{quote(card['marketplace_order_id'], safe='')}/{what}"
    return render(request, "choose.html", what=what, card=card, title=title, found=shown, q=q, action=action)


@router.post("/decide/adopt/{conflict_id}")
async def adopt(request: Request, conflict_id: int, sku: Annotated[str, Form(max_length=50)]) -> Response:
    """Ties a product of 4Seller that was no item's to the item with the SKU; the next push brings it up to date."""
    context, by = clicked(request, "adopt"), person_of(request).name
    with context.database.reading() as connection:
        conflict = read_conflict(connection, conflict_id)
    if conflict is None or conflict["resolved_at"] is not None or conflict["field"] != "unknown":
        raise WrongInput("This product waits no more: it was decided, or is gone.")
    pair = (sku, str(conflict["fourseller_product_id"]))
    await in_own_loop(lambda: confirm_matches(context, [pair], accept=False))
    await in_thread(_close_adopted, context, conflict_id, by)
    return done(request, f"The product {pair[1]} is {sku} from now on.", "/decide?cause=orphan")


def _close_adopted(context: SyncContext, conflict_id: int, by: str) -> None:
    with context.database.writing() as connection:
        mine = sync_conflicts.c.id == conflict_id
        close_alerts(connection, resolve_conflicts(connection, mine, resolution="adopted", by=by))


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
