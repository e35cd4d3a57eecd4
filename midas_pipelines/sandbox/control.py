"""Run-time controls of the sandbox, under /__sandbox. JSON in and out, no credentials."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from midas_pipelines.sandbox.habits import HABITS
from midas_pipelines.sandbox.page import page_routes
from midas_pipelines.sandbox.state import Json, Refused

if TYPE_CHECKING:
    from midas_pipelines.sandbox.app import Sandbox

Act = Callable[[Json, str], Any]


def control_routes(sandbox: Sandbox) -> Starlette:
    """The router of the controls and the page."""
    controls = Controls(sandbox)
    table: list[tuple[str, str, Act]] = [
        ("GET", "/settings", controls.settings),
        ("PUT", "/faults", controls.set_faults),
        ("GET", "/faults", controls.faults),
        ("POST", "/faults/next", controls.script_faults),
        ("PUT", "/habits", controls.set_habits),
        ("GET", "/habits", controls.habits),
        ("PUT", "/latency", controls.set_latency),
        ("PUT", "/rate-limit", controls.set_rate_limit),
        ("PUT", "/webhooks", controls.set_webhooks),
        ("GET", "/webhooks", controls.webhooks),
        ("POST", "/webhooks/try", controls.try_webhook),
        ("PUT", "/shoppers", controls.set_shoppers),
        ("GET", "/calls", controls.calls),
        ("GET", "/counts", controls.counts),
        ("POST", "/reset", controls.reset),
        ("GET", "/products", controls.products),
        ("POST", "/products", controls.add_product),
        ("PUT", "/products/{id}", controls.edit_product),
        ("DELETE", "/products/{id}", controls.remove_product),
        ("GET", "/orders", controls.orders),
        ("POST", "/orders", controls.place_order),
        ("POST", "/orders/{id}", controls.change_order),
    ]
    routes = [Route(f"/__sandbox{path}", _endpoint(act), methods=[method]) for method, path, act in table]
    return Starlette(routes=[*routes, *page_routes(sandbox)])


class Controls:
    """Each method takes the JSON body and the id of the path, and returns the answer."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def settings(self, _: Json, __: str) -> Json:
        """All controls with their values."""
        faults, limit = self._sandbox.faults, self._sandbox.limit
        return {
            "faults": faults.shares,
            "habits": self._sandbox.habits.on,
            "latency_ms": faults.latency_ms,
            "jitter_ms": faults.jitter_ms,
            "rate_limit": limit.rate,
            "burst": limit.burst,
            "shoppers_rate": self._sandbox.shoppers.rate,
            "webhooks": self._sandbox.webhooks.described(),
        }

    def faults(self, _: Json, __: str) -> Json:
        """The share of calls by kind of fault."""
        return self._sandbox.faults.shares

    def set_faults(self, body: Json, _: str) -> Json:
        """Replaces all shares: `{"500": 0.05}`."""
        self._sandbox.faults.set(body)
        return self._sandbox.faults.shares

    def script_faults(self, body: Json, _: str) -> Json:
        """`{"kinds": ["503", null]}`: what the next calls meet, one after the other."""
        kinds = body.get("kinds")
        if not isinstance(kinds, list) or not all(kind is None or isinstance(kind, str) for kind in kinds):
            raise ValueError("kinds is a list of kinds of fault and nulls")
        self._sandbox.faults.script(kinds)
        return {"next": len(kinds)}

    def habits(self, _: Json, __: str) -> Json:
        """Every habit with its sentence, and the number of those that are on."""
        on = self._sandbox.habits.on
        return {name: {"does": habit.sentence, "on": on.get(name)} for name, habit in HABITS.items()}

    def set_habits(self, body: Json, _: str) -> Json:
        """Replaces what is on: `{"small-pages": 5}`; null takes the habit's own number."""
        self._sandbox.habits.replace(
            {name: HABITS[name].number if n is None and name in HABITS else n for name, n in body.items()}
        )
        return self._sandbox.habits.on

    def set_latency(self, body: Json, _: str) -> Json:
        """`latency_ms`, `jitter_ms`, `slow_seconds`, `timeout_seconds`."""
        for name in ("latency_ms", "jitter_ms", "slow_seconds", "timeout_seconds"):
            if name in body:
                setattr(self._sandbox.faults, name, _number(body, name))
        return self.settings({}, "")

    def set_rate_limit(self, body: Json, _: str) -> Json:
        """`per_second` (0 or null lifts it) and `burst`."""
        self._sandbox.limit.set(
            _number(body, "per_second") if body.get("per_second") else None, body.get("burst")
        )
        return self.settings({}, "")

    def webhooks(self, _: Json, __: str) -> Json:
        """Settings and counts of the webhooks."""
        return self._sandbox.webhooks.described()

    def set_webhooks(self, body: Json, _: str) -> Json:
        """`url`, `secret`, `duplicates`, `reorder`, `retries`."""
        self._sandbox.webhooks.configure(body)
        return self._sandbox.webhooks.described()

    async def try_webhook(self, _: Json, __: str) -> Json:
        """Sends a signed body that is no event, so that nothing is stored; the address and the status it answered."""
        return {"url": self._sandbox.webhooks.url, "status": await self._sandbox.webhooks.try_out()}

    def set_shoppers(self, body: Json, _: str) -> Json:
        """`rate`: actions a second, 0 to stop."""
        self._sandbox.shoppers.set_rate(_number(body, "rate"))
        return {"rate": self._sandbox.shoppers.rate}

    def calls(self, _: Json, __: str) -> list[Json]:
        """The last calls, oldest first."""
        return list(self._sandbox.calls.last)

    def counts(self, _: Json, __: str) -> dict[str, dict[str, int]]:
        """Calls by method and status; 0 is no answer."""
        return self._sandbox.calls.by_method()

    def reset(self, body: Json, _: str) -> Json:
        """Deletes products, orders and calls, and ends faults and habits; `{"calls_only": true}` only the calls."""
        self._sandbox.calls.clear()
        if not body.get("calls_only"):
            self._sandbox.state.clear()
            self._sandbox.faults.set({})
            self._sandbox.habits.set()
        return {}

    def products(self, _: Json, __: str) -> list[Json]:
        """Every product."""
        return list(self._sandbox.state.products.values())

    def add_product(self, body: Json, _: str) -> Json:
        """Adds a product that the integration did not create: an orphan, or a duplicate."""
        return self._sandbox.state.create(body)

    def edit_product(self, body: Json, key: str) -> Json:
        """Changes some fields of a product without a sync knowing."""
        return self._sandbox.state.edit(key, body)

    def remove_product(self, _: Json, key: str) -> Json:
        """Deletes a product without a sync knowing."""
        self._sandbox.state.remove(key)
        return {}

    def orders(self, _: Json, __: str) -> list[Json]:
        """Every order."""
        return list(self._sandbox.state.orders.values())

    def place_order(self, body: Json, _: str) -> Json:
        """Adds an order: `items` as given (else from the stock); other fields override the generated ones."""
        invented = self._sandbox.shoppers.order(body.get("items"))
        given = {name: value for name, value in body.items() if name != "items"}
        return self._sandbox.state.place({**invented, **given})

    def change_order(self, body: Json, key: str) -> Json:
        """`{"action": "pay" | "cancel" | "refund"}`, or fields to set directly."""
        action = body.get("action")
        if action == "pay":
            return self._sandbox.shoppers.pay(key)
        if action in ("cancel", "refund"):
            return self._sandbox.state.move(key, "cancelled" if action == "cancel" else "refunded")
        if action is not None:
            raise ValueError("action is pay, cancel or refund")
        return self._sandbox.state.edit_order(key, body)


def _endpoint(act: Act) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            raw = await request.body()
            body = json.loads(raw) if raw else {}
            if not isinstance(body, dict):
                raise ValueError("the body should be a JSON object")
            answer = act(body, request.path_params.get("id", ""))
            return JSONResponse(await answer if isawaitable(answer) else answer)
        except Refused as refused:
            return JSONResponse({"error": {"code": refused.code, "message": str(refused)}}, refused.status)
        except ValueError as error:
            return JSONResponse({"error": {"code": "invalid", "message": str(error)}}, 400)

    return endpoint


def _number(body: Json, name: str) -> float:
    value = body.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} should be a number, 0 or more")
    return float(value)
