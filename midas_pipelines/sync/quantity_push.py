"""Inventory push: the quantities of dirty items that 4Seller has, absolute, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from midas_pipelines.store.items.mappings import count_dirty
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.orders.stock.pending_lines import serve_before_push
from midas_pipelines.sync.push_counts import PushCounts
from midas_pipelines.sync.sync_log import logged_sync


@dataclass
class InventoryReport:
    """What an inventory push did; counts of items."""

    scanned: int = 0
    pushed: int = 0
    unchanged: int = 0
    failed: int = 0
    held: int = 0
    shadowed: int = 0
    stopped: str | None = None  # why those held were not pushed: the brake
    held_items: list[dict[str, str]] = field(default_factory=list)
    requests: int = 0
    seconds: float = 0.0
    problems: list[dict[str, str]] = field(default_factory=list)


async def push_inventory(
    context: SyncContext,
    *,
    ids: Sequence[int] | None = None,
    ignore_delays: bool = False,
    on_progress: Callable[[PushCounts], None] | None = None,
) -> InventoryReport:
    """Sends the quantity of each dirty item that 4Seller lists; content waits for the product sync.

    Args:
        ids: only these mappings.

    Raises:
        BadCredentials, ChannelDown: the run ended early; what was not sent stays dirty.
    """
    report = InventoryReport()
    with logged_sync(context, "inventory", "dirty", report) as clock:
        async with context.channel() as client:
            clock.client = client
            await asyncio.to_thread(serve_before_push, context.database, context.run_id)
            with context.database.reading() as connection:
                progress = clock.follow(count_dirty(connection), on_progress)
            push = Push(
                context,
                client,
                ids=ids,
                quantities_only=True,
                ignore_delays=ignore_delays,
                on_progress=progress,
            )
            try:
                await push.run()
            finally:
                tally = push.tally
                report.scanned, report.pushed, report.unchanged = tally.claimed, tally.pushed, tally.unchanged
                report.failed, report.problems = tally.failed + tally.released, tally.problems
                report.shadowed = tally.shadowed
                report.held, report.held_items, report.stopped = tally.held, tally.held_items, push.stopped
    return report
