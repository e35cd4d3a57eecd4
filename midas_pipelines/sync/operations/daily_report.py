"""The daily report in Markdown: what was synced, what waits, what needs a person. Pure: numbers in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from midas_pipelines.store.operations.overview import Overview
from midas_pipelines.sync.operations.markdown import plain
from midas_pipelines.sync.operations.performance import Performance

MOST_LINES = 10


def report_markdown(seen: Overview, day: Performance, kinds: Sequence[Mapping[str, Any]]) -> str:
    """The report as one page."""
    parts = [
        "## The last 24 hours",
        f"- Syncs: {day.syncs}, {day.failed_syncs} failed.\n"
        f"- Items created, changed or removed at 4Seller, those of the gateway included: {day.written}.\n"
        f"- Calls to 4Seller: {day.requests}, {day.failed_calls} failed ({day.error_rate:.2%}), answered in "
        f"{day.seconds_per_call * 1000:.0f} ms on average.",
        *_at_once(day),
        _table(kinds, ("work", "syncs", "failed syncs", "items", "written", "calls", "seconds")),
        "## Now",
        f"Items: {', '.join(f'{count} {state}' for state, count in seen.items.items()) or 'none'}; "
        f"{seen.dirty} wait to be pushed.",
        f"Orders: {seen.orders} imported, {seen.order_exceptions} need a person.",
    ]
    if seen.waiting:
        parts += [
            "## Needs a look",
            f"{seen.waiting_total} items, the first of them:",
            _table(seen.waiting[:MOST_LINES], ("sku", "state", "reason")),
            "Free an item with `midas items retry SKU` when its reason is mended.",
        ]
    return "\n\n".join(parts)


def short(seen: Overview, day: Performance) -> str:
    """The report in a few sentences, for a message to staff."""
    return (
        f"Daily sync report. Items written at 4Seller: {day.written}; syncs: {day.syncs}, {day.failed_syncs} failed; "
        f"calls: {day.requests}, {day.error_rate:.2%} failed. {seen.dirty} items wait, {seen.waiting_total} need a look, "
        f"{seen.order_exceptions} orders need a person."
    )


def _at_once(day: Performance) -> list[str]:
    """How quick the gateway was, where there was one."""
    if not day.delivered:
        return []
    return [
        f"The gateway brought {day.delivered} changes to 4Seller, in {day.seconds_to_channel:.2f} s each on average, "
        f"{day.slowest_seconds:.1f} s at most."
    ]


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    if not rows:
        return "Nothing was synced."
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(row.get(name)) for name in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
    return plain(" ".join(text.split())) if isinstance(value, str) else text
