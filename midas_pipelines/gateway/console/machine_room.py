"""Machine room: every workflow as it really is, what waits and how fast it goes, the runs that a person may start, and
the events that 4Seller sent."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.errors import CallRefused, ExpectedError, WrongInput
from midas_pipelines.gateway.console.guard import ConsoleRoute, done
from midas_pipelines.gateway.console.web import Before, person_of, render
from midas_pipelines.gateway.dagster_launcher import Switch
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.lib.timetable import entry, is_on, next_run
from midas_pipelines.store.gateway import webhooks as inbox
from midas_pipelines.store.gateway.notifications import notify
from midas_pipelines.store.items.claims import RESTORED, allow_pushes, stop_pushes, why_stopped
from midas_pipelines.store.operations.backlog import overview, read_backlog
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.operations.sync_metrics import finished_syncs, sum_up
from midas_pipelines.store.privacy.persons import without_persons
from midas_pipelines.store.schema.wake_triggers import WEBHOOKS
from midas_pipelines.sync.product_sync import Mode, sync_products
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.threads import in_own_loop
from midas_pipelines.workflows import WORKFLOWS

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

HOUR = 3600
PAGE = 50
STATES = ("quarantined", "pending", "applied", "superseded", "all")


@router.get("/machine-room")
async def machine_room(request: Request) -> Response:
    """The workflows, the backlog, and the pace of the last hour."""
    service = service_of(request)
    switches: dict[str, Switch] = {}
    trouble = "" if service.orchestrator.configured else "No Dagster is connected: set MIDAS_DAGSTER_URL."
    if service.orchestrator.configured:
        try:
            switches = await service.orchestrator.switches()
        except CallRefused as why:
            trouble = str(why)
    facts = await asyncio.to_thread(_facts, service, switches)
    return render(
        request, "machine_room.html", trouble=trouble, dagster=service.settings.dagster_url, **facts
    )


@router.post("/machine-room/run")
async def start(
    request: Request, what: Annotated[Literal["full_sync", "order_import", "consistency_check"], Form()]
) -> Response:
    """Starts a workflow: as a Dagster run where there is a Dagster, else in this process."""
    service = service_of(request)
    context = service.sync_context(request.state.request_id)

    async def here() -> None:
        if what == "order_import":
            await service.imports.run()
        elif what == "full_sync":
            await in_own_loop(lambda: sync_products(context, Mode.FULL))
        else:
            await in_own_loop(lambda: reconcile(context))

    if what != "order_import" and service.orchestrator.configured:
        launched = await service.orchestrator.launch(what, {})
        return done(request, f"Dagster runs it as {launched.run_id}.")
    service.background.start(here)
    return done(request, "It runs in this gateway now.")


@router.post("/machine-room/pause")
def pause(request: Request) -> Response:
    """Stops every push to 4Seller; orders are imported as ever."""
    with service_of(request).database.writing() as connection:
        if why_stopped(connection) is None:
            stop_pushes(connection, f"paused by {person_of(request).actor}")
    text = "Nothing is pushed to 4Seller until you let it again. Orders still come in."
    return done(request, text, undo="/machine-room/resume")


@router.post("/machine-room/resume")
def resume(request: Request) -> Response:
    """Ends a pause; not the stop after a restore, which an import of orders ends."""
    with service_of(request).database.writing() as connection:
        if (why_stopped(connection) or "").startswith(RESTORED):
            raise WrongInput(
                "The database was restored: pushing starts once the orders since then were imported."
            )
        allow_pushes(connection)
    return done(request, "Changes are pushed to 4Seller again.", undo="/machine-room/pause")


def _facts(service: Service, switches: dict[str, Switch]) -> dict[str, Any]:
    now, settings = datetime.now(UTC), service.settings
    with service.database.reading() as connection:
        stopped = why_stopped(connection)
    syncs = {row["kind"]: row for row in last_syncs(service.database)}
    rows = [
        {
            "name": workflow.name,
            "what": workflow.what,
            "kind": workflow.kind,
            "every": entry(settings, workflow).every,
            "switch": switches.get(workflow.name)
            or Switch(is_on(settings, workflow), next_run(settings, workflow, now)),
            "last": syncs.get(workflow.kind) if workflow.kind else None,
        }
        for workflow in WORKFLOWS
    ]
    return {
        "rows": rows,
        "seen": overview(service.database),
        "stopped": stopped,
        "restored": stopped is not None and stopped.startswith(RESTORED),
        "pace": sum_up(finished_syncs(service.database, HOUR)),
        "limit": settings.rate_limit,
    }


@router.get("/webhooks")
def webhooks(request: Request, state: str = "quarantined", before: Before = None) -> Response:
    """The newest events in a state."""
    state = state if state in STATES else "quarantined"
    with service_of(request).database.reading() as connection:
        rows = inbox.listed(connection, state=state, limit=PAGE, before=before)
        left = read_backlog(connection)
    more = rows[-1]["id"] if len(rows) == PAGE else None
    return render(request, "webhooks.html", rows=rows, left=left, state=state, states=STATES, more=more)


@router.post("/webhooks/replay")
def replay_events(
    request: Request,
    webhook: Annotated[list[str] | None, Form()] = None,
    everything: Annotated[str, Form()] = "",
) -> Response:
    """Applies the chosen events again, or all that are quarantined; one that was applied has no second effect."""
    if not webhook and everything != "yes":
        raise CallRefused(422, "Choose the events to replay.")
    with service_of(request).database.writing() as connection:
        put_back = inbox.replay(connection, None if everything == "yes" else webhook)
        notify(connection, WEBHOOKS)
    return done(request, f"{len(put_back)} events are put back; the gateway's worker applies them now.")


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
