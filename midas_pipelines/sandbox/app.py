"""The sandbox as one ASGI application: the API under /v1, its controls under /__sandbox, a page at /.

The API is written without a framework, because it has to answer a thousand calls a second beside the measured client:
credentials, rate limit, faults, then the operation of the contract.
"""

import asyncio
import hmac
import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send

from midas_pipelines.fourseller.contract import BASE_PATH
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.sandbox.control import control_routes
from midas_pipelines.sandbox.faults import JSON, Faults, RateLimit, cut, meet, reply
from midas_pipelines.sandbox.habit_table import ELSEWHERE, Answer, HabitCall, NoAnswer, Reply
from midas_pipelines.sandbox.habits import Habits
from midas_pipelines.sandbox.requests import find_operation
from midas_pipelines.sandbox.shoppers import Shoppers
from midas_pipelines.sandbox.state import Json, Refused, State, level, moment, now_text
from midas_pipelines.sandbox.webhooks import Webhooks

LARGEST_BODY = 4 * 1024 * 1024
CALLS_KEPT = 500


class CallLog:
    """The last calls, newest last, and counts by `METHOD status`; a call left without an answer has status 0."""

    def __init__(self) -> None:
        self.last: deque[dict[str, Any]] = deque(maxlen=CALLS_KEPT)
        self.counts: Counter[tuple[str, int]] = Counter()

    def clear(self) -> None:
        """Forgets all."""
        self.last.clear()
        self.counts.clear()


class Sandbox:
    """The parts of one sandbox; itself the ASGI application."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.state = State(
            honour_idempotency_key=config.honour_idempotency_key, unique_skus=config.unique_skus
        )
        if config.state_file:
            self.state.open(config.state_file)
        self.faults = Faults(config)
        self.limit = RateLimit(config.rate_limit, config.burst)
        self.calls = CallLog()
        self.webhooks = Webhooks(config)
        self.habits = Habits(self.state, config.habits)
        self.state.listeners.append(
            lambda event, row: self.webhooks.send(event, self.habits.for_webhook(event, row))
        )
        self.shoppers = Shoppers(self.state, config.seed)
        self._rest: ASGIApp = control_routes(self)
        self._bearer = f"Bearer {config.api_key}".encode()
        self._seller = config.seller_id.encode()
        state = self.state
        self._run: dict[str, Callable[[HabitCall], Json | None]] = {
            "listProducts": self._list,
            "createProduct": lambda call: state.create(call.body, call.idempotency_key),
            "getProduct": lambda call: state.product(call.key),
            "replaceProduct": lambda call: state.replace(call.key, call.body),
            "deleteProduct": lambda call: state.remove(call.key),
            "getInventory": lambda call: level(state.product(call.key)),
            "setInventory": lambda call: level(state.set_quantity(call.key, call.body["quantity"])),
            "listOrders": self._list,
            "getOrder": lambda call: state.order(call.key),
            "updateOrder": lambda call: state.move(call.key, call.body["status"], call.body.get("tracking")),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The API's calls are answered here and recorded; the rest goes through the router."""
        if scope["type"] != "http" or not scope["path"].startswith((BASE_PATH + "/", ELSEWHERE + "/")):
            await self._rest(scope, receive, send)
            return
        started, method, path = time.perf_counter(), scope["method"], scope["path"]
        asked = path + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
        body = await _body(receive)
        headers = dict(scope["headers"])
        fault: str | None = None
        status = 0
        try:
            refusal = self._refusal(headers)
            fault = None if refusal else self.faults.draw()
            delay = 0.0 if refusal else self.faults.delay()
            if delay:
                await asyncio.sleep(delay)

            def apply() -> Answer:
                return refusal or self._operate(scope, headers, body)

            status = await (
                reply(send, apply()) if fault is None else meet(fault, self.faults, scope, send, apply)
            )
        except NoAnswer:
            await cut(scope)
        finally:
            self.calls.counts[method, status] += 1
            milliseconds = round((time.perf_counter() - started) * 1000, 1)
            self.calls.last.append(
                {
                    "method": method,
                    "path": asked,
                    "status": status,
                    "at": now_text(),
                    "fault": fault,
                    "ms": milliseconds,
                }
            )

    async def start(self) -> None:
        """Starts the background tasks."""
        self.shoppers.set_rate(self.config.shoppers_rate)

    async def stop(self) -> None:
        """Stops the background tasks and closes the file."""
        self.shoppers.set_rate(0)
        await self.webhooks.stop()
        self.state.close()

    def _refusal(self, headers: dict[bytes, bytes]) -> Answer | None:
        bearer, seller = headers.get(b"authorization", b""), headers.get(b"x-seller-id", b"")
        if not (hmac.compare_digest(bearer, self._bearer) and hmac.compare_digest(seller, self._seller)):
            return _failure(401, "unauthorized", "The key or the seller id is wrong.")
        wait = self.limit.take()
        if not wait:
            return None
        status, body, kept = _failure(429, "rate_limited", "Too many calls.")
        return status, body, [*kept, (b"retry-after", str(max(1, math.ceil(wait))).encode())]

    def _operate(self, scope: Scope, headers: dict[bytes, bytes], body: bytes) -> Answer:
        if scope["path"].startswith(ELSEWHERE):
            return _answer(200, {"data": [], "total": 0, "limit": 100, "offset": 0})
        try:
            operation, key = find_operation(scope["path"][len(BASE_PATH) :], scope["method"])
            call = HabitCall(
                operation.name,
                key,
                operation.read_query(scope["query_string"]),
                path=scope["path"],
                headers=headers,
            )
            for name, header in operation.headers.items():
                value = headers.get(name.encode())
                call.idempotency_key = None if value is None else header.read(value.decode("latin-1"))
            if operation.body:
                call.body = operation.read_body(body, headers.get(b"content-type", b""))
            return self._perform(call)
        except Refused as refused:
            status, encoded, kept = _failure(refused.status, refused.code, str(refused), refused.details)
            return status, encoded, [*kept, *refused.headers]

    def _perform(self, call: HabitCall) -> Answer:
        given = self.habits.ask(call)
        if given is None:
            value = self._run[call.name](call)
            given = Reply(201 if call.name == "createProduct" else 204 if value is None else 200, value)
        given = self.habits.reply(call, given)
        if given.value is None:
            return given.status, b"", given.headers
        status, encoded, headers = _answer(given.status, given.value)
        return self.habits.answer(call, (status, encoded, [*headers, *given.headers]))

    def _list(self, call: HabitCall) -> Json:
        dates = ("date_from", "date_to", "updated_from")
        asked: Json = {
            name: moment(one) if one and name in dates else one for name, one in call.query.items()
        }
        limit, offset = asked.pop("limit"), asked.pop("offset")
        state = self.habits.listed()
        rows = state.find(**asked) if call.name == "listProducts" else state.find_orders(**asked)
        return {"data": rows[offset : offset + limit], "total": len(rows), "limit": limit, "offset": offset}


def _answer(status: int, value: Json) -> Answer:
    return status, json.dumps(value, separators=(",", ":")).encode(), [JSON]


def _failure(status: int, code: str, message: str, details: Any = None) -> Answer:
    error: Json = {"code": code, "message": message} | ({} if details is None else {"details": details})
    return _answer(status, {"error": error})


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += cast("bytes", message.get("body", b""))
        if not message.get("more_body") or len(body) > LARGEST_BODY:
            return body
