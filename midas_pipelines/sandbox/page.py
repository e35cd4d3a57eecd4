"""The page at /: products, orders and the last calls, as they are now. Everything on it is escaped."""

from __future__ import annotations

from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from midas_pipelines.sandbox.app import Sandbox

SHOWN = 100  # rows of each table
REFRESH_SECONDS = 3
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # no script, nothing from outside
TONES = {
    "pending": "",
    "processing": "warn",
    "shipped": "good",
    "delivered": "good",
    "cancelled": "bad",
    "refunded": "bad",
}


def page_routes(sandbox: Sandbox) -> list[Route]:
    """The routes of the page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.ChainableUndefined, enable_async=False)
    text = resources.files(__package__ or "").joinpath("page.html").read_text(encoding="utf-8")
    template = environment.from_string(text)

    async def show(request: Request) -> HTMLResponse:
        only = {name: request.query_params[name] for name in ("id", "order") if name in request.query_params}
        shown = _shown(sandbox, only.get("id"), only.get("order")) | {"only": ", ".join(only.values())}
        return HTMLResponse(template.render(shown), headers={"content-security-policy": POLICY})

    return [Route("/", show)]


def _shown(sandbox: Sandbox, product_id: str | None, order_id: str | None) -> dict[str, Any]:
    """What the page shows; of one product or order alone where an address asks for it."""
    state = sandbox.state
    products, orders = _chosen(state.products, product_id), _chosen(state.orders, order_id)
    return {
        "cards": _cards(sandbox),
        "products": _last(products.values()),
        "product_count": len(products),
        "orders": _last(orders.values()),
        "order_count": len(orders),
        "calls": _last(sandbox.calls.last),
        "refresh_seconds": REFRESH_SECONDS,
        "clock": _clock,
        "tone_of": lambda status: TONES.get(status, "warn"),
    }


def _chosen(rows: dict[str, Any], key: str | None) -> dict[str, Any]:
    return rows if key is None else {key: rows[key]} if key in rows else {}


def _cards(sandbox: Sandbox) -> list[tuple[str, object, str]]:
    counts = sandbox.calls.counts
    failed = sum(count for (_, status), count in counts.items() if status == 0 or status >= 400)
    share = sum(sandbox.faults.shares.values())
    limit = sandbox.limit.rate
    return [
        ("products", len(sandbox.state.products), ""),
        ("orders", len(sandbox.state.orders), ""),
        ("calls", counts.total(), ""),
        ("of them failed", failed, "bad" if failed else ""),
        ("faults put in", f"{share:.0%}", "warn" if share else ""),
        ("habits", ", ".join(sandbox.habits.on) or "none", "warn" if sandbox.habits.on else ""),
        ("latency", f"{sandbox.faults.latency_ms:g} ms", ""),
        ("rate limit", f"{limit:g} / s" if limit else "none", ""),
        ("shoppers' actions", f"{sandbox.shoppers.rate:g} / s", ""),
        ("webhooks waiting", sandbox.webhooks.waiting if sandbox.webhooks.url else "off", ""),
    ]


def _last(rows: Any) -> list[Any]:
    return list(islice(reversed(rows), SHOWN))


def _clock(text: str | None) -> str:
    """The time of day of a moment, to the second."""
    return text[11:19] if isinstance(text, str) else ""
