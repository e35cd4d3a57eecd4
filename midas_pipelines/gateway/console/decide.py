"""To decide: one inbox, a card for each thing that waits for a person, with the buttons that end it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import uuid4

import sqlalchemy as sa
from fastapi import APIRouter, Form, Query, Request, Response

from midas_pipelines.console_pages import page_of
from midas_pipelines.errors import ExpectedError, WrongInput
from midas_pipelines.gateway.console.web import PAGE, ConsoleRoute, clicked, done, person_of, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.items.conflicts import list_conflicts, read_conflict, resolve_conflicts
from midas_pipelines.store.items.listing import list_items, suggest_items
from midas_pipelines.store.operations.backlog import CAUSES, Attention, needs_a_person
from midas_pipelines.store.orders import listing
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.sync.connect.first_connection import confirm_matches
from midas_pipelines.sync.reconcile.conflicts import resolve, undo_resolution
from midas_pipelines.sync.threads import in_own_loop, in_thread

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

Side = Literal["shop", "marketplace"]
Row = dict[str, Any]
Reader = Callable[..., list[Row]]


def _orders(*exceptions: str) -> Reader:
    return partial(listing.list_orders, filters=listing.Filters(exception=exceptions))


CARDS: dict[str, Reader] = {
    "oversold": partial(listing.waiting_lines, which=listing.OVERSOLD),
    "unmapped": partial(listing.waiting_lines, which=listing.UNMAPPED),
    "order_conflict": _orders("conflict"),
    "quarantined_order": _orders("quarantined"),
    "refused": _orders("refused"),
    "order_to_look_at": _orders("quantity", "total_mismatch", "unknown_status", "edited", "deleted"),
    "conflict": partial(list_conflicts, orphans=False),
    "orphan": partial(list_conflicts, orphans=True),
    "quarantined_item": partial(list_items, state="failing"),
}
"""How the cards of each cause are read, the most money at stake first."""


def href(attention: Attention) -> str:
    """Where that cause is resolved: its cards, or a page of its own."""
    return f"/decide?cause={attention.cause}" if attention.cause in CARDS else page_of(attention.cause)


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
        here = [one for one in waiting if one.cause in CARDS]
        shown = cause if cause in CARDS else (here[0].cause if here else None)
        which = {"about": about} if shown in ("conflict", "orphan") else {}
        cards = CARDS[shown](connection, skip=skip, limit=PAGE, **which) if shown else []
    more = skip + PAGE if len(cards) == PAGE else None
    page: dict[str, Any] = {"waiting": [(one, href(one)) for one in waiting], "cards": cards, "more": more}
    title = CAUSES[shown] if shown else ""
    return render(request, "decide.html", cause=shown, title=title, once=uuid4().hex, **page)


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
            kind = listing.UNMAPPED if what == "map" else listing.OVERSOLD
            which = sa.and_(kind, listing.LINE_ID.in_([number]))
            found = listing.waiting_lines(connection, which, limit=1)
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
    conflict = service_of(request).read(read_conflict, conflict_id)
    if conflict is None or conflict["resolved_at"] is not None or conflict["field"] != "unknown":
        raise WrongInput("This product waits no more: it was decided, or is gone.")
    pair = (sku, str(conflict["fourseller_product_id"]))
    await in_own_loop(lambda: confirm_matches(context, [pair], accept=False))
    mine = sync_conflicts.c.id == conflict_id
    close = partial(resolve_conflicts, which=mine, resolution="adopted", by=by)
    await in_thread(service_of(request).write, close)
    return done(request, f"The product {pair[1]} is {sku} from now on.", "/decide?cause=orphan")


@router.get("/decide/conflicts")
def preview_conflicts(
    request: Request, take: Side, id: Annotated[list[int] | None, Query()] = None
) -> Response:
    """What a decision of several conflicts would do, before it is made."""
    with service_of(request).database.reading() as connection:
        found = [read_conflict(connection, one) for one in (id or [])[:PAGE]]
    rows = [one for one in found if one is not None and one["resolved_at"] is None]
    return render(request, "decide_preview.html", rows=rows, take=take)


@router.post("/decide/conflicts")
async def take_sides(
    request: Request, take: Annotated[Side, Form()], id: Annotated[list[int], Form()]
) -> Response:
    """Decides one conflict or several; all of them can be undone together."""
    context, by = clicked(request, "conflict"), person_of(request).name

    async def take_side(one: int) -> object:
        return await in_own_loop(lambda: resolve(context, one, take, by))

    resolved, problems = await _each(id, take_side)
    text = f"The {take}'s side counts for {_in_words(resolved)}.{problems}"
    return done(request, text, "/decide?cause=conflict", undo="/decide/conflicts/undo", id=resolved)


@router.post("/decide/conflicts/undo")
async def undo_decisions(request: Request, id: Annotated[list[int], Form()]) -> Response:
    """Takes decisions back, where nothing has gone out for them."""
    context, by = clicked(request, "undo"), person_of(request).name
    undone, problems = await _each(id, lambda one: in_thread(undo_resolution, context, one, by))
    return done(request, f"{_in_words(undone)} open again.{problems}")


async def _each(ids: list[int], act: Callable[[int], Awaitable[object]]) -> tuple[list[int], str]:
    """The conflicts that `act` took, and why it did not take the others. Raises WrongInput where it took none."""
    taken, failed = [], []
    for one in ids[:PAGE]:
        try:
            await act(one)
            taken.append(one)
        except ExpectedError as why:
            failed.append(f" {why}")
    if not taken:
        raise WrongInput("".join(failed[:3]).strip())
    return taken, "".join(failed[:3])


def _in_words(found: Sequence[object]) -> str:
    return f"{len(found)} conflict{'s' if len(found) != 1 else ''}"
