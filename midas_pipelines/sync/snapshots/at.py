"""`midas explain --at`: what 4Seller showed of an item on a past day, what the shop said, and what lay behind it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.sync.explain import ledger_rows
from midas_pipelines.sync.snapshots.causes import Span, causes, ledger_line
from midas_pipelines.sync.snapshots.files import CATALOG, LISTING, NoSnapshot, Snapshots

if TYPE_CHECKING:
    import pandas as pd

LEDGER_ROWS = 5


class NotThatDay(WrongInput):
    """The snapshot of that day has no such item."""

    http_status = 404


def explain_at(database: Database, kept: Snapshots, sku: str, day: date) -> dict[str, Any]:
    """What both snapshots of that day hold of the SKU, and what was on record by then.

    Raises:
        NoSnapshot: no snapshot of that day is kept; names the nearest days.
        NotThatDay: neither side had the SKU.
    """
    shop = _row(kept.read(CATALOG, day), "sku", sku)
    listed: dict[str, Any] | None = None
    facts: dict[str, Any] = {"sku": sku, "day": day, "note": None}
    try:
        listing = kept.read(LISTING, day)
        by_id = _row(listing, "fourseller_product_id", (shop or {}).get("fourseller_product_id"))
        listed = by_id or _row(listing, "sku", sku)
        facts["read_at"] = _moment(kept.facts(LISTING, day)["read_at"])
    except NoSnapshot as missing:
        facts["note"] = str(missing)
    if shop is None and listed is None:
        raise NotThatDay(
            f"Neither the shop nor 4Seller had the SKU {sku} on {day:%Y-%m-%d}: check the spelling."
        )
    facts |= {"shop": shop, "listed": listed, "taken_at": _moment(kept.facts(CATALOG, day)["taken_at"])}
    return facts | {"because": _because(database, shop, day) if shop is not None else []}


def _row(frame: pd.DataFrame, column: str, value: object) -> dict[str, Any] | None:
    found = frame[frame[column] == value].head(1).astype(object)
    rows = found.where(found.notna(), None).to_dict("records")
    return {str(name): cell for name, cell in rows[0].items()} if rows and value is not None else None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _because(database: Database, shop: dict[str, Any], day: date) -> list[str]:
    """The last rows of the ledger up to that day's end, and the day's own rules and conflicts."""
    start = datetime.combine(day, time(), UTC)
    span = Span(start, start + timedelta(days=1))
    variant = shop["variant_id"]
    key = (int(shop["product_id"]), None if variant is None else int(variant))
    with database.reading() as connection:
        ledger = [ledger_line(row) for row in ledger_rows(connection, key, None, span.end, most=LEDGER_ROWS)]
        others = causes(connection, *key, int(shop["mapping_id"]), span)
    return [*ledger, *(line for line in others if line not in ledger)]


def lines_at(facts: dict[str, Any]) -> list[str]:
    """The facts as lines of text, from what 4Seller showed down to the cause."""
    shop, listed = facts["shop"], facts["listed"]
    lines = [facts["note"]] if facts["note"] else []
    if listed is not None:
        lines.append(
            f"4Seller showed {_count(listed['quantity'])} at {listed['price']:.2f} USD, “{listed['title']}” ({listed['status']}), "
            f"read {facts['read_at']:%Y-%m-%d %H:%M:%S} UTC (product {listed['fourseller_product_id']})"
            if listed["price"] is not None
            else f"4Seller showed no readable price of it, read {facts['read_at']:%Y-%m-%d %H:%M:%S} UTC"
        )
    elif not facts["note"]:
        lines.append(f"4Seller did not show it, read {facts['read_at']:%Y-%m-%d %H:%M:%S} UTC")
    if shop is not None:
        price = "" if shop["expected_price"] is None else f" at {shop['expected_price']:.2f} USD"
        lines.append(
            f"<- the shop had {shop['on_hand']} on hand, {shop['available']} of them for 4Seller{price}, "
            f"“{shop['title']}”, read {facts['taken_at']:%Y-%m-%d %H:%M:%S} UTC"
        )
        if shop["reason"]:
            lines.append(f"<- it was {shop['state']}: {shop['reason']}")
    return [*lines, *(f"<- {line}" for line in facts["because"])]


def _count(value: object) -> str:
    return "an unknown quantity" if value is None else str(int(float(str(value))))
