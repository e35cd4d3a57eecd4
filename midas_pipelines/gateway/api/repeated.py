"""`Idempotency-Key` on POST and PATCH: of calls with the same key and body one is executed, and all get its answer."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from midas_pipelines.errors import CallRefused
from midas_pipelines.gateway.api.problems import answer_expected, status_of
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.repeated_calls import (
    KeptCall,
    begin_call,
    forget_call,
    keep_answer,
    read_call,
)

HEADER = "idempotency-key"
KEY = re.compile(r"[\x21-\x7e]{1,255}")
TWIN_SECONDS = 30.0
"""How long a call waits for the answer of its twin that is being executed."""

Handle = Callable[[], Awaitable[Response]]


async def once(request: Request, database: Database, caller: str, handle: Handle) -> Response:
    """The answer of `handle`, or that of an earlier call with the same key.

    Args:
        request: the call; without an Idempotency-Key it is executed.
        database: where answers are kept.
        caller: the id of the key that the call came with: each caller has idempotency keys of its own.
        handle: executes the call.

    Raises:
        CallRefused: 400 for a key that is none, 422 for another body, 409 while the first call takes long.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return await handle()
    if not KEY.fullmatch(key):
        raise CallRefused(400, "Idempotency-Key must have 1 to 255 printable characters without spaces.")
    named = "\n".join((caller, request.method, request.url.path, request.url.query, key))
    digest = hashlib.sha256(named.encode()).hexdigest()
    body_digest = hashlib.sha256(await request.body()).hexdigest()
    earlier = await asyncio.to_thread(begin_call, database, digest, body_digest)
    if earlier is None:
        return await _executed(request, database, digest, handle)
    if earlier.body_digest != body_digest:
        raise CallRefused(
            422, "This Idempotency-Key was used with another body: take a new key for a new call."
        )
    return _replayed(await _answered(database, digest, earlier))


async def _executed(request: Request, database: Database, digest: str, handle: Handle) -> Response:
    """Executes the call and keeps its answer, unless the failure is ours: then the same key may be tried again."""
    keep = False
    try:
        try:
            response = await handle()
        except Exception as error:
            if status_of(error) >= 500 or status_of(error) == 429:
                raise
            response = await answer_expected(request, error)
        keep = response.status_code < 500
        if keep:
            text = bytes(response.body).decode()
            kind = response.headers.get("content-type")
            await asyncio.to_thread(keep_answer, database, digest, response.status_code, kind, text)
        return response
    finally:
        if not keep:
            await asyncio.to_thread(forget_call, database, digest)


async def _answered(database: Database, digest: str, earlier: KeptCall) -> KeptCall:
    loop = asyncio.get_running_loop()
    until = loop.time() + TWIN_SECONDS
    found: KeptCall | None = earlier
    while found is not None and found.status is None and loop.time() < until:
        await asyncio.sleep(0.05)
        found = await asyncio.to_thread(read_call, database, digest)
    if found is None or found.status is None:
        detail = "The first call with this Idempotency-Key has no answer yet, or failed: try again."
        raise CallRefused(409, detail, {"Retry-After": "5"})
    return found


def _replayed(kept: KeptCall) -> Response:
    assert kept.status is not None
    headers = {"Idempotent-Replayed": "true"}
    return Response(kept.body, kept.status, headers=headers, media_type=kept.media_type)
