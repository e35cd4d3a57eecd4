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
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from midas_pipelines.fourseller.contract import BASE_PATH
from midas_pipelines.sandbox.config import JSON, Faults, RateLimit, SandboxConfig, cut, meet, reply
from midas_pipelines.sandbox.control import control_routes
from midas_pipelines.sandbox.habit_table import ELSEWHERE
from midas_pipelines.sandbox.habits import Habits
from midas_pipelines.sandbox.requests import Answer, HabitCall, Headers, NoAnswer, Reply, read_call
from midas_pipelines.sandbox.shoppers import Shoppers
from midas_pipelines.sandbox.state import Json, Refused, State, level, moment, now_text
from midas_pipelines.sandbox.webhooks import Webhooks

CALLS_KEPT = 500


class CallLog:
    """The last calls, newest last, and counts by `METHOD status`; a call left without an answer has status 0."""

    def __init__(self) -> None:
        self.last: deque[dict[str, Any]] = deque(maxlen=CALLS_KEPT)
        self.counts: Counter[tuple[str, int]] = Counter()

    def add(self, started: float, method: str, path: str, status: int, fault: str | None) -> None:
        """Records a call that came at `started` of `time.perf_counter`."""
        self.counts[method, status] += 1
        took = {"at": now_text(), "ms": round((time.perf_counter() - started) * 1000, 1)}
        self.last.append({"method": method, "path": path, "status": status, "fault": fault, **took})

    def by_method(self) -> dict[str, dict[str, int]]:
        """The counts, as `{"GET": {"200": 4}}`."""
        table: dict[str, dict[str, int]] = {}
        for (method, status), count in sorted(self.counts.items()):
            table.setdefault(method, {})[str(status)] = count
        return table

    def clear(self) -> None:
        """Forgets all."""
        self.last.clear()
        self.counts.clear()


class Sandbox:
    """The parts of one sandbox; itself the ASGI application."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.state = State()
        self.state.honour_idempotency_key = config.honour_idempotency_key
        if config.state_file:
            self.state.open(config.state_file)
        self.faults = Faults(config)
        self.limit = RateLimit(config.rate_limit)
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
        started, query = time.perf_counter(), scope["query_string"].decode("latin-1")
        body, headers = await _body(receive), dict(scope["headers"])
        fault: str | None = None
        status = 0
        try:
            if refusal := self._refusal(headers):
                status = await reply(send, refusal)
                return
            fault = self.faults.draw()
            if delay := self.faults.delay():
                await asyncio.sleep(delay)
            apply = partial(self._operate, scope, headers, body)
            status = await (meet(fault, self.faults, scope, send, apply) if fault else reply(send, apply()))
        except NoAnswer:
            await cut(scope)
        finally:
            path = scope["path"] + (f"?{query}" if query else "")
            self.calls.add(started, scope["method"], path, status, fault)

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
        if not (wait := self.limit.take()):
            return None
        pause = (b"retry-after", str(max(1, math.ceil(wait))).encode())
        return _failure(429, "rate_limited", "Too many calls.", headers=[pause])

    def _operate(self, scope: Scope, headers: dict[bytes, bytes], body: bytes) -> Answer:
        if scope["path"].startswith(ELSEWHERE):
            return _answer(200, {"data": [], "total": 0, "limit": 100, "offset": 0})
        try:
            call = read_call(scope, headers, body)
            given = self.habits.ask(call)
            if given is None:
                result = self._run[call.name](call)
                given = Reply(201 if call.name == "createProduct" else 204 if result is None else 200, result)
            given = self.habits.reply(call, given)
        except Refused as refused:
            return _failure(refused.status, refused.code, str(refused), refused.details, refused.headers)
        if given.value is None:
            return given.status, b"", given.headers
        return self.habits.answer(call, *_answer(given.status, given.value, given.headers))

    def _list(self, call: HabitCall) -> Json:
        dates = ("date_from", "date_to", "updated_from")
        query = call.query.items()
        asked: Json = {name: moment(one) if one and name in dates else one for name, one in query}
        limit, offset = asked.pop("limit"), asked.pop("offset")
        state = self.habits.listed()
        rows = state.find(**asked) if call.name == "listProducts" else state.find_orders(**asked)
        return {"data": rows[offset : offset + limit], "total": len(rows), "limit": limit, "offset": offset}


def _answer(status: int, value: Json, headers: Headers = ()) -> tuple[int, bytes, Headers]:
    return status, json.dumps(value, separators=(",", ":")).encode(), [JSON, *headers]


def _failure(status: int, code: str, message: str, details: Any = None, headers: Headers = ()) -> Answer:
    error: Json = {"code": code, "message": message} | ({} if details is None else {"details": details})
    return _answer(status, {"error": error}, headers)


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body
