"""A shop on PostgreSQL with two years of orders, written by SQL, and the readings that must stay quick on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import BACKWARD
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.backlog import dropped_webhooks, needs_a_person, overview
from midas_pipelines.store.operations.sync_metrics import finished_syncs, read_trends, stock_measured
from midas_pipelines.store.orders import checks, listing
from midas_pipelines.store.orders.listing import Filters, list_orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.operations.daily_report import write_report
from midas_pipelines.sync.orders.changes.exceptions import match_unknown_word
from midas_pipelines.sync.orders.lookup import find_order, read_timeline

DAYS, ITEMS, MOVES = 730, 556, 5
"""The days that the orders spread over, the items, and the ledger rows for each order."""

MOST_READ = 0.2

LARGE = frozenset(
    {
        "orders",
        "order_items",
        "marketplace_orders",
        "marketplace_order_lines",
        "order_processing_logs",
        "inventory_changes",
        "marketplace_webhooks",
        "fourseller_sync_logs",
        "fourseller_api_errors",
    }
)
"""The tables that grow with the orders."""

Reading = Callable[[Database], object]


def listed(**wanted: object) -> Reading:
    """A page of orders with this filter."""

    def read(database: Database) -> object:
        with database.reading() as connection:
            return list_orders(connection, Filters(**wanted), limit=51)  # type: ignore[arg-type]

    return read


def shown(database: Database) -> object:
    """One order with its timeline."""
    with database.reading() as connection:
        return read_timeline(connection, find_order(connection, "O-1000"))


def waiting(database: Database) -> object:
    """What needs a person."""
    with database.reading() as connection:
        return needs_a_person(connection)


def reported(database: Database) -> object:
    """The daily report."""
    url = database.engine.url.render_as_string(hide_password=False)
    return write_report(SyncContext(load_settings(database_url=url), database), "2026-11-27")


CHECKED = load_settings().orders_checked_days
NOW = datetime.now(UTC)
READINGS: dict[str, Reading] = {
    "orders list": listed(),
    "orders list --status pending": listed(status="pending"),
    "orders list --exception any": listed(exception=True),
    "orders list --exception oversold": listed(exception=["oversold"]),
    "GET orders of a channel": listed(sales_channel="ebay"),
    "GET orders of a week": listed(placed_from=NOW - timedelta(days=40), placed_to=NOW - timedelta(days=33)),
    "GET orders without an exception": listed(exception=False),
    "orders show": shown,
    "order_totals_add_up": lambda database: checks.unbalanced_orders(database, CHECKED),
    "one_shop_order_each": lambda database: checks.unpaired_orders(database, CHECKED),
    "deductions_equal_items": lambda database: checks.unexplained_deductions(database, CHECKED),
    "statuses_never_go_back": lambda database: checks.statuses_gone_back(database, BACKWARD, CHECKED),
    "webhooks_come_to_an_end": lambda database: dropped_webhooks(database, 3600),
    "no_order_open_too_long": lambda database: checks.stale_orders(database, 14),
    "no_order_waits_for_a_person": checks.needing_a_person,
    "orders_are_fresh": listing.last_import,
    "sales of a day": lambda database: listing.sales_between(
        database, NOW - timedelta(days=1), NOW + timedelta(days=1)
    ),
    "sales of an earlier day": lambda database: listing.sales_between(
        database, NOW - timedelta(days=400), NOW - timedelta(days=399)
    ),
    "an unknown word": lambda database: database.write(match_unknown_word, "Teleported"),
    "days with new orders": lambda database: listing.days_with_changed_orders(
        database, load_settings().day_of, NOW - timedelta(hours=1)
    ),
    "status": overview,
    "what needs a person": waiting,
    "trends": lambda database: read_trends(database, NOW),
    "syncs of a day": finished_syncs,
    "stock measured": stock_measured,
    "daily report": reported,
}
"""What people and schedules ask for all the time, by name."""


def seed_orders(database: Database, count: int) -> None:
    """Writes that many orders, one line each, with their logs, five ledger rows each, webhooks and logs of syncs."""
    moment = f"now() - ({count} - i) * interval '{DAYS} days' / {count}"
    item, open_ = f"1 + mod(i, {ITEMS})", f"CASE WHEN i > {count} * 0.99 THEN 'pending' ELSE 'delivered' END"
    numbers = f"FROM generate_series(1, {count}) AS i"
    with database.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO products (name, slug, sku, price, stock_quantity, status) SELECT 'Part ' || i, 'part-' || i, "
            f"'SKU-' || i, 10, 100, 'active' FROM generate_series(1, {ITEMS}) AS i"
        )
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # no trigger runs
        for statement in (
            "INSERT INTO orders (id, order_number, status, total_amount, shipping_address, billing_address, created_at) "
            f"SELECT i, '4S-O-' || i, {open_}, 10, '{{}}', '{{}}', {moment} {numbers}",
            "INSERT INTO order_items (id, order_id, product_id, product_name, quantity, price, total_price) "
            f"SELECT i, i, {item}, repeat('Display ', 20), 1, 10, 10 {numbers}",
            "INSERT INTO marketplace_orders (id, marketplace_order_id, local_order_id, sales_channel, status, outcome, "
            "exception, currency, total, lines_total, shipping_cost, tax, discount, placed_at, imported_at) "
            "SELECT i, 'O-' || i, i, (ARRAY['amazon', 'ebay', 'tiktok'])[1 + mod(i, 3)], "
            f"{open_}, 'imported', CASE WHEN mod(i, 2000) = 0 THEN 'edited' END, 'USD', 10, 10, 0, 0, 0, {moment}, {moment} {numbers}",
            "INSERT INTO marketplace_order_lines (id, order_id, line, sku, quantity, price, order_item_id, product_id, "
            f"allocated) SELECT i, i, 1, 'SKU-' || {item}, 1, 10, i, {item}, 1 {numbers}",
            "INSERT INTO order_processing_logs (marketplace_order_id, step, detail, created_at) "
            f"SELECT 'O-' || i, unnest(ARRAY['imported', 'deducted']), 'Line 1', {moment} {numbers}",
            "INSERT INTO inventory_changes (product_id, delta, quantity_after, source, cause, reference, created_at) "
            f"SELECT {item}, m * 2 - 1, 100, CASE m WHEN 0 THEN 'fourseller' ELSE 'website' END, "
            "CASE m WHEN 0 THEN 'sale' ELSE 'changed' END, CASE m WHEN 0 THEN 'fourseller:O-' || i || ':1' END, "
            f"{moment} {numbers}, generate_series(0, {MOVES - 1}) AS m",
            "INSERT INTO marketplace_webhooks (webhook_id, type, payload, received_at, processed_at, outcome) "
            f"SELECT 'W-' || i, 'order.created', '-', {moment}, {moment}, 'applied' {numbers} WHERE mod(i, 2) = 0",
            "INSERT INTO fourseller_sync_logs (kind, scope, started_at, outcome, counts, requests, seconds) "
            "SELECT (ARRAY['orders', 'gateway', 'products', 'reconcile'])[1 + mod(i / 2, 4)], 'changed', "
            f"{moment}, 'done', '{{}}', 1, 1 {numbers} WHERE mod(i, 2) = 0",
            "INSERT INTO fourseller_api_errors (endpoint, attempt, created_at) "
            f"SELECT 'GET /orders', 1, {moment} {numbers} WHERE mod(i, 2) = 0",
        ):
            connection.exec_driver_sql(statement)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(
            f'ALTER DATABASE "{name}" SET random_page_cost = 1.1'
        )  # as on any solid-state disk
    database.engine.dispose()


def scans(database: Database, reading: Reading) -> list[str]:
    """The large tables that a reading goes through: by a sequential scan, or more than a fifth of the rows; by statement."""
    found: list[str] = []

    def explain(
        connection: sa.Connection, _: object, statement: str, parameters: dict[str, object], *rest: object
    ) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
            return
        cursor = connection.connection.cursor()
        cursor.execute("SELECT relname, reltuples FROM pg_class WHERE relname = ANY(%s)", [list(LARGE)])
        sizes = {str(row[0]): float(row[1]) for row in cursor.fetchall()}
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        (plan,) = cursor.fetchone() or ([],)
        for table, how, rows in _read(plan[0]["Plan"]):
            if table in sizes and (how == "Seq Scan" or rows > sizes[table] * MOST_READ):
                found.append(f"{how} of {table}, {rows:.0f} rows: {statement}")

    sa.event.listen(database.engine, "before_cursor_execute", explain)
    try:
        reading(database)
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", explain)
    return found


def _read(plan: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Of each node of a plan that reads a table: the table, how, and how many of its rows."""
    if "Relation Name" in plan:
        dropped = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
        rows = plan["Actual Rows"] + sum(plan.get(name, 0) for name in dropped)
        yield plan["Relation Name"], plan["Node Type"], rows * plan["Actual Loops"]
    for part in plan.get("Plans", []):
        yield from _read(part)
