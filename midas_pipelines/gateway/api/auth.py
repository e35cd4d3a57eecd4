"""What a call with a key passes: the role that its endpoint needs, the audit log, and `Idempotency-Key`: of calls with the
same key and body one is executed, and all get its answer, which is kept for 24 hours."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

import sqlalchemy as sa
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter

from midas_pipelines.errors import CallRefused
from midas_pipelines.fourseller.http.answers import read_json
from midas_pipelines.gateway.api.callers import Callers, address_of_caller, key_of, network
from midas_pipelines.gateway.api.problems import answer_error, status_of
from midas_pipelines.gateway.service import Service, service_of
from midas_pipelines.notify.alerts import LOCKOUT, raise_alert
from midas_pipelines.store.gateway import keys
from midas_pipelines.store.gateway.audit import AuditEntry, kept, note_audit
from midas_pipelines.store.gateway.keys import Caller, Role
from midas_pipelines.store.schema.operation_tables import repeated_calls
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert

PREFIX = "/api/marketplace"
PERSONS = f"{PREFIX}/privacy/requests"
"""Its answers hold personal data, so none is kept to be repeated; the same request may be sent again."""

OPEN = frozenset({"/healthz", "/readyz", f"{PREFIX}/webhooks"})  # need no key; 4Seller signs its webhooks
OF_ADMINS = frozenset({PERSONS, f"{PREFIX}/audit"})
CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEPT_SECONDS = 24 * 3600
DEAD_SECONDS = 150
"""A call that has no answer after so long died with its process; the next one with its key is executed."""
TWIN_SECONDS = 30.0  # how long a call waits for the answer of its twin that is being executed
_CALLS = repeated_calls.c

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def role_for(method: str, path: str) -> Role | None:
    """The role that an endpoint needs: viewers read, operators change, admins do the rest; None where no key is needed."""
    if path in OPEN:
        return None
    if path in OF_ADMINS:
        return Role.ADMIN
    return Role.OPERATOR if method in CHANGES else Role.VIEWER


class GuardedRoute(APIRoute):
    """Admits a call when its key's role covers the endpoint, and records changes in the audit log."""

    def get_route_handler(self) -> Handler:
        """The endpoint behind its guard."""
        handler = super().get_route_handler()
        path = self.path
        kind = get_type_hints(self.endpoint).get("body")
        body = None if kind is None else TypeAdapter[BaseModel](kind)

        async def guarded(request: Request) -> Response:
            needed, service = role_for(request.method, path), service_of(request)
            if needed is None:
                return await handler(request)
            key = key_of(request.headers.get("authorization", ""))
            caller = request.state.caller = await admit_key(request, key, path)
            await require_role(request, path, caller, needed)
            if request.method not in CHANGES:
                return await handler(request)
            entry = audit_entry(request, path, caller, _noted(await request.body(), body))

            async def do(request: Request) -> Response:
                if path == PERSONS:
                    return await handler(request)
                return await once(request, service, caller.key_id, handler)

            return await audited(service, entry, do, request)

        return guarded


async def admit_key(request: Request, key: str, path: str) -> Caller:
    """The key's owner; counts valid and refused keys, locks out those who guess, and notes them in the audit log.
    Raises CallRefused: 401 without a valid key, 429 while its id or the address is locked out."""
    service, callers = service_of(request), request.app.state.callers
    address = address_of_caller(request.scope)
    caller = await asyncio.to_thread(service.read, _find, key, callers)
    if caller is None:
        callers.refused(address, key)
        transaction = service.write if key else service.read
        wait = await asyncio.to_thread(transaction, _count_wrong_key, address, key)
        service.metrics.refused.labels("key").inc()
        entry = audit_entry(request, path, Caller("none", "no valid key", Role.VIEWER))
        await request.app.state.refusals.note(entry, 429 if wait else 401)
        _require_unlocked(wait)
        detail = "A valid API key is needed, as `Authorization: Bearer …`: make one with `midas keys create`."
        raise CallRefused(401, detail, {"WWW-Authenticate": "Bearer"})
    callers.admitted(key, caller.key_id)
    if callers.use_is_due(caller.key_id):
        await asyncio.to_thread(service.write, keys.note_key_used, caller.key_id)
    return caller


async def require_role(request: Request, path: str, caller: Caller, needed: Role) -> None:
    """Raises CallRefused (403), and notes it in the audit log, where the caller's role is less than the needed one."""
    if not caller.role.covers(needed):
        await request.app.state.refusals.note(audit_entry(request, path, caller), 403)
        raise CallRefused(403, f"This needs the role {needed.value}; {caller.name} is {caller.role.value}.")


def _find(connection: sa.Connection, key: str, callers: Callers) -> Caller | None:
    """The caller of that key. Raises CallRefused while its id is locked out for who is not known with it."""
    if not callers.knows(key):
        _require_unlocked(keys.locked_seconds(connection, f"key {keys.id_of(key)}"))
    return keys.find_caller(connection, key)


def _count_wrong_key(connection: sa.Connection, address: str, key: str) -> float:
    """Counts a wrong key, and alerts staff to what it locks out; the seconds for which its address was locked before."""
    subject = f"address {network(address)}"
    wait = keys.locked_seconds(connection, subject)
    if key:
        for locked in keys.count_wrong_key(connection, (subject, f"key {keys.id_of(key)}")):
            text = f"The gateway locked out the {locked} after {keys.MOST_FAILURES} wrong keys: see `midas audit list`."
            raise_alert(connection, kind=LOCKOUT, subject=locked, text=text)
    return wait


def _require_unlocked(seconds: float) -> None:
    """Raises CallRefused while a key id or an address is locked out."""
    if seconds:
        detail = "Too many wrong keys: this key id or address is locked out for a while."
        raise CallRefused(429, detail, {"Retry-After": str(max(1, round(seconds)))})


def audit_entry(
    request: Request, path: str, caller: Caller, detail: dict[str, Any] | None = None
) -> AuditEntry:
    """The row of the audit log for a call at this path."""
    return AuditEntry(
        actor=caller.actor,
        role=caller.role.value,
        action=f"{request.method} {path}",
        target="/".join(str(kept(part)) if part else part for part in request.url.path.split("/"))[:250],
        detail=detail,
        remote=request.client.host[:64] if request.client else None,
        request_id=request.state.request_id,
    )


def _noted(sent: bytes, body: TypeAdapter[BaseModel] | None) -> dict[str, Any] | None:
    """What the audit log keeps of what was sent: the fields of a valid body; of another one only that it is not valid."""
    if not sent or body is None:
        return None
    try:
        valid = body.validate_python(read_json(sent))
    except ValueError:
        return {"body": "not valid"}
    return {"body": kept(valid.model_dump(mode="json", exclude_unset=True))}


async def audited(service: Service, entry: AuditEntry, handler: Handler, request: Request) -> Response:
    """The handler's answer; the call is in the audit log before it, the result after it."""
    await asyncio.to_thread(service.write, note_audit, entry, "asked")
    status = 500
    try:
        response = await handler(request)
        status = response.status_code
    except Exception as error:
        status = status_of(error)
        raise
    finally:
        await asyncio.to_thread(service.write, note_audit, entry, "answered", status)
    return response


async def once(request: Request, service: Service, caller: str, handler: Handler) -> Response:
    """The answer of `handler`, or that of an earlier call with the same Idempotency-Key; without one it is executed.

    Each `caller`, by the id of its key, has idempotency keys of its own. Raises CallRefused: 400 for a key that is none,
    422 for another body, 409 while the first call takes long.
    """
    if (key := request.headers.get("idempotency-key")) is None:
        return await handler(request)
    if not KEY.fullmatch(key):
        raise CallRefused(400, "Idempotency-Key must have 1 to 255 printable characters without spaces.")
    named = "\n".join((caller, request.method, request.url.path, request.url.query, key))
    digest = hashlib.sha256(named.encode()).hexdigest()
    body_digest = hashlib.sha256(await request.body()).hexdigest()
    if await asyncio.to_thread(service.write, _begin_call, digest, body_digest):
        return await _executed(request, service, digest, handler)
    until = time.monotonic() + TWIN_SECONDS
    while True:
        first = await asyncio.to_thread(service.read, _first_call, digest)
        if first is not None and first.body_digest != body_digest:
            raise CallRefused(422, "This Idempotency-Key was used with another body: take a new key.")
        if first is not None and first.status is not None:
            headers = {"Idempotent-Replayed": "true"}
            return Response(first.body, first.status, headers=headers, media_type=first.media_type)
        if first is None or time.monotonic() >= until:
            text = "The first call with this Idempotency-Key has no answer yet, or failed: try again."
            raise CallRefused(409, text, {"Retry-After": "5"})
        await asyncio.sleep(0.05)


async def _executed(request: Request, service: Service, digest: str, handler: Handler) -> Response:
    """Executes the call and keeps its answer, unless the failure is ours: then the same key may be tried again."""
    answer: dict[str, Any] | None = None
    try:
        try:
            response = await handler(request)
        except Exception as error:
            if status_of(error) >= 500 or status_of(error) == 429:
                raise
            response = await answer_error(request, error)
        if response.status_code < 500:
            kind, body = response.headers.get("content-type"), bytes(response.body).decode()
            answer = {"status": response.status_code, "media_type": kind, "body": body}
        return response
    finally:
        ended = sa.update(repeated_calls).values(answer) if answer else sa.delete(repeated_calls)
        mine = ended.where(_CALLS.digest == digest)
        await asyncio.to_thread(service.write, lambda connection: connection.execute(mine))


def _begin_call(connection: sa.Connection, digest: str, body_digest: str) -> bool:
    """Whether this call is the first with its key, and is to be executed."""
    died = sa.and_(_CALLS.status.is_(None), _CALLS.begun_at < utc_now(-DEAD_SECONDS))
    old = _CALLS.begun_at < utc_now(-KEPT_SECONDS)
    connection.execute(sa.delete(repeated_calls).where(sa.or_(old, died)))
    adding = insert(connection, repeated_calls).values(digest=digest, body_digest=body_digest)
    return connection.execute(adding.on_conflict_do_nothing().returning(_CALLS.digest)).first() is not None


def _first_call(connection: sa.Connection, digest: str) -> sa.Row[Any] | None:
    return connection.execute(sa.select(repeated_calls).where(_CALLS.digest == digest)).first()
