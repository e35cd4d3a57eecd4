"""Sums over syncs and gateways, and what is measured of the catalog."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.sync_log import note_work
from midas_pipelines.store.operations.sync_metrics import (
    GATEWAY,
    SyncRow,
    by_kind,
    large_pushes,
    stock_measured,
    sum_up,
)
from midas_pipelines_tests.shop import add_product, run

SYNC = SyncRow(
    "products",
    "done",
    requests=31,
    seconds=2.0,
    counts={"scanned": 30, "updated": 1, "calls": {"requests": 31, "failed": 0, "seconds": 3.1}},
)
MINUTE = SyncRow(
    GATEWAY,
    "partial",
    requests=600,
    seconds=3.0,
    counts={
        "scanned": 560,
        "created": 556,
        "delivered": 556,
        "delivered_seconds": 111.2,
        "slowest_seconds": 1.5,
        "calls": {"requests": 600, "failed": 6, "seconds": 30.0},
    },
)


def test_what_the_gateway_did_counts_but_it_is_no_sync() -> None:
    found = sum_up([SYNC, MINUTE])
    assert (found["syncs"], found["written"], found["requests"], found["failed_calls"]) == (1, 557, 631, 6)
    assert (found["error_rate"], found["seconds_per_call"], found["seconds_to_channel"]) == (
        0.0095,
        0.0525,
        0.2,
    )
    assert [(line["work"], line["written"]) for line in by_kind([SYNC, MINUTE])] == [
        ("gateway", 556),
        ("products", 1),
    ]


def test_imported_orders_are_no_writes_at_4seller() -> None:
    assert sum_up([SyncRow("orders", "done", 1, 1.0, {"created": 7, "fetched": 7})])["written"] == 0


def test_rows_without_sums_of_calls_count_neither_as_failed_nor_as_good() -> None:
    assert sum_up([SyncRow("products", "failed", requests=1000, seconds=1.0), MINUTE])["error_rate"] == 0.01


@pytest.mark.parametrize(("days", "grown"), [(1, 0), (11, 30), (400, 10)])
def test_what_was_there_on_the_first_day_is_no_growth(shop: Database, days: int, grown: int) -> None:
    for _ in range(20):
        add_product(shop)
    ago = f"- interval '{days} days'" if shop.is_postgresql else f"'-{days} days'"
    moment = f"now() {ago}" if shop.is_postgresql else f"datetime('now', {ago})"
    run(shop, f"UPDATE fourseller_product_mappings SET created_at = {moment} WHERE id <= 10")
    assert stock_measured(shop).new_in_30_days == grown


def test_changes_of_stock_are_counted_without_opening_quantities(shop: Database) -> None:
    ids = [add_product(shop, stock_quantity=10) for _ in range(3)]
    for quantity in (9, 8, 7):
        run(shop, f"UPDATE products SET stock_quantity = {quantity} WHERE id <> {ids[0]}")
    found = stock_measured(shop)
    assert (found.changes, found.changed_items, found.items, found.waiting) == (6, 2, 3, 3)


def test_the_large_pushes_of_thirty_days_are_found(shop: Database) -> None:
    log = (
        (40, "products", 99),
        (3, "products", 50),
        (2, "inventory", 99),
        (1.5, "orders", 99),
        (0, "products", 99),
    )
    for days, kind, requests in log:
        begun = {"started_at": datetime.now(UTC) - timedelta(days=days), "scope": "full", "outcome": "done"}
        note_work(shop, begun | {"kind": kind, "requests": requests, "seconds": 1.0, "counts": {}})
    found = [(row.kind, row.requests) for row in large_pushes(shop, 50)]
    assert found == [("products", 50), ("inventory", 99), ("products", 99)]
    assert [row.kind for row in large_pushes(shop, 51)] == ["inventory", "products"]
