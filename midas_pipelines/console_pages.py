"""Where something is resolved: the page of an alert or of what needs a person, and a page in place of each command in a text. Pure."""

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
    "expiring_key": "/keys",
    "items_stuck": "/decide?cause=quarantined_item",
    "key": "/keys",
    "lockout": "/activity",
    "low_stock": "/stock",
    "orders_incomplete": "/machine-room",
    "oversold": "/decide?cause=oversold",
    "quarantined_webhook": "/webhooks?state=quarantined",
    "run_failed": "/machine-room",
    "stray_product": "/decide?cause=orphan",
    "unmapped": "/decide?cause=unmapped",
    "unknown_status": "/decide?cause=order_to_look_at",
}
COMMANDS = {
    "alerts": ALERTS,
    "audit list": "/activity",
    **dict.fromkeys(("conflicts list", "conflicts resolve"), "/decide?cause=conflict"),
    **dict.fromkeys(("conflicts pin", "conflicts release", "explain"), "/items"),
    "items": "/decide?cause=quarantined_item",
    "keys rotate": "/keys",
    "orders list --exception oversold": "/decide?cause=oversold",
    "orders list": "/decide",
    **dict.fromkeys(("orders show", "orders ship", "orders retry", "orders dismiss"), "/orders"),
    **dict.fromkeys(("orders resolve", "orders map", "orders return"), "/orders"),
    "rules": "/rules",
    "status": "/",
    "stock low": "/stock",
    **dict.fromkeys(("sync products --full --plan", "sync products --apply"), "/plan"),
    "sync": "/machine-room",
    "webhooks": "/webhooks?state=quarantined",
}
"""The page in place of a command, by how it begins, the longer beginning first. What the console cannot do is not here."""
_COMMAND = re.compile(r"(with )?`midas ([^`]+)`")


def page_of(kind: str, subject: str = "") -> str:
    """The path where an alert is resolved: the order, the card or the list that it is about; else the alerts."""
    if subject.startswith("order:"):
        return f"/orders/{quote(subject.removeprefix('order:'), safe='')}"
    if kind == "conflict" and subject.startswith("mapping:"):
        return f"{PAGE_OF_KIND[kind]}&about={quote(subject, safe=':')}"
    return PAGE_OF_KIND.get(kind, ALERTS)


def in_console(text: str, console_url: str | None, *, markdown: bool = False, page: str | None = None) -> str:
    """The text with the console's page, as a link where `markdown`, in place of each command that has one; as it is
    without an address. `page` is the path where the whole is resolved: taken for a command of the same room, and
    appended where none is."""
    if not console_url:
        return text
    root = console_url.rstrip("/")

    def address(found: re.Match[str]) -> str:
        path = next((path for one, path in COMMANDS.items() if f"{found[2]} ".startswith(f"{one} ")), None)
        if path is None:
            return found[0]
        path = page if page is not None and _room(page) == _room(path) else path
        shown = f"[the page {path}]({root}{path})" if markdown else root + path
        return f"at {shown}" if found[1] else shown

    linked = _COMMAND.sub(address, text)
    return linked if page is None or root + page in linked else f"{linked} See {root}{page}"


def _room(path: str) -> str:
    return path.split("?")[0].split("/")[1]
