"""Machine room: every workflow as it really is, what waits and how fast it goes, the runs that a person may start, the events
that 4Seller sent; and the pages of admins: keys, settings, the audit log, the doctor's report."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response

from midas_pipelines.errors import CallRefused, ExpectedError, WrongInput
from midas_pipelines.gateway.api.readings import Before, older
from midas_pipelines.gateway.api.status import workflow_rows
from midas_pipelines.gateway.console.web import PAGE, ConsoleRoute, done, person_of, render
from midas_pipelines.gateway.dagster_launcher import Switch
from midas_pipelines.gateway.service import service_of
from midas_pipelines.lib.doctor.report import doctor_report
from midas_pipelines.settings import setting_rows
from midas_pipelines.store.gateway import webhooks as inbox
from midas_pipelines.store.gateway.audit import read_audit
from midas_pipelines.store.gateway.keys import Caller, Role, create_key, list_keys, revoke_key, rotate_key
from midas_pipelines.store.items.claims import RESTORED, allow_pushes, stop_pushes, why_stopped
from midas_pipelines.store.operations.backlog import overview, read_backlog
from midas_pipelines.store.operations.cursors import last_proofs, record_proof
from midas_pipelines.store.operations.sync_metrics import finished_syncs, sum_up
from midas_pipelines.store.orders.payload_vault import without_persons
from midas_pipelines.sync.product_sync import Mode, sync_products
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.threads import in_own_loop, in_thread

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

HOUR = 3600
STATES = ("quarantined", "pending", "applied", "superseded", "all")
EVENTS = ("asked", "answered", "refused")
KeyId = Annotated[str, Form(pattern=r"^\w{1,20}$")]


@router.get("/machine-room")
def machine_room(request: Request) -> Response:
    """The workflows, the backlog, and the pace of the last hour."""
    service, trouble = service_of(request), ""
    switches: dict[str, Switch] = {}
    try:
        switches = service.orchestrator.switches()
    except CallRefused as why:
        trouble = str(why)
    stopped, rows = service.read(why_stopped), workflow_rows(service)
    for row in rows:
        row["switch"] = switches.get(row["name"]) or Switch(row["on"], row["next_at"])
    shown: dict[str, Any] = {"trouble": trouble, "rows": rows, "stopped": stopped}
    shown |= {"seen": overview(service.database), "pace": sum_up(finished_syncs(service.database, HOUR))}
    restored = (stopped or "").startswith(RESTORED)
    return render(request, "machine_room.html", settings=service.settings, restored=restored, **shown)


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

    if what != "order_import" and service.orchestrator.url is not None:
        run_id, _ = await in_thread(service.orchestrator.launch, what, {})
        return done(request, f"Dagster runs it as {run_id}.")
    service.background.start(here())
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
    text = "The database was restored: pushing starts once the orders since then were imported."
    with service_of(request).database.writing() as connection:
        if (why_stopped(connection) or "").startswith(RESTORED):
            raise WrongInput(text)
        allow_pushes(connection)
    return done(request, "Changes are pushed to 4Seller again.", undo="/machine-room/pause")


@router.get("/webhooks")
def webhooks(request: Request, state: str = "quarantined", before: Before = None) -> Response:
    """The newest events in a state."""
    state = state if state in STATES else "quarantined"
    with service_of(request).database.reading() as connection:
        rows = inbox.listed(connection, state=state, limit=PAGE, before=before)
        left = read_backlog(connection)
    shown: dict[str, Any] = {"rows": rows, "left": left, "more": older(rows, PAGE)}
    return render(request, "webhooks.html", state=state, states=STATES, **shown)


@router.post("/webhooks/replay")
def replay_events(
    request: Request,
    webhook: Annotated[list[str] | None, Form()] = None,
    everything: Annotated[str, Form()] = "",
) -> Response:
    """Applies the chosen events again, or all that are quarantined; one that was applied has no second effect."""
    if not webhook and everything != "yes":
        raise CallRefused(422, "Choose the events to replay.")
    put_back = service_of(request).write(inbox.replay, None if everything == "yes" else webhook)
    return done(request, f"{len(put_back)} events are put back; the gateway's worker applies them now.")


@router.get("/webhooks/payload")
def payload(request: Request, id: Annotated[str, Query(max_length=200)]) -> Response:
    """What an event said, without what names a person; for admins."""
    service = service_of(request)
    row = service.read(inbox.find_webhook, id)
    if row is None:
        raise CallRefused(404, "There is no such event: it may have been deleted by its age.")
    try:
        said = json.dumps(without_persons(service.vault.open(row.payload)), indent=2, ensure_ascii=False)
    except ExpectedError as why:
        said = str(why)
    return render(request, "webhook.html", row=row, said=said)


@router.get("/keys")
def keys(request: Request) -> Response:
    """Every key, without its secret."""
    return _keys_page(request)


@router.post("/keys")
def make_key(
    request: Request,
    name: Annotated[str, Form(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")],
    role: Annotated[Role, Form()],
    days: Annotated[int | None, Form(ge=1, le=365)] = None,
) -> Response:
    """Makes a key and shows it, once."""
    service = service_of(request)
    made = service.write(create_key, name=name, role=role, days=days or service.settings.key_days)
    return _keys_page(request, made)


@router.post("/keys/rotate")
def rotate(
    request: Request, key_id: KeyId, grace_minutes: Annotated[int, Form(ge=0, le=10_080)] = 0
) -> Response:
    """Replaces a key, and shows the new one, once."""
    service = service_of(request)
    made = service.write(rotate_key, key_id, grace_minutes=grace_minutes, days=service.settings.key_days)
    return _keys_page(request, made)


@router.post("/keys/revoke")
def revoke(request: Request, key_id: KeyId) -> Response:
    """Ends a key, and every session that was begun with it, at once."""
    caller = service_of(request).write(revoke_key, key_id)
    return done(request, f"The key {caller.key_id} ({caller.name}) is revoked.", "/keys")


@router.post("/keys/review")
def review(request: Request) -> Response:
    """Records that every valid key is still needed."""
    by = person_of(request).actor
    with service_of(request).database.writing() as connection:
        valid = [row["key_id"] for row in list_keys(connection) if row["state"] == "valid"]
        record_proof(connection, "key_review", passed=True, by=by, detail={"keys": valid})
    text = f"Recorded: {len(valid)} keys were reviewed. The next review is due in 90 days."
    return done(request, text, "/keys")


def _keys_page(request: Request, made: tuple[Caller, str] | None = None) -> Response:
    with service_of(request).database.reading() as connection:
        rows = list_keys(connection)
        reviewed = last_proofs(connection).get("key_review")
    return render(request, "keys.html", rows=rows, made=made, reviewed=reviewed, roles=[*Role])


@router.get("/settings")
def settings(request: Request) -> Response:
    """Every setting as this process has it."""
    return render(request, "settings.html", rows=setting_rows(service_of(request).settings))


@router.get("/doctor")
def doctor(request: Request) -> Response:
    """Everything that a start needs, checked now, the worst first."""
    return render(request, "doctor.html", lines=doctor_report(service_of(request).settings))


@router.get("/activity")
def activity(
    request: Request,
    who: Annotated[str, Query(max_length=100)] = "",
    what: Annotated[str, Query(max_length=100)] = "",
    event: str = "",
    days: Annotated[str, Query(pattern=r"^[0-9]{0,4}$")] = "",
    before: Before = None,
) -> Response:
    """The audit log, the newest first."""
    service = service_of(request)
    since = service.database.now() - timedelta(days=int(days)) if days else None
    which = {"who": who.strip(), "action": what.strip(), "event": event}
    rows = service.read(read_audit, before=before, limit=PAGE, since=since, **which)
    asked = {"who": who, "what": what, "event": event, "days": days}
    return render(request, "activity.html", rows=rows, asked=asked, more=older(rows, PAGE), events=EVENTS)
