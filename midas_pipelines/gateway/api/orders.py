"""`/api/marketplace/orders`: list, show, import, update. No response contains buyer data."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

from midas_pipelines.fourseller.carriers import tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.gateway.api.auth import PREFIX, GuardedRoute
from midas_pipelines.gateway.api.readings import Before, Limit, PageOfRows, older
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.orders.listing import Filters, list_orders
from midas_pipelines.sync.orders.changes.shipments import NewShipment
from midas_pipelines.sync.orders.intake.pages import OrderReport
from midas_pipelines.sync.orders.lookup import Timeline, find_order, read_timeline
from midas_pipelines.sync.orders.status.status_sync import StatusChanged, change_status

router = APIRouter(prefix=PREFIX, route_class=GuardedRoute, tags=["orders"])

MOST = 2**31 - 1  # the largest number of a line, and of its units, that the database takes

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
OrderId = Annotated[Text, Path(description="The marketplace's id, the order number, or the shop's own id.")]


def _in_utc(moment: datetime) -> datetime:
    """The moment in UTC; the first or the last one there is where an offset leads beyond them."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        ends = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        return ends[moment.year != 1]


def _no_number(value: object) -> object:
    """Raises ValueError for a bare number, which would pass for seconds since 1970."""
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?[0-9.]+\s*", value):
        raise ValueError("must be a date and time with an offset")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_no_number), AfterValidator(_in_utc)]


class OrderRow(BaseModel):
    """A marketplace order."""

    marketplace_order_id: str
    local_order_id: int | None
    order_number: str | None = Field(description="The shop's own number.")
    sales_channel: str | None
    status: str
    outcome: str = Field(description="imported, or quarantined")
    exception: str | None = Field(description="What needs a person.")
    reason: str | None
    currency: str | None
    total: Decimal | None
    placed_at: datetime | None
    imported_at: datetime


class OrderPage(PageOfRows):
    """Orders, the newest first."""

    data: list[OrderRow]  # type: ignore[assignment]


def _whole(value: object) -> object:
    """JSON's 2.0 is an integer to the schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(_whole)]


class Packed(BaseModel):
    """The units of one line in a shipment."""

    model_config = ConfigDict(extra="forbid", strict=True)

    line: Annotated[Count, Field(description="As numbered in the order's timeline.")]
    quantity: Count


class Shipment(BaseModel):
    """A shipment."""

    model_config = ConfigDict(extra="forbid", strict=True)

    carrier: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    number: Annotated[str, Field(max_length=100, pattern=r"^[\x20-\x7e]*[0-9][\x20-\x7e]*$")]
    url: Annotated[str, Field(max_length=500, pattern=r"^https?://[\x21-\x7e]+$")] | None = None
    lines: Annotated[list[Packed], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="Its contents; by default all that is left to ship."
    )
    force: bool = Field(False, description="Accept a number that does not match the carrier's formats.")


class StatusPatch(BaseModel):
    """A new status of an order."""

    model_config = ConfigDict(extra="forbid", strict=True)

    status: Literal["processing", "shipped", "delivered", "cancelled", "refunded"]
    shipment: None = None


class ShipmentPatch(BaseModel):
    """A shipment of an order; without a status it means shipped when it leaves nothing to ship."""

    model_config = ConfigDict(extra="forbid", strict=True)

    shipment: Shipment
    status: Literal["shipped", "delivered"] | None = None


def _patch_of(sent: object) -> str:
    """Which of the two a body means to be, so that it is held against that one alone."""
    return "StatusPatch" if isinstance(sent, dict) and sent.get("shipment") is None else "ShipmentPatch"


OrderPatch = Annotated[
    Annotated[StatusPatch, Tag("StatusPatch")] | Annotated[ShipmentPatch, Tag("ShipmentPatch")],
    Discriminator(_patch_of),
]


@router.get("/orders", summary="List marketplace orders", response_model=OrderPage)
def get_orders(
    request: Request,
    status: OrderStatus | None = None,
    sales_channel: Annotated[Text | None, Query(description="amazon, ebay, ...")] = None,
    exception: Annotated[bool | None, Query(description="Whether they need a person.")] = None,
    placed_from: Moment | None = None,
    placed_to: Moment | None = None,
    limit: Limit = 50,
    before: Before = None,
) -> dict[str, Any]:
    """The newest first; `before` continues after a page, even if orders were imported meanwhile."""
    filters = Filters(status.value if status else None, sales_channel, exception, placed_from, placed_to)
    rows = service_of(request).read(list_orders, filters, before=before, limit=limit)
    return {"data": rows, "next": older(rows, limit)}


@router.post("/orders", summary="Import orders now")
async def post_orders(request: Request) -> OrderReport:
    """Reads what changed on 4Seller since the watermark and imports it, each order once; concurrent calls share one run."""
    return await service_of(request).imports.run()


@router.get("/orders/{order_id}", summary="One order with its timeline")
def get_order(request: Request, order_id: OrderId) -> Timeline:
    """Every step, stock movement, shipment and message, by time."""
    with service_of(request).database.reading() as connection:
        return read_timeline(connection, find_order(connection, order_id))


@router.patch("/orders/{order_id}", summary="Update an order", response_model=StatusChanged)
async def patch_order(request: Request, order_id: OrderId, body: OrderPatch) -> StatusChanged:
    """Updates the shop's order and pushes it to 4Seller. A transition that is not allowed changes nothing: 409."""
    named = f"{request.state.caller.name[:30]}: {request.state.request_id}"  # as the timeline names who acted
    context = service_of(request).sync_context(named)
    goal = OrderStatus(body.status) if body.status is not None else None
    if isinstance(body, StatusPatch):
        return await change_status(context, order_id, goal)
    sent, units = body.shipment, Counter[int]()
    for packed in sent.lines or []:
        units[packed.line] += packed.quantity
    label = tracking(sent.carrier, sent.number, url=sent.url, force=sent.force)
    return await change_status(context, order_id, goal, NewShipment(label, units or None))
