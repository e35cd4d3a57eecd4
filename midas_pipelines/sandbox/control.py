"""The sandbox's controls under /__sandbox (JSON in and out, no credentials), and its page at /, where all is escaped."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib import resources
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import jinja2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from midas_pipelines.sandbox.state import Json, Refused, checked_number

if TYPE_CHECKING:
    from midas_pipelines.sandbox.app import Sandbox

Act = Callable[[Json, str], Any]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'"  # no script, nothing from outside
TIMES = ("latency_ms", "jitter_ms", "slow_seconds", "timeout_seconds")


def control_routes(sandbox: Sandbox) -> Starlette:
    """The router of the controls and the page. Each control takes the JSON body and the id of the path."""
    state, calls = sandbox.state, sandbox.calls

    def reset() -> None:
        """Deletes products, orders and calls, and ends faults and habits."""
        calls.clear()
        state.clear()
        sandbox.faults.set({})
        sandbox.habits.set()

    table: list[tuple[str, str, Act]] = [
        ("GET", "/settings", lambda body, key: _settings(sandbox)),
        ("PUT", "/settings", lambda body, key: _set(sandbox, body)),
        ("POST", "/webhooks/try", lambda body, key: sandbox.webhooks.try_out()),
        ("GET", "/calls", lambda body, key: list(calls.last)),
        ("GET", "/counts", lambda body, key: calls.by_method()),
        ("POST", "/reset", lambda body, key: reset()),
        ("GET", "/products", lambda body, key: list(state.products.values())),
        ("POST", "/products", lambda body, key: state.create(body)),
        ("PUT", "/products/{id}", lambda body, key: state.edit(key, body)),
        ("DELETE", "/products/{id}", lambda body, key: state.remove(key)),
        ("GET", "/orders", lambda body, key: list(state.orders.values())),
        ("POST", "/orders", lambda body, key: _place(sandbox, body)),
        ("POST", "/orders/{id}", lambda body, key: _change_order(sandbox, body, key)),
    ]
    routes = [Route(f"/__sandbox{path}", _endpoint(act), methods=[method]) for method, path, act in table]

    async def press(request: Request) -> Response:
        """Does what a button of the page says; what cannot be done now is left, as the page shows."""
        act = _buttons(sandbox).get(str((await request.form()).get("press")))
        with suppress(Refused, ValueError):
            if act is not None:
                act()
        return RedirectResponse("/", 303)

    return Starlette(routes=[*routes, Route("/", _page(sandbox)), Route("/", press, methods=["POST"])])


def _settings(sandbox: Sandbox) -> Json:
    return {
        "faults": sandbox.faults.shares,
        "habits": sandbox.habits.on,
        **{name: getattr(sandbox.faults, name) for name in TIMES},
        "rate_limit": sandbox.limit.rate,
        "shoppers_rate": sandbox.shoppers.rate,
        "webhooks": sandbox.webhooks.described(),
    }


def _set(sandbox: Sandbox, body: Json) -> Json:
    """Sets what is given; `next_faults` are the kinds (or null) that the next calls meet, one after the other.
    Raises ValueError, in a sentence."""
    setters: dict[str, Callable[[Any], Any]] = {
        "faults": sandbox.faults.set,
        "next_faults": sandbox.faults.script,
        "habits": sandbox.habits.replace,
        **{name: partial(_set_time, sandbox, name) for name in TIMES},
        "rate_limit": sandbox.limit.set,
        "shoppers_rate": sandbox.shoppers.set_rate,
        "webhooks": sandbox.webhooks.configure,
    }
    if unknown := body.keys() - setters.keys():
        raise ValueError(f"there is no setting {', '.join(sorted(unknown))}")
    for name in filter(body.__contains__, setters):  # in this order: setting faults drops scripted ones
        setters[name](body[name])
    return _settings(sandbox)


def _set_time(sandbox: Sandbox, name: str, value: Any) -> None:
    setattr(sandbox.faults, name, checked_number(name, value))


def _place(sandbox: Sandbox, body: Json) -> Json:
    """Adds an order: `items` as given (else from the stock); other fields override the generated ones."""
    given = {name: value for name, value in body.items() if name != "items"}
    return sandbox.state.place({**sandbox.shoppers.order(body.get("items")), **given})


def _change_order(sandbox: Sandbox, body: Json, key: str) -> Json:
    """`{"action": "pay" | "cancel" | "refund"}`, or fields to set directly."""
    action = body.get("action")
    if action is None:
        return sandbox.state.edit_order(key, body)
    if action == "pay":
        return sandbox.shoppers.pay(key)
    if action not in ("cancel", "refund"):
        raise ValueError("action is pay, cancel or refund")
    return sandbox.state.move(key, "cancelled" if action == "cancel" else "refunded")


def _buttons(sandbox: Sandbox) -> dict[str, Callable[[], Any]]:
    state, faults, shoppers = sandbox.state, sandbox.faults, sandbox.shoppers
    return {
        "A shopper orders": lambda: _place(sandbox, {}),
        "Cancel the last order": lambda: _change_order(sandbox, {"action": "cancel"}, _last(state.orders)),
        "Edit a price here": lambda: state.edit(_last(state.products), {"price": "99.99"}),
        "Half of the calls fail": lambda: faults.set({"503": 0.5}),
        "No call fails": lambda: faults.set({}),
        "Shoppers on or off": lambda: shoppers.set_rate(0.0 if shoppers.rate else 1.0),
    }


def _last(rows: dict[str, Any]) -> str:
    return next(reversed(rows), "")


def _endpoint(act: Act) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            body = json.loads(await request.body() or "{}")
            if not isinstance(body, dict):
                raise ValueError("the body should be a JSON object")
            answer = act(body, request.path_params.get("id", ""))
            return JSONResponse(await answer if isawaitable(answer) else answer)
        except Refused as refused:
            return JSONResponse({"error": {"code": refused.code, "message": str(refused)}}, refused.status)
        except ValueError as error:
            return JSONResponse({"error": {"code": "invalid", "message": str(error)}}, 400)

    return endpoint


def _page(sandbox: Sandbox) -> Callable[[Request], Awaitable[Response]]:
    """The page: products, orders and the last calls, or the one product or order that its address names."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.ChainableUndefined)
    text = resources.files(__package__ or "").joinpath("page.html").read_text(encoding="utf-8")
    template = environment.from_string(text)

    async def show(request: Request) -> HTMLResponse:
        product_id, order_id = (request.query_params.get(name) for name in ("id", "order"))
        products = [one for key, one in sandbox.state.products.items() if product_id in (None, key)]
        orders = [one for key, one in sandbox.state.orders.items() if order_id in (None, key)]
        only = ", ".join(one for one in (product_id, order_id) if one is not None)
        shown = {"products": products, "orders": orders, "calls": list(sandbox.calls.last), "only": only}
        page = template.render(sandbox=sandbox, buttons=_buttons(sandbox), **shown)
        return HTMLResponse(page, headers={"content-security-policy": POLICY})

    return show
