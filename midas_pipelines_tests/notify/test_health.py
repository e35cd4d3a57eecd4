"""Dagster and the gateway watch each other; items that do not get through are one alert."""

from __future__ import annotations

from datetime import timedelta

from midas_pipelines.notify.alerts import DAGSTER, GATEWAY, beat, report_stuck
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.cursors import advance_cursor
from midas_pipelines_tests.shop import add_product, rows, run, value

OPEN = "SELECT kind FROM alerts WHERE cleared_at IS NULL ORDER BY kind"


def kinds(shop: Database) -> list[str]:
    return [row[0] for row in rows(shop, OPEN)]


def test_each_misses_the_other_once_it_was_there_and_until_it_is_back(shop: Database) -> None:
    beat(shop, DAGSTER, watched=GATEWAY)  # which has never run
    assert kinds(shop) == []
    advance_cursor(shop, f"heartbeat:{GATEWAY}", shop.now() - timedelta(minutes=6))
    beat(shop, DAGSTER, watched=GATEWAY)
    beat(shop, DAGSTER, watched=GATEWAY)
    assert kinds(shop) == ["gateway_gone"]
    run(
        shop,
        "UPDATE midas_cursors SET moment = :at WHERE name = 'heartbeat:dagster'",
        at="2026-01-01 00:00:00",
    )
    beat(shop, GATEWAY, watched=DAGSTER)  # a daemon of last January counts as taken out of use
    beat(shop, DAGSTER, watched=GATEWAY)
    assert kinds(shop) == []


def test_stuck_items_are_one_alert_that_ends_with_the_last(shop: Database) -> None:
    for number in range(12):
        add_product(shop, sku=f"A-{number}")
    run(shop, "UPDATE fourseller_product_mappings SET state = 'quarantined', reason = 'No price.'")
    report_stuck(shop)
    report_stuck(shop)
    ((text,),) = rows(shop, "SELECT text FROM alerts")
    assert ("12 in all" in text, text.count("No price.")) == (True, 10)
    run(shop, "UPDATE fourseller_product_mappings SET state = 'new'")
    report_stuck(shop)
    assert value(shop, "SELECT count(*) FROM alerts WHERE cleared_at IS NULL") == 0


def test_lines_that_match_no_item_are_one_alert(shop: Database) -> None:
    run(
        shop,
        "INSERT INTO marketplace_orders (channel, marketplace_order_id, status, outcome) "
        "VALUES ('fourseller', 'A', 'pending', 'imported')",
    )
    run(
        shop,
        "INSERT INTO marketplace_order_lines (order_id, line, quantity, price, exception) "
        "SELECT id, 1, 1, 9.99, 'unmapped' FROM marketplace_orders",
    )
    report_stuck(shop)
    ((kind, text),) = rows(shop, "SELECT kind, text FROM alerts")
    assert (kind, text.split()[0]) == ("unmapped", "1")
