"""The daily report: one letter a day, with what was synced, what waits, what runs out and what needs a person."""

from __future__ import annotations

from datetime import date

import pytest

from midas_pipelines.settings import Settings, load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.backlog import Overview
from midas_pipelines.store.operations.sync_metrics import GATEWAY, SyncRow, sum_up
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.operations.daily_report import compose, write_report
from midas_pipelines.sync.operations.stock_levels import LowStockReport
from midas_pipelines_tests.shop import add_product, rows

SYNC = SyncRow("products", "done", 31, 2.0, {"updated": 1, "calls": {"requests": 31}})
DELIVERED = {"created": 556, "delivered": 556, "delivered_seconds": 111.2, "slowest_seconds": 1.5}
MINUTE = SyncRow(
    GATEWAY, "done", 600, 3.0, DELIVERED | {"calls": {"requests": 600, "failed": 6, "seconds": 30}}
)
LOW = {"sku": "A-1", "on_hand": 1, "days_left": 2.5}


def test_the_letter_has_both_drivers_and_all_that_waits() -> None:
    seen = Overview(
        items={"listed": 556, "quarantined": 12},
        conflicts=2,
        consistency=0.9982,
        waiting=[{"sku": None, "reason": "It has no SKU."}],
        waiting_total=12,
    )
    text = compose("2026-11-27", LowStockReport(556, 11, 3, low=[LOW]), seen, sum_up([SYNC, MINUTE]))
    for words in (
        "For a person: 2 conflicts, 0 orders, 12 items, 0 alerts.",
        "11 of 556 items are low, 3 are out of stock.",
        "1 syncs, 0 failed. 557 items written at 4Seller, those of the gateway included. 631 calls, 0.95% failed",
        "The gateway brought 556 changes to 4Seller, in 0.20 s each on average, 1.5 s at most.",
        "4Seller showed 99.82% of the items as they should be.",
        "Runs out first:\n- A-1: 1 left, 2.5 days\n... and 1 more: `midas stock low`.",
        "Cannot be pushed:\n- no SKU: It has no SKU.\n... and 2 more: `midas items list`.",
    ):
        assert words in text


def test_a_quiet_shop_without_a_gateway_has_a_short_letter() -> None:
    text = compose("2026-11-27", LowStockReport(), Overview(), sum_up([]))
    assert not any(words in text for words in ("The gateway", "4Seller showed", "first", "Cannot"))


def test_one_letter_a_day_and_yesterdays_is_closed(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    add_product(shop, sku="A-1", stock_quantity=1)
    url = shop.engine.url.render_as_string(hide_password=False)
    context = SyncContext(load_settings(database_url=url), shop)
    for day in (23, 23, 24):
        monkeypatch.setattr(Settings, "today", lambda _, day=day: date(2026, 11, day))
        write_report(context)
    query = "SELECT subject, cleared_at IS NULL FROM alerts WHERE kind = 'daily_report' ORDER BY id"
    assert rows(shop, query) == [("2026-11-23", 0), ("2026-11-24", 1)]
