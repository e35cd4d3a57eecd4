"""The API itself, as a plain ASGI application: credentials, rate limit, faults, then the operation.

Written without a framework, because it has to answer a thousand calls a second beside the measured client.
"""

import asyncio
import hmac
import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from starlette.types import Receive, Scope, Send

from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.sandbox.faults import JSON, Faults, RateLimit, cut, meet, reply
from midas_pipelines.sandbox.habits import Habits
from midas_pipelines.sandbox.habits.habit import Answer, HabitCall, NoAnswer, Reply
from midas_pipelines.sandbox.habits.writes import ELSEWHERE
from midas_pipelines.sandbox.requests import Operation, match, operations
from midas_pipelines.sandbox.state import Json, Refused, State, level, moment, now_text, page

LARGEST_BODY = 4 * 1024 * 1024
CALLS_KEPT = 500


class CallLog:
    """The last calls, newest last, and counts by `METHOD status`; a call left without an answer has status 0."""

    def __init__(self) -> None:
        self.last: deque[dict[str, Any]] = deque(maxlen=CALLS_KEPT)
        self.counts: Counter[tuple[str, int]] = Counter()

    def note(self, method: str, path: str, status: int, fault: str | None, seconds: float) -> None:
        """Records one call."""
        self.counts[method, status] += 1
        self.last.append(
            {
                "method": method,
                "path": path,
                "status": status,
                "at": now_text(),
                "fault": fault,
                "ms": round(seconds * 1000, 1),
            }
        )

    def clear(self) -> None:
        """Forgets all."""
        self.last.clear()
        self.counts.clear()

    def by_method(self) -> dict[str, dict[str, int]]:
        """Counts as `{method: {status: count}}`."""
        table: dict[str, dict[str, int]] = {}
        for (method, status), count in sorted(self.counts.items()):
            table.setdefault(method, {})[str(status)] = count
        return table


class Api:
    """The contract's operations over a State."""

    def __init__(
        self,
        config: SandboxConfig,
        state: State,
        faults: Faults,
        limit: RateLimit,
        calls: CallLog,
        habits: Habits,
    ) -> None:
        self._state = state
        self._faults = faults
        self._limit = limit
        self._calls = calls
        self._habits = habits
        self._bearer = f"Bearer {config.api_key}".encode()
        self._seller = config.seller_id.encode()
        self._run: dict[str, Callable[[HabitCall], Json | None]] = {
            "listProducts": self._list_products,
            "createProduct": lambda call: state.create(call.body, call.idempotency_key),
            "getProduct": lambda call: state.product(call.key),
            "replaceProduct": lambda call: state.replace(call.key, call.body),
            "deleteProduct": lambda call: state.remove(call.key),
            "getInventory": lambda call: level(state.product(call.key)),
            "setInventory": lambda call: level(state.set_quantity(call.key, call.body["quantity"])),
            "listOrders": self._list_orders,
            "getOrder": lambda call: state.order(call.key),
            "updateOrder": lambda call: state.move(call.key, call.body["status"], call.body.get("tracking")),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call and records it."""
        started = time.perf_counter()
        method, path = scope["method"], scope["path"]
        asked = path + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
        body = await _body(receive)
        headers = dict(scope["headers"])
        fault: str | None = None
        status = 0
        try:
            refusal = self._refusal(headers)
            fault = None if refusal else self._faults.draw()
            delay = 0.0 if refusal else self._faults.delay()
            if delay:
                await asyncio.sleep(delay)

            def apply() -> Answer:
                return refusal or self._operate(scope, headers, body)

            if fault is None:
                status = await reply(send, apply())
            else:
                status = await meet(fault, self._faults, scope, send, apply)
        except NoAnswer:
            await cut(scope)
        finally:
            self._calls.note(method, asked, status, fault, time.perf_counter() - started)

    def _refusal(self, headers: dict[bytes, bytes]) -> Answer | None:
        """The answer to a call that is refused before it runs: 401 or 429."""
        bearer = headers.get(b"authorization", b"")
        seller = headers.get(b"x-seller-id", b"")
        if not (hmac.compare_digest(bearer, self._bearer) and hmac.compare_digest(seller, self._seller)):
            return failure(401, "unauthorized", "The key or the seller id is wrong.")
        wait = self._limit.take()
        return too_many(wait) if wait else None

    def _operate(self, scope: Scope, headers: dict[bytes, bytes], body: bytes) -> Answer:
        try:
            if scope["path"].startswith(ELSEWHERE):
                return answer(200, {"data": [], "total": 0, "limit": 100, "offset": 0})
            template, key = match(scope["path"][len("/v1") :])
            allowed = operations()[template]
            operation = allowed.get(scope["method"])
            if operation is None:
                status, problem, _ = failure(405, "method", "The address does not know this method.")
                return status, problem, [JSON, (b"allow", ", ".join(sorted(allowed)).encode())]
            return self._perform(_call(operation, key, scope, headers, body))
        except Refused as refused:
            return failure(refused.status, refused.code, str(refused), refused.details)

    def _perform(self, call: HabitCall) -> Answer:
        reply = self._habits.ask(call)
        if reply is None:
            value = self._run[call.name](call)
            reply = Reply(201 if call.name == "createProduct" else 204 if value is None else 200, value)
        reply = self._habits.reply(call, reply)
        if reply.value is None:
            return reply.status, b"", reply.headers
        status, encoded, headers = answer(reply.status, reply.value)
        return self._habits.answer(call, (status, encoded, [*headers, *reply.headers]))

    def _list_products(self, call: HabitCall) -> Json:
        asked = call.query
        rows = self._habits.listed().find(sku=asked["sku"], updated_from=_time(asked["updated_from"]))
        return page(rows, asked["limit"], asked["offset"])

    def _list_orders(self, call: HabitCall) -> Json:
        asked = call.query
        rows = self._habits.listed().find_orders(
            status=asked["status"],
            date_from=_time(asked["date_from"]),
            date_to=_time(asked["date_to"]),
            updated_from=_time(asked["updated_from"]),
        )
        return page(rows, asked["limit"], asked["offset"])


def _call(
    operation: Operation, key: str, scope: Scope, headers: dict[bytes, bytes], body: bytes
) -> HabitCall:
    call = HabitCall(
        operation.name, key, operation.read_query(scope["query_string"]), path=scope["path"], headers=headers
    )
    for name, header in operation.headers.items():
        value = headers.get(name.encode())
        call.idempotency_key = None if value is None else header.read(value.decode("latin-1"))
    if operation.body:
        call.body = operation.read_body(body, headers.get(b"content-type", b""))
    return call


def answer(status: int, value: Json) -> Answer:
    """A JSON answer."""
    return status, json.dumps(value, separators=(",", ":")).encode(), [JSON]


def failure(status: int, code: str, message: str, details: Any = None) -> Answer:
    """An error in the contract's words."""
    error: Json = {"code": code, "message": message}
    if details is not None:
        error["details"] = details
    return answer(status, {"error": error})


def too_many(wait: float) -> Answer:
    """429 with the pause in whole seconds, rounded up."""
    status, body, headers = failure(429, "rate_limited", "Too many calls.")
    return status, body, [*headers, (b"retry-after", str(max(1, math.ceil(wait))).encode())]


def _time(text: str | None) -> datetime | None:
    return None if text is None else moment(text)


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += cast("bytes", message.get("body", b""))
        if not message.get("more_body") or len(body) > LARGEST_BODY:
            return body
