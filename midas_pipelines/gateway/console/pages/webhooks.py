"""Webhooks: the events that 4Seller sent, those quarantined with their reason, replayed by a click."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.errors import CallRefused, ExpectedError
from midas_pipelines.gateway.console.guard import ConsoleRoute, done
from midas_pipelines.gateway.console.web import Before, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.store.gateway import webhooks as inbox
from midas_pipelines.store.gateway.notifications import notify
from midas_pipelines.store.privacy.masked import without_persons
from midas_pipelines.store.schema.wake_triggers import WEBHOOKS

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

PAGE = 50
STATES = ("quarantined", "pending", "applied", "superseded", "all")


@router.get("/webhooks")
def webhooks(request: Request, state: str = "quarantined", before: Before = None) -> Response:
    """The newest events in a state."""
    state = state if state in STATES else "quarantined"
    with service_of(request).database.reading() as connection:
        rows = inbox.listed(connection, state=state, limit=PAGE, before=before)
        left = inbox.backlog(connection)
    more = rows[-1]["id"] if len(rows) == PAGE else None
    return render(request, "webhooks.html", rows=rows, left=left, state=state, states=STATES, more=more)


@router.post("/webhooks/replay")
async def replay_events(
    request: Request,
    webhook: Annotated[list[str] | None, Form()] = None,
    everything: Annotated[str, Form()] = "",
) -> Response:
    """Applies the chosen events again, or all that are quarantined; one that was applied has no second effect."""
    database = service_of(request).database
    if not webhook and everything != "yes":
        raise CallRefused(422, "Choose the events to replay.")

    def work() -> int:
        with database.writing() as connection:
            put_back = inbox.replay(connection, None if everything == "yes" else webhook)
            notify(connection, WEBHOOKS)
        return len(put_back)

    count = await asyncio.to_thread(work)
    return await done(request, f"{count} events are put back; the gateway's worker applies them now.")


@router.get("/webhooks/payload")
def payload(request: Request, id: Annotated[str, Query(max_length=200)]) -> Response:
    """What an event said, without what names a person; for admins."""
    service = service_of(request)
    with service.database.reading() as connection:
        row = inbox.find_webhook(connection, id)
    if row is None:
        raise CallRefused(404, "There is no such event: it may have been deleted by its age.")
    said: Any
    try:
        said = json.dumps(without_persons(service.vault.open(row.payload)), indent=2, ensure_ascii=False)
    except ExpectedError as why:
        said = str(why)
    return render(request, "webhook.html", row=row, said=said)
