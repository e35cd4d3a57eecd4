"""Today: counts from the shop's own rows, on both databases."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from midas_pipelines.store.gateway.keys import Role, create_key
from midas_pipelines.store.operations.backlog import CAUSES, needs_a_person
from midas_pipelines.store.operations.sync_metrics import by_hour, percentile
from midas_pipelines.store.schema.tables import sync_logs
from midas_pipelines_tests.gateway.console.visitor import Visitor
from midas_pipelines_tests.shop import add_product, run


@pytest.mark.both_databases
def test_an_empty_shop_needs_nobody_and_a_troubled_one_says_why(operator: Visitor) -> None:
    world = operator.world
    assert "Nothing needs you" in operator.see("/")
    add_product(world.database, sku="SCREEN-1", stock_quantity=1, price="10.00")
    world.full()
    world.place(("SCREEN-1", 3), sales_channel="amazon")
    world.place(("NOT-OURS", 1))
    world.import_orders()
    run(
        world.database,
        "INSERT INTO sync_conflicts (subject, field, policy) VALUES ('mapping:1', 'price', 'manual'), "
        "('product:9', 'unknown', 'manual')",
    )
    with world.database.reading() as connection:
        found = {one.cause: one.count for one in needs_a_person(connection)}
    assert {name: found.get(name) for name in ("oversold", "unmapped", "conflict", "orphan")} == {
        "oversold": 1,
        "unmapped": 1,
        "conflict": 1,
        "orphan": 1,
    }
    page = operator.see("/")
    for cause in found:
        assert CAUSES[cause] in page
    assert "amazon" in page
    assert " USD<" in page


def test_percentiles_come_from_what_took_how_long() -> None:
    took = {0.1: 98, 0.5: 1, 10.0: 1}
    assert (percentile(took, 0.5), percentile(took, 0.99), percentile({}, 0.5)) == (
        pytest.approx(0.051, 0.01),
        0.5,
        0.0,
    )


def test_no_share_took_longer_than_the_slowest_change(operator: Visitor) -> None:
    database, now = operator.world.database, datetime.now(UTC)
    counts = {"delivered": 32, "slowest_seconds": 0.44, "delivered_within": {"0.1": 30, "0.5": 2}}
    ended = {"kind": "gateway", "scope": "at once", "outcome": "done", "started_at": now, "counts": counts}
    with database.writing() as connection:
        connection.execute(sa.insert(sync_logs).values(ended))
    assert "99 % within 0.44 s (p99), the slowest after 0.44 s" in " ".join(operator.see("/").split())


def test_keys_that_end_soon_have_a_tile(operator: Visitor) -> None:
    assert "Keys that end" not in operator.see("/")
    with operator.world.database.writing() as connection:
        create_key(connection, name="shop", role=Role.OPERATOR, days=5)
    assert "Keys that end within 30 days" in operator.see("/")


def test_sums_by_the_hour_end_with_this_one() -> None:
    now = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)
    found = [
        (now, 2),
        (now - timedelta(minutes=59), 1),
        (now - timedelta(hours=23, minutes=59), 5),
        (now - timedelta(days=2), 9),
    ]
    sums = by_hour(found, now)
    assert (sums[-1], sums[0], sum(sums)) == (3, 5, 8)


def test_docs_are_readable_offline(visitor: Visitor) -> None:
    page = visitor.see("/docs")
    assert "PATCH /api/marketplace/orders/{order_id}" in page
    assert "cdn" not in page
    assert set(re.findall('href="#([^"]*)"', page)) <= set(re.findall('id="([^"]*)"', page))
    assert "text/css" in visitor.client.get("/static/console.css").headers["content-type"]
    visitor.see("/static/none.css", status=404)
