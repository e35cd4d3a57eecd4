"""Where something is settled: the page of an alert, and a page or an endpoint in place of each command in a text. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote

ALERTS = "/alerts"
PAGE_OF_KIND = {
    "asset_late": "/machine-room",
    "brake": "/plan",
    "canary": "/plan",
    "check_failed": "/machine-room",
    "conflict": "/decide?cause=conflict",
    "daily_report": "/",
    "items_stuck": "/decide?cause=quarantined_item",
    "key": "/keys",
    "lockout": "/activity",
    "low_stock": "/stock",
    "orders_incomplete": "/machine-room",
    "oversold": "/decide?cause=oversold",
    "run_failed": "/machine-room",
    "stray_product": "/decide?cause=orphan",
    "unmapped": "/decide?cause=unmapped",
    "unknown_status": "/decide?cause=order_to_look_at",
}
_OF_ONE_ORDER = ("show", "retry", "dismiss", "resolve", "map", "ship", "return")
PAGE_OF_COMMAND = {
    "alerts": ALERTS,
    "audit list": "/activity",
    "conflicts list": "/decide?cause=conflict",
    "conflicts resolve": "/decide?cause=conflict",
    "conflicts pin": "/items",
    "conflicts release": "/items",
    "explain": "/items",
    "items": "/decide?cause=quarantined_item",
    "keys rotate": "/keys",
    "orders list --exception oversold": "/decide?cause=oversold",
    "orders list": "/decide",
    **dict.fromkeys((f"orders {what}" for what in _OF_ONE_ORDER), "/orders"),
    "rules": "/rules",
    "status": "/",
    "stock low": "/stock",
    "sync products --full --plan": "/plan",
    "sync products --apply": "/plan",
    "sync": "/machine-room",
    "webhooks": "/webhooks?state=quarantined",
}
"""By how a command begins, the longer beginning first. What the console cannot do is not here."""
API = "/api/marketplace"
ENDPOINT_OF_COMMAND = {
    "alerts": f"GET {API}/alerts",
    "audit list": f"GET {API}/audit",
    "conflicts list": f"GET {API}/conflicts",
    "conflicts resolve": f"POST {API}/conflicts/{{conflict_id}}",
    "explain": f"GET {API}/explain",
    "items": f"GET {API}/items",
    "orders list": f"GET {API}/orders",
    "orders show": f"GET {API}/orders/{{order_id}}",
    "orders ship": f"PATCH {API}/orders/{{order_id}}",
    "rules": f"GET {API}/rules",
    "status": f"GET {API}/status",
    "stock low": f"GET {API}/stock",
    "sync products --full --plan": f"GET {API}/plan",
    "sync products": f"POST {API}/sync/products",
    "sync inventory": f"POST {API}/sync/inventory",
    "sync orders": f"POST {API}/orders",
}
_COMMAND = re.compile(r"(with )?`midas ([^`]+)`")


def page_of(kind: str, subject: str = "") -> str:
    """The path where an alert is settled: the order, the card or the list that it is about; else the alerts."""
    if subject.startswith("order:"):
        return f"/orders/{quote(subject.removeprefix('order:'), safe='')}"
    if kind == "conflict" and subject.startswith("mapping:"):
        return f"{PAGE_OF_KIND[kind]}&about={quote(subject, safe=':')}"
    return PAGE_OF_KIND.get(kind, ALERTS)


def in_console(text: str, console_url: str | None, *, markdown: bool = False, page: str | None = None) -> str:
    """The text with the console's page in place of each command that has one; as it is without an address.

    Args:
        text: sentences with commands such as `midas items list`.
        console_url: MIDAS_CONSOLE_URL.
        markdown: whether the addresses become links of Markdown.
        page: the path where the whole is settled: taken for a command of the same room, and appended where none is.
    """
    if not console_url:
        return text
    root = console_url.rstrip("/")

    def address(found: re.Match[str]) -> str:
        path = _place(PAGE_OF_COMMAND, found[2])
        if path is None:
            return found[0]
        path = page if page is not None and _room(page) == _room(path) else path
        shown = f"[the page {path}]({root}{path})" if markdown else root + path
        return f"at {shown}" if found[1] else shown

    linked = _COMMAND.sub(address, text)
    return linked if page is None or root + page in linked else f"{linked} See {root}{page}"


def in_api(text: str) -> str:
    """The text with an endpoint in place of each command that has one, else the console's page that does the same."""

    def place(found: re.Match[str]) -> str:
        with_, command = found[1] or "", found[2]
        if (endpoint := _place(ENDPOINT_OF_COMMAND, command)) is not None:
            return f"{with_}`{endpoint}`"
        page = _place(PAGE_OF_COMMAND, command)
        return found[0] if page is None else f"{'on ' if with_ else ''}the console's page {page}"

    return _COMMAND.sub(place, text)


def _place(places: dict[str, str], command: str) -> str | None:
    return next((place for one, place in places.items() if f"{command} ".startswith(f"{one} ")), None)


def _room(path: str) -> str:
    return path.split("?")[0].split("/")[1]
