"""The stream of live numbers: one connection for each open page."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from midas_pipelines.gateway.console.guard import ConsoleRoute
from midas_pipelines.gateway.console.live import Live

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)


@router.get("/live")
async def live(request: Request) -> Response:
    """Counts of what needs a person, and the progress of running syncs."""
    numbers: Live = request.app.state.live
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(numbers.stream(), media_type="text/event-stream", headers=headers)
