"""Authorization: the table of endpoints and roles, and the route class that enforces it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from midas_pipelines.errors import CallRefused
from midas_pipelines.fourseller.http.answers import read_json
from midas_pipelines.gateway.api.callers import Callers
from midas_pipelines.gateway.api.limits import address_of_caller, key_of
from midas_pipelines.gateway.api.problems import status_of
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import AuditEntry, note_answered, note_asked
from midas_pipelines.store.gateway.keys import Caller, Role, find_caller

PREFIX = "/api/marketplace"

ROLES: dict[tuple[str, str], Role | None] = {
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/metrics"): Role.VIEWER,
    ("POST", f"{PREFIX}/webhooks"): None,  # signed by 4Seller
    ("GET", f"{PREFIX}/status"): Role.VIEWER,
    ("GET", f"{PREFIX}/sync/products"): Role.VIEWER,
    ("POST", f"{PREFIX}/sync/products"): Role.OPERATOR,
    ("GET", f"{PREFIX}/sync/inventory"): Role.VIEWER,
    ("POST", f"{PREFIX}/sync/inventory"): Role.OPERATOR,
    ("GET", f"{PREFIX}/orders"): Role.VIEWER,
    ("POST", f"{PREFIX}/orders"): Role.OPERATOR,
    ("GET", f"{PREFIX}/orders/{{order_id}}"): Role.VIEWER,
    ("PATCH", f"{PREFIX}/orders/{{order_id}}"): Role.OPERATOR,
    ("GET", f"{PREFIX}/audit"): Role.ADMIN,
}
"""The role that each endpoint needs; None for one that needs no key."""

CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
NOTED = frozenset(
    {
        "mode",
        "skus",
        "dry_run",
        "status",
        "shipment",
        "carrier",
        "number",
        "url",
        "lines",
        "line",
        "quantity",
        "force",
    }
)
"""The fields of a request that the audit log keeps: those of its model. Any other could name a person."""

MOST_NOTED = 50
LONGEST_NOTED = 200

bearer = HTTPBearer(auto_error=False, description="A key made by `midas keys create`.")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """Admits a call when its key's role covers the endpoint, and records changes in the audit log."""

    def get_route_handler(self) -> Handler:
        """The endpoint behind its guard."""
        handler = super().get_route_handler()
        path = self.path

        async def guarded(request: Request) -> Response:
            needed = ROLES[request.method, path]
            database: Database = request.app.state.service.database
            if needed is None:
                return await handler(request)
            caller = await _caller(request, database, needed)
            if request.method not in CHANGES:
                return await handler(request)
            entry = _audit_entry(request, path, caller, await request.body())
            return await _audited(database, entry, handler, request)

        return guarded


async def _caller(request: Request, database: Database, needed: Role) -> Caller:
    """The caller by the call's key; counts valid and refused keys."""
    key = key_of(request.headers.get("authorization", ""))
    callers: Callers = request.app.state.callers
    try:
        caller = await asyncio.to_thread(_admit, database, key)
    except CallRefused:
        callers.refused(address_of_caller(request.scope), key)
        request.app.state.service.metrics.refused.labels("key").inc()
        raise
    callers.admitted(key, caller.key_id)
    if not caller.role.covers(needed):
        raise CallRefused(
            403, f"This needs the role {needed.value}; the key {caller.name} is {caller.role.value}."
        )
    return caller


def _admit(database: Database, key: str) -> Caller:
    """The caller of that key. Raises CallRefused without a valid key."""
    with database.reading() as connection:
        caller = find_caller(connection, key)
    if caller is None:
        detail = "A valid API key is needed, as `Authorization: Bearer …`: make one with `midas keys create`."
        raise CallRefused(401, detail, {"WWW-Authenticate": "Bearer"})
    return caller


def _audit_entry(request: Request, path: str, caller: Caller, body: bytes) -> AuditEntry:
    return AuditEntry(
        actor=f"{caller.key_id} {caller.name}"[:120],
        role=caller.role.value,
        action=f"{request.method} {path}"[:100],
        target=request.url.path.replace("\x00", "")[:250],
        detail={"body": _noted(body)} if body else None,
        remote=request.client.host[:64] if request.client else None,
        request_id=request.state.request_id,
    )


def _noted(body: bytes) -> Any:
    """What the audit log keeps of a body; None of one that is no JSON object."""
    try:
        value = read_json(body)
    except ValueError:
        return None
    return _kept(value) if isinstance(value, dict) else None


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _kept(part) for name, part in value.items() if name in NOTED}
    if isinstance(value, list):
        return [_kept(part) for part in value[:MOST_NOTED]]
    return value[:LONGEST_NOTED] if isinstance(value, str) else value


async def _audited(database: Database, entry: AuditEntry, handler: Handler, request: Request) -> Response:
    await asyncio.to_thread(_note, database, entry)
    status = 500
    try:
        response = await handler(request)
        status = response.status_code
    except Exception as error:
        status = status_of(error)
        raise
    finally:
        await asyncio.to_thread(_note, database, entry, status)
    return response


def _note(database: Database, entry: AuditEntry, status: int | None = None) -> None:
    with database.writing() as connection:
        if status is None:
            note_asked(connection, entry)
        else:
            note_answered(connection, entry, status)
