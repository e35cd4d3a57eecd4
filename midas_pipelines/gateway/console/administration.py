"""Pages of admins: keys, settings, the audit log, and the doctor's report."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from midas_pipelines.gateway.console.guard import ConsoleRoute, done
from midas_pipelines.gateway.console.web import Before, person_of, render
from midas_pipelines.gateway.service import service_of
from midas_pipelines.lib.doctor.report import doctor_report
from midas_pipelines.lib.settings_list import setting_rows
from midas_pipelines.store.gateway.audit import AuditFilter, read_audit
from midas_pipelines.store.gateway.keys import Caller, Role, create_key, list_keys, revoke_key, rotate_key
from midas_pipelines.store.operations.cursors import last_proofs, record_proof

router = APIRouter(include_in_schema=False, route_class=ConsoleRoute)

PAGE = 50
EVENTS = ("asked", "answered", "refused")
STATES = ("wrong", "warning", "ok")
KeyId = Annotated[str, Form(pattern=r"^\w{1,20}$")]


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
    with service.database.writing() as connection:
        made = create_key(connection, name=name, role=role, days=days or service.settings.key_days)
    return _keys_page(request, made)


@router.post("/keys/rotate")
def rotate(
    request: Request, key_id: KeyId, grace_minutes: Annotated[int, Form(ge=0, le=10_080)] = 0
) -> Response:
    """Replaces a key, and shows the new one, once."""
    service = service_of(request)
    with service.database.writing() as connection:
        made = rotate_key(connection, key_id, grace_minutes=grace_minutes, days=service.settings.key_days)
    return _keys_page(request, made)


@router.post("/keys/revoke")
def revoke(request: Request, key_id: KeyId) -> Response:
    """Ends a key, and every session that was begun with it, at once."""
    with service_of(request).database.writing() as connection:
        caller = revoke_key(connection, key_id)
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
    lines = doctor_report(service_of(request).settings)
    return render(request, "doctor.html", lines=sorted(lines, key=lambda line: STATES.index(line.state)))


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
    database = service_of(request).database
    since = database.now() - timedelta(days=int(days)) if days else None
    which = AuditFilter(who.strip(), what.strip(), event, since)
    with database.reading() as connection:
        rows = read_audit(connection, before=before, limit=PAGE, which=which)
    asked = {"who": who, "what": what, "event": event, "days": days}
    more = rows[-1]["id"] if len(rows) == PAGE else None
    return render(request, "activity.html", rows=rows, asked=asked, more=more, events=EVENTS)
