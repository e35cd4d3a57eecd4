"""Stock: what runs out first, by the sales of four weeks, and what sells most."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from midas_pipelines.gateway.console.guard import ConsoleRoute
from midas_pipelines.gateway.console.web import csv_file, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.stock.sales_velocity import top_movers
from midas_pipelines.sync.operations.low_stock import soonest_low

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

MOST_SHOWN = 100
MOST_IN_FILE = 100_000


@router.get("/stock")
def stock(request: Request) -> Response:
    """The hundred items that run out first."""
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
