"""Orders: the list, one order's timeline, and the clicks on it, each by the function that its command calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import uuid4

import sqlalchemy as sa
from fastapi import APIRouter, Form, Query, Request, Response

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.carriers import CARRIERS, BadTracking, tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.gateway.api.readings import Before, older
from midas_pipelines.gateway.console import web
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.orders.listing import Filters, list_orders
from midas_pipelines.storefront.catalog import find_item
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders import lookup
from midas_pipelines.sync.orders.changes import exceptions
from midas_pipelines.sync.orders.changes.shipments import NewShipment
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.status.status_sync import change_status
from midas_pipelines.sync.orders.stock import pending_lines
from midas_pipelines.sync.orders.stock.units import left_to_ship, restock_units, returnable
from midas_pipelines.sync.privacy.erase import erase_order
from midas_pipelines.sync.threads import in_own_loop

router = APIRouter(include_in_schema=False, route_class=web.ConsoleRoute)

MOST = 2**31 - 1
ONE = "/orders/{order_id:path}"
Line = Annotated[int, Form(ge=1, le=MOST)]
Units = Annotated[int, Form(ge=1, le=100_000)]
OneOrAll = Annotated[int | None, Form(ge=1, le=MOST)]
Text = Annotated[str, Form(max_length=200)]
Tick = Annotated[str, Form()]
Decision = Annotated[Literal["shipped", "cancelled"], Form()]
Goal = Annotated[Literal["processing", "delivered", "cancelled", "refunded"], Form()]


@router.get("/orders")
def order_list(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    status: str = "",
    sales_channel: Annotated[str, Query(max_length=50)] = "",
    exception: str = "",
    before: Before = None,
) -> Response:
    """The newest first; a search opens the order with that id."""
    service, problem = service_of(request), None
    if q.strip():
        try:
            return web.go_to(_path(service.read(lookup.find_order, q).marketplace_order_id))
        except lookup.NoSuchOrder as none:
            problem = str(none)
    wanted = {"yes": True, "no": False}.get(exception)
    filters = Filters(status or None, sales_channel or None, wanted)
    rows = service.read(list_orders, filters, before=before, limit=web.PAGE)
    asked = {"status": status, "sales_channel": sales_channel, "exception": exception}
    shown: dict[str, Any] = {"asked": asked, "q": q, "problem": problem, "statuses": [*OrderStatus]}
    return web.render(request, "orders.html", rows=rows, more=older(rows, web.PAGE), **shown)


@router.get("/orders/check-number")
def check_number(request: Request, carrier: str = "", number: str = "") -> Response:
    """Whether a tracking number fits its carrier, as it is typed."""
    try:
        label = tracking(carrier[:100], number[:200])
        return web.fragment("check", "good", [f"{label.carrier} {label.number}"])
    except BadTracking as why:
        return web.fragment("check", "bad", [str(why)])


@router.get(ONE)
def order_page(request: Request, order_id: str) -> Response:
    """One order: its lines, its timeline, and what can be done."""
    return _page(request, order_id)


@router.post(ONE + "/buyer")
def show_buyer(request: Request, order_id: str) -> Response:
    """The same with the buyer; that someone looked is in the audit log."""
    order = _row(request, order_id).local_order_id
    query = sa.select(orders.c.shipping_address).where(orders.c.id == order)
    address = service_of(request).database.scalar(query)
    return _page(request, order_id, buyer=address if isinstance(address, dict) else {"address": address})


@router.post(ONE + "/map")
def map_to_item(request: Request, order_id: str, line: Line, sku: Text, always: Tick = "") -> Response:
    """Maps a line to an item."""
    _give_item(request, "map", pending_lines.map_line, order_id, line, sku, remember=bool(always))
    return _undoable(request, f"Line {line} of order {order_id} is {sku}.", "map", line=line, always=always)


@router.post(ONE + "/substitute")
def substitute(request: Request, order_id: str, line: Line, sku: Text) -> Response:
    """Serves an oversold line from another item."""
    _give_item(request, "substitute", pending_lines.substitute_item, order_id, line, sku)
    return web.done(request, f"Line {line} of order {order_id} is served by {sku}.")


@router.post(ONE + "/restock")
def restock_for(
    request: Request, order_id: str, line: Line, units: Units, once: Text, first: Tick = ""
) -> Response:
    """Books stock that came in for an oversold line."""
    row, context = _row(request, order_id), _context(request, "restock")
    database = service_of(request).database
    lacks = pending_lines.restock_line(database, row.id, line, units, context, once, bool(first))
    rest = f"order {order_id} has all of line {line}"
    if lacks:
        rest = f"line {line} of order {order_id} still lacks {lacks}"
    text = f"{units} units are in stock and allocated: {rest}."
    return _undoable(request, text, "restock", line=line, once=once)


@router.post(ONE + "/resolve")
def resolve_order(request: Request, order_id: str, decision: Decision, restock: Tick = "") -> Response:
    """Ends a contradiction between shop and marketplace."""
    with _locked(request, order_id, "resolve") as order:
        exceptions.resolve_conflict(order, decision, restock=bool(restock) and decision == "cancelled")
    return web.done(request, f"Order {order_id} counts as {decision}.")


@router.post(ONE + "/retry")
async def retry_one(request: Request, order_id: str) -> Response:
    """Reads the order again and does what is open on it."""
    context = web.clicked(request, "retry")
    result = await in_own_loop(lambda: lookup.retry_order(context, order_id))
    still = result.reason or (result.exception or "").replace(",", ", ").replace("_", " ")
    rest = f"Still open: {still}" if still else "Nothing is open on it."
    return web.done(request, f"Order {result.order} was read again. {rest}")


@router.post(ONE + "/dismiss")
def dismiss_exceptions(request: Request, order_id: str) -> Response:
    """Accepts the order as it is."""
    with _locked(request, order_id, "dismiss") as order:
        seen = exceptions.dismiss(order)
    text = f"Order {order_id}: {', '.join(seen).replace('_', ' ')} dismissed."
    return _undoable(request, text, "dismiss", seen=",".join(seen))


@router.post(ONE + "/undo")
def undo_click(
    request: Request,
    order_id: str,
    what: Annotated[Literal["map", "restock", "dismiss"], Form()],
    line: OneOrAll = None,
    always: Tick = "",
    once: Text = "",
    seen: Text = "",
) -> Response:
    """Takes back the item of a line, stock that was booked for it, or a dismissal."""
    with _locked(request, order_id, "undo") as order:
        if what == "dismiss":
            exceptions.undo_dismissal(order, seen.split(","))
        elif what == "map":
            pending_lines.unmap_line(order, line or 0, forget=bool(always))
        else:
            pending_lines.undo_restock(order, line or 0, once=once)
    return web.done(request, f"Order {order_id} is as it was before.")


@router.post(ONE + "/ship")
async def ship_order(
    request: Request,
    order_id: str,
    carrier: Text,
    number: Text,
    line: OneOrAll = None,
    units: OneOrAll = None,
    force: Tick = "",
) -> Response:
    """Records a shipment of everything that is left, or of one line, whole or in part, and pushes it."""
    label, context = tracking(carrier, number, force=bool(force)), web.clicked(request, "ship")
    shipment = NewShipment(label, {line: units} if line else None)
    result = await in_own_loop(lambda: change_status(context, order_id, shipment=shipment))
    news = "4Seller knows it" if result.pushed else f"it is pushed to 4Seller later: {result.reason}"
    return web.done(request, f"{label.carrier} {label.number} is on record for order {order_id}; {news}.")


@router.post(ONE + "/status")
async def set_status(request: Request, order_id: str, status: Goal) -> Response:
    """Moves the order on."""
    context = web.clicked(request, status)
    result = await in_own_loop(lambda: change_status(context, order_id, OrderStatus(status)))
    news = "4Seller knows it" if result.pushed else f"4Seller does not know it yet: {result.reason}"
    return web.done(request, f"Order {order_id} is {result.status} in the shop; {news}.")


@router.post(ONE + "/return")
def take_return(request: Request, order_id: str, line: Line, units: Units) -> Response:
    """Puts returned units back in stock; never more than have left."""
    with _locked(request, order_id, "return") as order:
        back = restock_units(order, units={line: units})
    return web.done(request, f"{back} units of order {order_id} are back in stock.")


@router.post(ONE + "/erase")
def erase_buyer_of(request: Request, order_id: str, sure: Tick = "") -> Response:
    """Erases the buyer."""
    if sure != "yes":
        raise WrongInput("Tick the box first: a buyer who is erased is gone for good.")
    row, context = _row(request, order_id), _context(request, "erase")
    erased = erase_order(service_of(request).database, row.id, context)
    text = f"The buyer of order {order_id} is erased; amounts and stock stay."
    return web.done(request, text if erased else f"Order {order_id} has no buyer to erase any more.")


def _page(request: Request, order_id: str, *, buyer: dict[str, Any] | None = None) -> Response:
    with service_of(request).database.reading() as connection:
        row = lookup.find_order(connection, order_id)
        timeline = lookup.read_timeline(connection, row)
        stored = StoredOrder(connection, row)
        away, found = returnable(stored), stored.lines()
    left = {one.line: {"to_ship": left_to_ship(one), "away": away[one.line]} for one in found}
    lines = [line | left[line["line"]] for line in timeline.lines]
    shown: dict[str, Any] = {"row": row, "order": timeline.order, "lines": lines, "entries": timeline.entries}
    shown["carriers"] = [one.names[0] for one in CARRIERS]
    return web.render(request, "order.html", buyer=buyer, once=uuid4().hex, **shown)


def _path(order_id: str) -> str:
    return f"/orders/{quote(order_id, safe='')}"


def _row(request: Request, order_id: str) -> sa.Row[Any]:
    return service_of(request).read(lookup.find_order, order_id)


def _give_item(
    request: Request, what: str, give: Callable[..., object], order_id: str, line: int, sku: str, **how: bool
) -> None:
    """Has `give` tie a line to the item with the SKU."""
    service, row = service_of(request), _row(request, order_id)
    item = service.read(find_item, sku)
    give(service.database, row.id, line, item, _context(request, what), **how)


@contextmanager
def _locked(request: Request, order_id: str, what: str) -> Iterator[StoredOrder]:
    """The order, locked in a transaction that writes."""
    with service_of(request).database.writing(asked=True) as connection:
        yield lock_order(connection, lookup.find_order(connection, order_id).id, _context(request, what))


def _context(request: Request, what: str) -> OrderContext:
    service = service_of(request)
    return OrderContext(web.clicked(request, what).run_id, service.vault, settings=service.settings)


def _undoable(request: Request, text: str, what: str, **fields: Any) -> Response:
    return web.done(request, text, undo=f"{_path(request.path_params['order_id'])}/undo", what=what, **fields)
