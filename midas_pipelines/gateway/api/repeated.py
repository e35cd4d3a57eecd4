"""`Idempotency-Key` on POST and PATCH: of calls with the same key and body one is executed, and all get its answer, which is
kept for 24 hours."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa
from fastapi import Request, Response

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.problems import answer_error, status_of
from midas_pipelines.gateway.service import Service
from midas_pipelines.store.schema.operation_tables import repeated_calls
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert

KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEPT_SECONDS = 24 * 3600
DEAD_SECONDS = 150
"""A call that has no answer after so long died with its process; the next one with its key is executed."""
TWIN_SECONDS = 30.0
"""How long a call waits for the answer of its twin that is being executed."""

Handle = Callable[[], Awaitable[Response]]
table = repeated_calls.c


async def once(request: Request, service: Service, caller: str, handle: Handle) -> Response:
    """The answer of `handle`, or that of an earlier call with the same Idempotency-Key; without one it is executed.

    `caller` is the id of the key that the call came with: each caller has idempotency keys of its own.

    Raises:
        CallRefused: 400 for a key that is none, 422 for another body, 409 while the first call takes long.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return await handle()
    if not KEY.fullmatch(key):
        raise CallRefused(400, "Idempotency-Key must have 1 to 255 printable characters without spaces.")
    named = "\n".join((caller, request.method, request.url.path, request.url.query, key))
    digest = hashlib.sha256(named.encode()).hexdigest()
    body_digest = hashlib.sha256(await request.body()).hexdigest()
    if await asyncio.to_thread(service.write, _begin, digest, body_digest):
        return await _executed(request, service, digest, handle)
    loop = asyncio.get_running_loop()
    until = loop.time() + TWIN_SECONDS
    while True:
        first = await asyncio.to_thread(service.read, _find, digest)
        if first is not None and first.body_digest != body_digest:
            text = "This Idempotency-Key was used with another body: take a new key for a new call."
            raise CallRefused(422, text)
        if first is not None and first.status is not None:
            headers = {"Idempotent-Replayed": "true"}
            return Response(first.body, first.status, headers=headers, media_type=first.media_type)
        if first is None or loop.time() >= until:
            text = "The first call with this Idempotency-Key has no answer yet, or failed: try again."
            raise CallRefused(409, text, {"Retry-After": "5"})
        await asyncio.sleep(0.05)


async def _executed(request: Request, service: Service, digest: str, handle: Handle) -> Response:
    """Executes the call and keeps its answer, unless the failure is ours: then the same key may be tried again."""
    keep = False
    try:
        try:
            response = await handle()
        except Exception as error:
            if status_of(error) >= 500 or status_of(error) == 429:
                raise
            response = await answer_error(request, error)
        keep = response.status_code < 500
        if keep:
            await asyncio.to_thread(
                service.write,
                _keep,
                digest,
                status=response.status_code,
                media_type=response.headers.get("content-type"),
                body=bytes(response.body).decode(),
            )
        return response
    finally:
        if not keep:
            await asyncio.to_thread(service.write, _forget, digest)


def _begin(connection: sa.Connection, digest: str, body_digest: str) -> bool:
    """Whether this call is the first with its key, and is to be executed."""
    died = sa.and_(table.status.is_(None), table.begun_at < utc_now(-DEAD_SECONDS))
    connection.execute(sa.delete(repeated_calls).where(sa.or_(table.begun_at < utc_now(-KEPT_SECONDS), died)))
    adding = insert(connection, repeated_calls).values(digest=digest, body_digest=body_digest)
    return connection.execute(adding.on_conflict_do_nothing().returning(table.digest)).first() is not None


def _find(connection: sa.Connection, digest: str) -> sa.Row[Any] | None:
    return connection.execute(sa.select(repeated_calls).where(table.digest == digest)).first()


def _keep(connection: sa.Connection, digest: str, /, **answer: Any) -> None:
    connection.execute(sa.update(repeated_calls).where(table.digest == digest).values(answer))


def _forget(connection: sa.Connection, digest: str) -> None:
    connection.execute(sa.delete(repeated_calls).where(table.digest == digest))
