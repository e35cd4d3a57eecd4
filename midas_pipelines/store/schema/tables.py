"""The integration's tables. Alembic makes them (`migrations/`); a test holds the two together."""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.storefront.types import Amount, Json, Money, UtcDateTime, Words, utc_now

store = sa.MetaData()
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A 64-bit key; SQLite assigns ids automatically only in a column declared INTEGER."""


def numbered(name: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    """A table of ours with these columns and constraints behind an `id`."""
    return sa.Table(name, store, sa.Column("id", BigId, primary_key=True), *columns)


def partial_index(
    table: sa.Table, name: str, columns: str, where: str | sa.ColumnElement[bool], *, unique: bool = False
) -> None:
    """An index over the rows for which `where` holds, in SQL of both databases: SQLAlchemy's own would load the
    dialects of both, which takes longer than to declare all tables."""
    condition = str(where).replace(f"{table}.", "")
    made = f"CREATE {'UNIQUE ' * unique}INDEX {name} ON {table} ({columns}) WHERE {condition}"
    sa.event.listen(table, "after_create", sa.DDL(made))  # type: ignore[no-untyped-call]


# One row per sellable item. The shop's triggers add rows and raise `version`; only the engine writes the rest.
mappings = numbered(
    "fourseller_product_mappings",
    sa.Column("product_id", sa.Integer, nullable=False),
    sa.Column("variant_id", sa.Integer),
    sa.Column("sku", sa.String(50), unique=True),  # held on 4Seller for this item; empty before a push
    sa.Column("fourseller_product_id", sa.String(100), unique=True),
    sa.Column("state", sa.String(20), nullable=False, server_default="new"),  # new|listed|quarantined|removed
    sa.Column("reason", Words()),  # why quarantined, or the last failure, in words for the operator
    sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("dirty_since", UtcDateTime, server_default=utc_now()),
    sa.Column("acked_version", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("acked_hash", sa.String(64)),
    sa.Column("acked_price", Money),
    sa.Column("acked_quantity", sa.Integer),
    sa.Column("acked_at", UtcDateTime),
    sa.Column("observed_hash", sa.String(64)),
    sa.Column("observed_price", Money),
    sa.Column("observed_quantity", sa.Integer),
    sa.Column("observed_at", UtcDateTime),
    sa.Column("judged_key", sa.String(32)),  # what the last comparison that found it equal depended on
    sa.Column("claimed_by", sa.String(100)),
    sa.Column("claimed_until", UtcDateTime),
    sa.Column("claim_number", sa.BigInteger, nullable=False, server_default="0"),  # the fencing token
    sa.Column("recheck_at", UtcDateTime),  # push again then: a write without an answer may arrive first
    sa.Column("creating_since", UtcDateTime),  # a create may have been sent, and has no answer
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", UtcDateTime),
    sa.Column("pinned_fields", Json),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
)
ITEM_KEY = sa.func.coalesce(mappings.c.variant_id, 0)
sa.Index("fourseller_product_mappings_item", mappings.c.product_id, ITEM_KEY, unique=True)
partial_index(mappings, "fourseller_product_mappings_dirty", "id", "dirty_since IS NOT NULL")
_ITEM, _LITERAL = mappings.c, sa.literal_column
WAS_LISTED = sa.or_(_ITEM.fourseller_product_id.is_not(None), _ITEM.state == _LITERAL("'listed'"))
"""The item is on 4Seller, or was until its product went missing there; constants, so that the small index serves it."""

_CHANGED = sa.and_(_ITEM.dirty_since.is_not(None), WAS_LISTED)
partial_index(mappings, "fourseller_product_mappings_changed", "dirty_since", _CHANGED)
partial_index(mappings, "fourseller_product_mappings_recheck", "recheck_at", "recheck_at IS NOT NULL")

ITEM_WAITS = sa.or_(_ITEM.state == _LITERAL("'quarantined'"), _ITEM.attempts > _LITERAL("0"))
"""The item is quarantined or backing off; constants, so that the small index serves it."""

partial_index(mappings, "fourseller_product_mappings_waits", "id", ITEM_WAITS)

SPELLING = sa.func.replace(sa.func.lower(_ITEM.sku), _LITERAL("' '"), _LITERAL("''"), type_=sa.String)
"""A SKU as it is compared with the spellings of a hub; constants, so that the index serves the comparison."""

sa.Index("fourseller_product_mappings_spelling", SPELLING)

# Links from hub SKUs to items, made by a person, where no item of the shop has the SKU.
hub_skus = sa.Table(
    "midas_hub_skus",
    store,
    sa.Column("hub_sku", sa.String(255), primary_key=True),
    sa.Column("product_id", sa.Integer, nullable=False),
    sa.Column("variant_id", sa.Integer),
)

# Who pushes items and applies webhooks at present; a worker renews its lease every few seconds.
workers = sa.Table(
    "midas_workers",
    store,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("alive_until", UtcDateTime, nullable=False),
)

# The stock ledger, append-only. Written by triggers for the shop's own changes, by the engine for all others.
inventory_changes = numbered(
    "inventory_changes",
    sa.Column("product_id", sa.Integer, nullable=False),
    sa.Column("variant_id", sa.Integer),
    sa.Column("delta", sa.Integer, nullable=False),
    sa.Column("quantity_after", sa.Integer, nullable=False),
    sa.Column("source", sa.String(20), nullable=False),  # website|fourseller|operator|reconcile
    sa.Column("cause", sa.String(30), nullable=False),  # opening|changed|sale|cancellation|refund|restock|...
    sa.Column("reference", sa.String(200).with_variant(sa.String(200, collation="C"), "postgresql")),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.UniqueConstraint("reference", "cause", name="inventory_changes_each_cause_once"),
)
LEDGER_KEY = sa.func.coalesce(inventory_changes.c.variant_id, 0)
sa.Index("inventory_changes_item", inventory_changes.c.product_id, LEDGER_KEY, inventory_changes.c.id)
sa.Index("inventory_changes_when", inventory_changes.c.created_at)

marketplace_orders = numbered(
    "marketplace_orders",
    sa.Column("channel", sa.String(20), nullable=False, server_default="fourseller"),
    sa.Column("marketplace_order_id", sa.String(200), nullable=False),
    sa.Column("local_order_id", sa.Integer, unique=True),  # empty while the order is quarantined
    sa.Column("sales_channel", sa.String(50)),
    sa.Column("status", sa.String(20), nullable=False),  # one of the contract's five states
    sa.Column("status_word", sa.String(50)),  # as 4Seller wrote it
    sa.Column("outcome", sa.String(20), nullable=False),  # what happened: imported|quarantined
    sa.Column("exception", sa.String(200)),  # comma separated: unmapped, oversold, ...
    sa.Column("reason", sa.Text),
    sa.Column("currency", sa.String(10)),
    sa.Column("total", Amount),
    sa.Column("lines_total", Amount),
    sa.Column("shipping_cost", Amount),
    sa.Column("tax", Amount),
    sa.Column("discount", Amount),
    sa.Column("payload", sa.Text),
    sa.Column("content_hash", sa.String(64)),  # differs in an edited order, not in a repeated one
    sa.Column("placed_at", UtcDateTime),
    sa.Column("source_updated_at", UtcDateTime),
    sa.Column("shop_status_since", UtcDateTime),  # the shop changed the status; not pushed yet
    sa.Column("imported_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("content_at", UtcDateTime),  # when its content was last applied, by the database's clock
    sa.Column("disputed_at", UtcDateTime),  # 4Seller's date of the report that a person was asked about
    sa.Column("resolution", sa.String(20)),  # what a person decided of the last conflict: shipped|cancelled
    sa.Column("erased_at", UtcDateTime),  # its buyer was erased, and stays so
    sa.Column("push_attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("push_after", UtcDateTime),  # the shop's status is not pushed before
    sa.UniqueConstraint("channel", "marketplace_order_id", name="marketplace_orders_once"),
)
sa.Index("marketplace_orders_placed", marketplace_orders.c.placed_at)
sa.Index("marketplace_orders_imported", marketplace_orders.c.imported_at)
ORDER_OPEN = marketplace_orders.c.status.in_([_LITERAL("'pending'"), _LITERAL("'processing'")])
"""The shop still has to handle the order; constants, so that the small index serves it."""

partial_index(marketplace_orders, "marketplace_orders_open", "id", ORDER_OPEN)
ORDER_QUARANTINED = marketplace_orders.c.outcome == _LITERAL("'quarantined'")
"""The order is stored, not imported; a constant, so that the small index serves it."""

partial_index(marketplace_orders, "marketplace_orders_quarantined", "id", ORDER_QUARANTINED)
partial_index(marketplace_orders, "marketplace_orders_exceptions", "id", "exception IS NOT NULL")
partial_index(marketplace_orders, "marketplace_orders_unerased", "id", "erased_at IS NULL")
partial_index(marketplace_orders, "marketplace_orders_to_push", "id", "shop_status_since IS NOT NULL")

# What each line of a marketplace order ordered and allocated; released <= allocated by constraint.
marketplace_order_lines = numbered(
    "marketplace_order_lines",
    sa.Column("order_id", BigId, sa.ForeignKey("marketplace_orders.id", ondelete="CASCADE"), nullable=False),
    sa.Column("line", sa.Integer, nullable=False),
    sa.Column("sku", sa.String(255)),
    sa.Column("fourseller_product_id", sa.String(100)),
    sa.Column("title", sa.Text),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("price", Amount, nullable=False),
    sa.Column("order_item_id", sa.Integer),
    sa.Column("product_id", sa.Integer),
    sa.Column("variant_id", sa.Integer),
    sa.Column("allocated", sa.Integer, nullable=False, server_default="0"),
    sa.Column("released", sa.Integer, nullable=False, server_default="0"),
    sa.Column("exception", sa.String(30)),  # comma separated: unmapped, oversold, quantity
    sa.Column("backordered", sa.Integer, nullable=False, server_default="0"),  # sold, not in stock
    sa.Column("shipped", sa.Integer, nullable=False, server_default="0"),
    sa.Column("returned", sa.Integer, nullable=False, server_default="0"),  # returned after they were shipped
    sa.UniqueConstraint("order_id", "line", name="marketplace_order_lines_once"),
    sa.CheckConstraint("released >= 0 AND released <= allocated", name="marketplace_order_lines_given_back"),
    sa.CheckConstraint("backordered >= 0", name="marketplace_order_lines_backordered"),
    sa.CheckConstraint("shipped >= 0", name="marketplace_order_lines_shipped"),
    sa.CheckConstraint("returned >= 0", name="marketplace_order_lines_returned"),
)
partial_index(marketplace_order_lines, "marketplace_order_lines_open", "id", "exception IS NOT NULL")

partial_index(marketplace_order_lines, "marketplace_order_lines_owed", "id", "backordered > 0")

order_processing_logs = numbered(
    "order_processing_logs",
    sa.Column("channel", sa.String(20), nullable=False, server_default="fourseller"),
    sa.Column("marketplace_order_id", sa.String(200), nullable=False),
    sa.Column("step", sa.String(30), nullable=False),
    sa.Column("detail", sa.Text),
    sa.Column("run_id", sa.String(64)),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
)
_STEP = order_processing_logs.c
sa.Index("order_processing_logs_order", _STEP.marketplace_order_id, _STEP.id)
sa.Index("order_processing_logs_when", _STEP.created_at)
partial_index(
    order_processing_logs,
    "order_processing_logs_by_a_person",
    "channel, marketplace_order_id",
    "step IN ('dismissed', 'resolved')",
)

sync_logs = numbered(
    "fourseller_sync_logs",
    sa.Column("kind", sa.String(30), nullable=False),  # products|inventory|orders|status|reconcile|gateway
    sa.Column("run_id", sa.String(64)),
    sa.Column("scope", Words(200), nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("counts", Json),
    sa.Column("requests", sa.Integer),
    sa.Column("seconds", sa.Float),
    # running|done|partial|failed
    sa.Column("outcome", sa.String(20), nullable=False, server_default="running"),
    sa.Column("reason", Words()),
)
sa.Index("fourseller_sync_logs_kind", sync_logs.c.kind, sync_logs.c.id)
sa.Index("fourseller_sync_logs_when", sync_logs.c.started_at)

api_errors = numbered(
    "fourseller_api_errors",
    sa.Column("endpoint", Words(200), nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("code", Words(100)),
    sa.Column("message", Words()),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("item", Words(255)),
    sa.Column("run_id", sa.String(64)),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
)
sa.Index("fourseller_api_errors_when", api_errors.c.created_at)

# When the next call to a rate-limited channel may be sent, shared by all processes; moments in seconds since 1970.
rate_limits = sa.Table(
    "midas_rate_limits",
    store,
    sa.Column("name", sa.String(50), primary_key=True),
    sa.Column("next_slot", sa.Double, nullable=False, server_default="0"),
    sa.Column("next_real_time", sa.Double, nullable=False, server_default="0"),  # between slots of bulk work
    sa.Column("blocked_until", sa.Double, nullable=False, server_default="0"),
)

# Cursors of the incremental reads, and a few facts about the whole installation.
cursors = sa.Table(
    "midas_cursors",
    store,
    sa.Column("name", sa.String(50), primary_key=True),
    sa.Column("moment", UtcDateTime),
    sa.Column("value", sa.String(200)),
)
