"""Numbers for open pages over one connection each: read once for all of them, sent when they change."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from midas_pipelines.gateway.console.guard import ConsoleRoute
from midas_pipelines.gateway.service import Service
from midas_pipelines.store.operations.backlog import CAUSES, needs_a_person, read_backlog
from midas_pipelines.store.operations.sync_log import running_syncs

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

EVERY_SECONDS = 3.0
LOOK_SECONDS = 0.5
"""How soon a stream notices that the gateway is ending."""

LONGEST_SECONDS = 600.0
"""Then the browser connects again, and its session is checked again."""

log = logging.getLogger(__name__)


class Live:
    """One reader for all open pages of a process; it reads only while a page is open."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._read_at = -EVERY_SECONDS
        self._text = ""
        self._reading = asyncio.Lock()

    async def stream(self) -> AsyncIterator[str]:
        """Server-sent events: the numbers now, and again whenever they change."""
        sent, until = "", time.monotonic() + LONGEST_SECONDS
        yield "retry: 5000\n\n"
        while time.monotonic() < until and not self._service.is_ending():
            text = await self._newest()
            if text != sent:
                sent = text
                yield f"data: {text}\n\n"
            await asyncio.sleep(LOOK_SECONDS)

    async def _newest(self) -> str:
        async with self._reading:
            if time.monotonic() - self._read_at >= EVERY_SECONDS:
                try:
                    self._text = await asyncio.to_thread(self._read)
                except (sa.exc.DBAPIError, sa.exc.TimeoutError) as failed:
                    log.warning("Live numbers could not be read: %s.", type(failed).__name__)
                self._read_at = time.monotonic()
        return self._text

    def _read(self) -> str:
        with self._service.database.reading() as connection:
            found = {one.cause: one.count for one in needs_a_person(connection)}
            running = running_syncs(connection)
            backlog = read_backlog(connection)
        waiting = {"items_waiting": backlog.dirty, "webhooks_waiting": backlog.webhooks}
        numbers: dict[str, Any] = waiting | {cause: found.get(cause, 0) for cause in CAUSES}
        numbers["to_decide"] = sum(found.values()) or ""
        numbers["running"] = {one.kind: [one.done, one.total] for one in running}
        numbers |= {f"progress_{one.kind}": str(one) for one in running}
        return json.dumps(numbers, sort_keys=True)


@router.get("/live")
async def live(request: Request) -> Response:
    """Counts of what needs a person, and the progress of running syncs."""
    numbers: Live = request.app.state.live
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(numbers.stream(), media_type="text/event-stream", headers=headers)
