"""A shop on PostgreSQL with two years of orders, written by SQL, and what is seen of the statements that run on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database

DAYS, ITEMS = 730, 556
"""The days that the orders spread over, and the items."""

MOST_READ = 0.2

LARGE = (
    *("orders", "order_items", "order_status_history", "marketplace_orders", "marketplace_order_lines"),
    *("order_processing_logs", "inventory_changes", "marketplace_webhooks", "fourseller_sync_logs"),
    *("fourseller_api_errors", "order_shipments", "customer_mails", "midas_listing_writes"),
)
"""The tables that grow with the orders."""

Reading = Callable[[Database], object]


def seed_orders(database: Database, count: int, items: int = ITEMS) -> None:
    """Writes that many orders, one line each, with their logs, five ledger rows each, webhooks, shipments, mail and logs."""
    moment = f"now() - ({count} - i) * interval '{DAYS} days' / {count}"
    item, open_ = f"1 + mod(i, {items})", f"CASE WHEN i > {count} * 0.99 THEN 'pending' ELSE 'delivered' END"
    numbers = f"FROM generate_series(1, {count}) AS i"
    with database.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO products (name, slug, sku, price, stock_quantity, status) SELECT 'Part ' || i, 'part-' || i, "
            f"'SKU-' || i, 10, 100, 'active' FROM generate_series(1, {items}) AS i"
        )
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # no trigger runs
        for statement in (
            "INSERT INTO orders (id, order_number, status, total_amount, shipping_address, billing_address, created_at) "
            f"SELECT i, '4S-O-' || i, {open_}, 10, '{{}}', '{{}}', {moment} {numbers}",
            "INSERT INTO order_items (id, order_id, product_id, product_name, quantity, price, total_price) "
            f"SELECT i, i, {item}, repeat('Display ', 20), 1, 10, 10 {numbers}",
            "INSERT INTO marketplace_orders (id, marketplace_order_id, local_order_id, sales_channel, status, outcome, "
            "exception, currency, total, lines_total, shipping_cost, tax, discount, placed_at, imported_at, erased_at) "
            "SELECT i, 'O-' || i, i, (ARRAY['amazon', 'ebay', 'tiktok'])[1 + mod(i, 3)], "
            f"{open_}, 'imported', CASE WHEN mod(i, 2000) = 0 THEN 'edited' END, 'USD', 10, 10, 0, 0, 0, {moment}, {moment}, "
            f"CASE WHEN {moment} < now() - interval '35 days' THEN {moment} + interval '35 days' END {numbers}",
            "INSERT INTO marketplace_order_lines (id, order_id, line, sku, quantity, price, order_item_id, product_id, "
            f"allocated) SELECT i, i, 1, 'SKU-' || {item}, 1, 10, i, {item}, 1 {numbers}",
            "INSERT INTO order_processing_logs (marketplace_order_id, step, detail, created_at) "
            f"SELECT 'O-' || i, unnest(ARRAY['imported', 'deducted']), 'Line 1', {moment} {numbers}",
            "INSERT INTO inventory_changes (product_id, delta, quantity_after, source, cause, reference, created_at) "
            f"SELECT {item}, unnest(ARRAY[-1, 1, -1, 1, 0]), unnest(ARRAY[99, 100, 99, 100, 100]), "
            "unnest(ARRAY['fourseller', 'website', 'website', 'website', 'website']), "
            "unnest(ARRAY['sale', 'changed', 'changed', 'changed', 'changed']), "
            f"unnest(ARRAY['fourseller:O-' || i || ':1', NULL, NULL, NULL, NULL]), {moment} {numbers}",
            "INSERT INTO marketplace_webhooks (webhook_id, type, subject, payload, received_at, processed_at, outcome) "
            f"SELECT 'W-' || i, 'order.created', 'order:O-' || i, '-', {moment}, {moment}, 'applied' {numbers} WHERE mod(i, 2) = 0",
            "INSERT INTO fourseller_sync_logs (kind, scope, started_at, outcome, counts, requests, seconds) "
            "SELECT (ARRAY['orders', 'gateway', 'products', 'reconcile'])[1 + mod(i / 2, 4)], 'changed', "
            f"{moment}, 'done', '{{}}', 1, 1 {numbers} WHERE mod(i, 2) = 0",
            "INSERT INTO fourseller_api_errors (endpoint, attempt, created_at) "
            f"SELECT 'GET /orders', 1, {moment} {numbers} WHERE mod(i, 2) = 0",
            "INSERT INTO order_status_history (order_id, status, created_at) "
            f"SELECT i, {open_}, {moment} + interval '5 days' {numbers}",
            "CREATE INDEX order_status_history_owner ON order_status_history (order_id)",  # as `midas doctor` advises
            "INSERT INTO order_shipments (order_id, carrier, tracking_number, shipped_at, booked_at, pushed_at) "
            f"SELECT i, 'UPS', 'N-' || i, {moment}, {moment}, {moment} {numbers} WHERE mod(i, 2) = 0",
            "INSERT INTO customer_mails (order_id, kind, state, created_at, sent_at) "
            f"SELECT i, 'received', 'sent', {moment}, {moment} {numbers} WHERE mod(i, 2) = 0",
            "INSERT INTO midas_listing_writes (at, mapping_id, sku, action) "
            f"SELECT {moment}, {item}, 'SKU-' || {item}, 'quantity' {numbers} WHERE mod(i, 2) = 0",
            "INSERT INTO alerts (kind, subject, text, created_at, cleared_at, sent_at) "
            f"SELECT 'low_stock', 'item:' || {item} || ':0', 'Low.', {moment}, {moment}, {moment} {numbers} WHERE mod(i, 100) = 0",
            f"SELECT setval(pg_get_serial_sequence(name, 'id'), {count}) FROM unnest(ARRAY['orders', 'order_items', "
            "'marketplace_orders', 'marketplace_order_lines']) AS name",
            "UPDATE fourseller_product_mappings SET sku = 'SKU-' || product_id, state = 'listed', dirty_since = NULL, "
            "fourseller_product_id = 'P-' || product_id, acked_version = version, acked_quantity = 100, acked_price = 10",
        ):
            connection.exec_driver_sql(statement)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    database.engine.dispose()


@contextmanager
def watched() -> Iterator[list[str]]:
    """What statements of this process do with the large tables while the block runs: a sequential scan, or the reading of more
    than a fifth of the rows; each by its statement.

    A statement that reads is explained. Of one that writes, with the triggers and foreign keys behind it, PostgreSQL counts the
    scans.
    """
    found: list[str] = []
    sizes: dict[str, float] = {}
    seen: set[str] = set()

    def before(
        connection: sa.Connection, _: object, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if connection.dialect.name != "postgresql":
            return
        cursor = connection.connection.cursor()
        if not READS.match(statement):
            context.scans_before = _counted(cursor)
        elif statement not in seen:
            seen.add(statement)
            if not sizes:
                cursor.execute(
                    "SELECT relname, reltuples FROM pg_class WHERE relname = ANY(%s)", [list(LARGE)]
                )
                sizes.update((str(row[0]), float(row[1])) for row in cursor.fetchall())
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            (plan,) = cursor.fetchone() or ([],)
            for table, how, rows in _read(plan[0]["Plan"]):
                if table in sizes and (how == "Seq Scan" or rows > sizes[table] * MOST_READ):
                    found.append(f"{how} of {table}, {rows:.0f} rows: {statement}")

    def after(
        connection: sa.Connection, _: object, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if (earlier := getattr(context, "scans_before", None)) is not None:
            later = _counted(connection.connection.cursor())
            more = [table for table, scans in later.items() if scans > earlier.get(table, 0)]
            found.extend(f"Seq Scan of {table} by: {statement}" for table in more)

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    sa.event.listen(sa.Engine, "after_cursor_execute", after)
    try:
        yield found
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)
        sa.event.remove(sa.Engine, "after_cursor_execute", after)


READS = re.compile(r"\s*(?:SELECT\b|WITH\b(?!.*\b(?:INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b))", re.DOTALL)


def _counted(cursor: Any) -> dict[str, int]:
    """The sequential scans of each large table, as this session's transactions count them."""
    cursor.execute(
        "SELECT relname, pg_stat_get_xact_numscans(oid) FROM pg_class WHERE relname = ANY(%s)", [list(LARGE)]
    )
    return dict(cursor.fetchall())


def scans(database: Database, reading: Reading) -> list[str]:
    """What `watched` finds of one reading."""
    with watched() as found:
        reading(database)
    return found


def _read(plan: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Of each node of a plan that reads a table: the table, how, and how many of its rows."""
    if "Relation Name" in plan:
        dropped = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
        rows = plan["Actual Rows"] + sum(plan.get(name, 0) for name in dropped)
        yield plan["Relation Name"], plan["Node Type"], rows * plan["Actual Loops"]
    for part in plan.get("Plans", []):
        yield from _read(part)
