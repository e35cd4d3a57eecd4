"""Machine room: every workflow as it really is, what waits and how fast it goes, and the runs that a person may start."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from midas_pipelines.errors import CallRefused, WrongInput
from midas_pipelines.gateway.console.guard import ConsoleRoute, done
from midas_pipelines.gateway.console.web import person_of, render
from midas_pipelines.gateway.dagster_launcher import Switch
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.lib.timetable import entry, is_on, next_run
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.items.worker_liveness import RESTORED, allow_pushes, stop_pushes, why_stopped
from midas_pipelines.store.operations.overview import overview
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.operations.sync_metrics import finished_syncs, sum_up
from midas_pipelines.sync.product_sync import Mode, sync_products
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.threads import in_own_loop
from midas_pipelines.workflows import WORKFLOWS

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

HOUR = 3600


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
    service, run_id = service_of(request), request.state.request_id
    if what == "order_import":
        service.background.start(lambda: _import(service))
        return await done(request, "Orders are being imported.")
    if service.orchestrator.configured:
        launched = await service.orchestrator.launch(what, {})
        return await done(request, f"Dagster runs it as {launched.run_id}.")
    service.background.start(lambda: _here(service, what, run_id))
    return await done(request, "It runs in this gateway now.")


@router.post("/machine-room/pause")
async def pause(request: Request) -> Response:
    """Stops every push to 4Seller; orders are imported as ever."""
    service, by = service_of(request), person_of(request).actor

    def work() -> None:
        with service.database.writing() as connection:
            if why_stopped(connection) is None:
                stop_pushes(connection, f"paused by {by}")

    await asyncio.to_thread(work)
    return await done(request, "Nothing is pushed to 4Seller until you let it again. Orders still come in.")


@router.post("/machine-room/resume")
async def resume(request: Request) -> Response:
    """Ends a pause; not the stop after a restore, which an import of orders ends."""
    service = service_of(request)

    def work() -> None:
        with service.database.writing() as connection:
            reason = why_stopped(connection)
            if reason is not None and reason.startswith(RESTORED):
                raise WrongInput(
                    "The database was restored: pushing starts once the orders since then were imported."
                )
            allow_pushes(connection)

    await asyncio.to_thread(work)
    return await done(request, "Changes are pushed to 4Seller again.")


async def _import(service: Service) -> None:
    await service.imports.run()


async def _here(service: Service, what: str, run_id: str) -> None:
    context = service.sync_context(run_id)
    if what == "full_sync":
        await in_own_loop(lambda: sync_products(context, Mode.FULL))
    else:
        await in_own_loop(lambda: reconcile(context))


def _facts(service: Service, switches: dict[str, Switch]) -> dict[str, Any]:
    now, settings = datetime.now(UTC), service.settings
    with service.database.reading() as connection:
        inbox = webhooks.backlog(connection)
        stopped = why_stopped(connection)
    syncs = {row["kind"]: row for row in last_syncs(service.database)}
    rows = []
    for workflow in WORKFLOWS:
        switch = switches.get(workflow.name) or Switch(
            is_on(settings, workflow), next_run(settings, workflow, now)
        )
        rows.append(
            {
                "name": workflow.name,
                "what": workflow.what,
                "kind": workflow.kind,
                "every": entry(settings, workflow).every,
                "switch": switch,
                "last": syncs.get(workflow.kind) if workflow.kind else None,
            }
        )
    return {
        "rows": rows,
        "seen": overview(service.database),
        "inbox": inbox,
        "stopped": stopped,
        "restored": stopped is not None and stopped.startswith(RESTORED),
        "pace": sum_up(finished_syncs(service.database, HOUR)),
        "limit": settings.rate_limit,
    }
