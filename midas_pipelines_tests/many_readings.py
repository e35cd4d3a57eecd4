"""What people, schedules and the gateway ask all the time, by name: each must stay quick however many orders there are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from midas_pipelines.fourseller.status import BACKWARD
from midas_pipelines.gateway.console.decide import CARDS
from midas_pipelines.notify.alerts import open_subjects, recent_alerts, report_stuck
from midas_pipelines.notify.delivery import something_due
from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database, count_rows
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.audit import read_audit
from midas_pipelines.store.items import claims
from midas_pipelines.store.items.writes import recent_runs
from midas_pipelines.store.operations import backlog, sync_metrics
from midas_pipelines.store.operations.retention import KEPT, delete_old
from midas_pipelines.store.operations.sync_log import last_syncs, newest_sync, running_syncs
from midas_pipelines.store.orders import checks, listing
from midas_pipelines.store.orders.listing import Filters, list_orders
from midas_pipelines.store.stock import ledger
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.explain import explain_item
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines.sync.operations import capacity, stock_levels
from midas_pipelines.sync.operations.daily_report import write_report
from midas_pipelines.sync.orders import customer_mail
from midas_pipelines.sync.orders.changes.exceptions import match_unknown_word
from midas_pipelines.sync.orders.lookup import find_order, read_timeline
from midas_pipelines.sync.orders.status.outbound import pending_updates
from midas_pipelines.sync.orders.stock.pending_lines import allocate_pending_lines
from midas_pipelines.sync.privacy.due import overdue_buyers
from midas_pipelines.sync.privacy.requests import late_requests
from midas_pipelines_tests.many_orders import Reading

SETTINGS = load_settings()
CHECKED = SETTINGS.orders_checked_days
NOW = datetime.now(UTC)
SOON = 3600


def reads(work: Callable[..., object], *given: object, **named: object) -> Reading:
    """A reading by a function that takes a connection."""
    return lambda database: database.read(work, *given, **named)


def writes(work: Callable[..., object], *given: object, **named: object) -> Reading:
    """The same in a transaction that writes."""
    return lambda database: database.write(work, *given, **named)


def context_of(database: Database) -> SyncContext:
    """The engine on the database, which calls nobody."""
    url = database.engine.url.render_as_string(hide_password=False)
    return SyncContext(load_settings(database_url=url), database)


def listed(**wanted: object) -> Reading:
    """A page of orders with this filter."""
    return reads(list_orders, Filters(**wanted), limit=51)  # type: ignore[arg-type]


def shown(connection: sa.Connection) -> object:
    """One order with its timeline."""
    return read_timeline(connection, find_order(connection, "O-1000"))


READINGS: dict[str, Reading] = {
    "orders list": listed(),
    "orders list --status pending": listed(status="pending"),
    "orders list --exception any": listed(exception=True),
    "orders list --exception oversold": listed(exception=["oversold"]),
    "GET orders of a channel": listed(sales_channel="ebay"),
    "GET orders of a week": listed(placed_from=NOW - timedelta(days=40), placed_to=NOW - timedelta(days=33)),
    "GET orders without an exception": listed(exception=False),
    "orders show": reads(shown),
    "order_totals_add_up": lambda database: checks.unbalanced_orders(database, CHECKED),
    "one_shop_order_each": lambda database: checks.unpaired_orders(database, CHECKED),
    "deductions_equal_items": lambda database: checks.unexplained_deductions(database, CHECKED),
    "statuses_never_go_back": lambda database: checks.statuses_gone_back(database, BACKWARD, CHECKED),
    "the orders that checks look at": lambda database: checks.count_looked_at(database, CHECKED, lines=True),
    "webhooks_come_to_an_end": lambda database: backlog.dropped_webhooks(database, SOON),
    "no_order_open_too_long": lambda database: checks.stale_orders(database, 14),
    "no_order_waits_for_a_person": checks.needing_a_person,
    "no_buyer_kept_too_long": lambda database: overdue_buyers(database, SETTINGS),
    "every_request_answered_in_time": late_requests,
    "orders_are_fresh": listing.last_import,
    "open orders": listing.open_orders,
    "sales of a day": lambda database: listing.sales_between(
        database, NOW - timedelta(days=1), NOW + timedelta(days=1)
    ),
    "sales of an earlier day": lambda database: listing.sales_between(
        database, NOW - timedelta(days=400), NOW - timedelta(days=399)
    ),
    "an unknown word": writes(match_unknown_word, "Teleported"),
    "days with new orders": lambda database: listing.days_with_changed_orders(
        database, SETTINGS.day_of, NOW - timedelta(hours=1)
    ),
    "the rows of a table": lambda database: [
        count_rows(database, name) for name in ("orders", "marketplace_orders", "inventory_changes")
    ],
    "ledger_explains_stock": lambda database: ledger.unexplained_stock(database, CHECKED),
    "no_negative_stock": ledger.negative_stock,
    "stock in all": reads(ledger.stock_totals),
    "low stock": lambda database: stock_levels.check_low_stock(context_of(database), alert=True),
    "what the rules withhold": stock_levels.availability_summary,
    "top movers": ledger.top_movers,
    "what runs out first": reads(stock_levels.soonest_low, SETTINGS, 20),
    "explain SKU": lambda database: explain_item(database, "SKU-7", SETTINGS.title_limit),
    "status": backlog.overview,
    "what needs a person": reads(backlog.needs_a_person),
    **{f"cards of {cause}": reads(cards, skip=0, limit=20) for cause, cards in CARDS.items()},
    "a plan": lambda database: make_plan(context_of(database), dirty_only=True),
    "trends": lambda database: sync_metrics.read_trends(database, NOW),
    "syncs of a day": sync_metrics.finished_syncs,
    "stock measured": sync_metrics.stock_measured,
    "capacity plan": lambda database: capacity.measure(database, SETTINGS),
    "daily report": lambda database: write_report(context_of(database)),
    "syncs": last_syncs,
    "the newest sync": reads(newest_sync, "orders"),
    "syncs that run": reads(running_syncs),
    "runs to undo": reads(recent_runs),
    "webhooks list": reads(webhooks.listed, state="all", limit=51),
    "webhooks list --state pending": reads(webhooks.listed, state="pending", limit=51),
    "webhooks list --state quarantined": reads(webhooks.listed, state="quarantined", limit=51),
    "webhooks list --state applied": reads(webhooks.listed, state="applied", limit=51),
    "one webhook": reads(webhooks.find_webhook, "W-1000"),
    "alerts": reads(recent_alerts, only_open=False),
    "open alerts": reads(open_subjects, "low_stock"),
    "alerts of what is stuck": report_stuck,
    "audit": reads(read_audit, before=None, limit=51),
    "is an alert due": something_due,
    "is a message due": customer_mail.mail_due,
    "messages that were not sent": customer_mail.unsent_messages,
    "is an item waiting": lambda database: backlog.stale_items(database, SOON),
    "is a webhook waiting": lambda database: backlog.stale_webhooks(database, SOON),
    "is a webhook due": reads(webhooks.any_due, orders=True),
    "does an order wait": reads(webhooks.orders_wait, 5),
    "claim webhooks": writes(webhooks.claim, worker="w", lease_seconds=15, limit=100, orders=True),
    "free dead webhooks": webhooks.free_dead,
    "claimable items": reads(claims.read_claimable, limit=100, new=10),
    "claim items": writes(claims.claim, worker="w", lease_seconds=15, limit=100),
    "free dead items": claims.free_dead_claims,
    "statuses to push": lambda database: pending_updates(context_of(database), 0, None),
    "lines that wait": allocate_pending_lines,
    **{
        f"retention of {name}": lambda database, name=name: delete_old(database, name, days=3650, block=100)
        for name in KEPT
    },
}
"""All of them. Retention looks, and finds nothing so old."""
