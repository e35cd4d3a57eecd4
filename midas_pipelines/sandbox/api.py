"""The API itself, as a plain ASGI application: credentials, rate limit, faults, then the operation.

Written without a framework, for it has to answer a thousand calls a second beside the client that is measured.
"""

import asyncio
import hmac
import json
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from starlette.types import Receive, Scope, Send

from midas_pipelines.sandbox import breaking
from midas_pipelines.sandbox.calls import CallLog
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.sandbox.faults import Faults, RateLimit
from midas_pipelines.sandbox.requests import Operation, match, operations
from midas_pipelines.sandbox.state import Json, Refused, State, moment, page

JSON = (b"content-type", b"application/json")
LARGEST_BODY = 4 * 1024 * 1024

Answer = tuple[int, bytes, list[tuple[bytes, bytes]]]


class Api:
    """The contract's operations over a State."""

    def __init__(
        self, config: SandboxConfig, state: State, faults: Faults, limit: RateLimit, calls: CallLog
    ) -> None:
        self._state = state
        self._faults = faults
        self._limit = limit
        self._calls = calls
        self._bearer = f"Bearer {config.api_key}".encode()
        self._seller = config.seller_id.encode()
        self._run: dict[str, Callable[..., Answer]] = {
            "listProducts": self._list_products,
            "createProduct": self._create_product,
            "getProduct": lambda key, **_: answer(200, state.product(key)),
            "replaceProduct": lambda key, body, **_: answer(200, state.replace(key, body)),
            "deleteProduct": self._delete_product,
            "getInventory": lambda key, **_: answer(200, level(state.product(key))),
            "setInventory": lambda key, body, **_: answer(
                200, level(state.set_quantity(key, body["quantity"]))
            ),
            "listOrders": self._list_orders,
            "getOrder": lambda key, **_: answer(200, state.order(key)),
            "updateOrder": self._update_order,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call and writes it down."""
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
                status = await _reply(send, apply())
            else:
                status = await breaking.meet(fault, self._faults, scope, send, apply)
        finally:
            self._calls.note(method, asked, status, fault, time.perf_counter() - started)

    def _refusal(self, headers: dict[bytes, bytes]) -> Answer | None:
        """The answer to a call that may not even try: 401, or 429."""
        bearer = headers.get(b"authorization", b"")
        seller = headers.get(b"x-seller-id", b"")
        if not (hmac.compare_digest(bearer, self._bearer) and hmac.compare_digest(seller, self._seller)):
            return failure(401, "unauthorized", "The key or the seller id is wrong.")
        wait = self._limit.take()
        return too_many(wait) if wait else None

    def _operate(self, scope: Scope, headers: dict[bytes, bytes], body: bytes) -> Answer:
        try:
            template, key = match(scope["path"][len("/v1") :])
            allowed = operations()[template]
            operation = allowed.get(scope["method"])
            if operation is None:
                names = ", ".join(sorted(allowed)).encode()
                return *failure(405, "method", "The address does not know this method.")[:2], [
                    JSON,
                    (b"allow", names),
                ]
            return self._perform(operation, key, scope["query_string"], headers, body)
        except Refused as refused:
            return failure(refused.status, refused.code, str(refused), refused.details)

    def _perform(
        self, operation: Operation, key: str, query: bytes, headers: dict[bytes, bytes], body: bytes
    ) -> Answer:
        given: Json = {"key": key, "query": operation.read_query(query)}
        for name, header in operation.headers.items():
            value = headers.get(name.encode())
            given["header"] = None if value is None else header.read(value.decode("latin-1"))
        if operation.body:
            given["body"] = operation.read_body(body, headers.get(b"content-type", b""))
        return self._run[operation.name](**given)

    def _list_products(self, *, query: Json, **_: Any) -> Answer:
        rows = self._state.find(sku=query["sku"], updated_from=_time(query["updated_from"]))
        return answer(200, page(rows, query["limit"], query["offset"]))

    def _create_product(self, *, body: Json, header: str | None, **_: Any) -> Answer:
        return answer(201, self._state.create(body, header))

    def _delete_product(self, *, key: str, **_: Any) -> Answer:
        self._state.remove(key)
        return 204, b"", []

    def _list_orders(self, *, query: Json, **_: Any) -> Answer:
        rows = self._state.find_orders(
            status=query["status"],
            date_from=_time(query["date_from"]),
            date_to=_time(query["date_to"]),
            updated_from=_time(query["updated_from"]),
        )
        return answer(200, page(rows, query["limit"], query["offset"]))

    def _update_order(self, *, key: str, body: Json, **_: Any) -> Answer:
        return answer(200, self._state.move(key, body["status"], body.get("tracking")))


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


def level(product: Json) -> Json:
    """A product's stock as the inventory calls answer it."""
    quantity = (product.get("inventory") or {}).get("quantity", 0)
    return {"product_id": product["id"], "quantity": quantity, "updated_at": product["updated_at"]}


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


async def _reply(send: Send, given: Answer) -> int:
    status, body, headers = given
    if status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return status
