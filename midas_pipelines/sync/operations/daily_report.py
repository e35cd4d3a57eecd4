"""The daily report: what was synced, what waits, what runs out and what needs a person, in one letter to staff."""

from __future__ import annotations

from collections.abc import Mapping

from midas_pipelines.notify.alerts import match_alerts
from midas_pipelines.store.operations.backlog import Overview, overview
from midas_pipelines.store.operations.sync_metrics import finished_syncs, sum_up
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.operations.stock_levels import LowStockReport, check_low_stock

ALERT = "daily_report"
LINES = 10


def write_report(context: SyncContext) -> tuple[str, dict[str, int | float]]:
    """Puts the report of today into the outbox, once a day; yesterday's is closed, sent or not. Returns its words and its
    numbers."""
    day = context.settings.today().isoformat()
    stock, seen = check_low_stock(context), overview(context.database)
    sums = sum_up(finished_syncs(context.database))
    now: dict[str, int | float] = {
        "waiting": seen.dirty,
        "items_need_a_person": seen.waiting_total,
        "orders_need_a_person": seen.order_exceptions,
        "conflicts": seen.conflicts,
        "alerts": seen.alerts,
    }
    text = compose(day, stock, seen, sums)
    context.database.write(match_alerts, kind=ALERT, texts={day: text})
    return text, {**sums, **now}


def compose(day: str, stock: LowStockReport, seen: Overview, sums: Mapping[str, int | float]) -> str:
    """The report's words. Pure."""
    lines = [
        f"Report of {day}.",
        f"For a person: {seen.conflicts} conflicts, {seen.order_exceptions} orders, {seen.waiting_total} items, "
        f"{seen.alerts} alerts.",
        f"Stock: {stock.low_items} of {stock.scanned} items are low, {stock.out_of_stock} are out of stock.",
        f"Last 24 hours: {sums['syncs']} syncs, {sums['failed_syncs']} failed. {sums['written']} items written at 4Seller, "
        f"those of the gateway included. {sums['requests']} calls, {sums['error_rate']:.2%} failed, "
        f"{sums['seconds_per_call'] * 1000:.0f} ms each.",
    ]
    if sums["delivered"]:
        lines.append(
            f"The gateway brought {sums['delivered']} changes to 4Seller, in {sums['seconds_to_channel']:.2f} s each on "
            f"average, {sums['slowest_seconds']:.1f} s at most."
        )
    states = ", ".join(f"{count} {state}" for state, count in seen.items.items()) or "none"
    orders = f"{seen.orders} orders were imported in 24 hours."
    lines.append(f"Now: items {states}; {seen.dirty} wait to be pushed. {orders}")
    if seen.consistency is not None:
        lines.append(f"4Seller showed {seen.consistency:.2%} of the items as they should be.")
    lasts = {row["sku"]: f", {row['days_left']:g} days" for row in stock.low if row["days_left"] is not None}
    low = [f"{row['sku']}: {row['on_hand']} left{lasts.get(row['sku'], '')}" for row in stock.low]
    lines += _listed("Runs out first", low, stock.low_items, "midas stock low")
    problems = [f"{row['sku'] or 'no SKU'}: {row['reason']}" for row in seen.waiting]
    lines += _listed("Cannot be pushed", problems, seen.waiting_total, "midas items list")
    return "\n".join(lines)


def _listed(title: str, lines: list[str], total: int, command: str) -> list[str]:
    shown = [f"- {line}" for line in lines[:LINES]]
    more = [f"... and {total - LINES} more: `{command}`."] if total > LINES else []
    return [f"{title}:", *shown, *more] if shown else []
