"""Tables of running it safely: alerts to staff, proofs, shadow writes, values before each write, the contract's findings.

None holds personal data: of an order there is its id, its status and its tracking number. An alert is written in the
transaction that it reports on, and sent afterwards.
"""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import BigId, numbered, partial_index, store
from midas_pipelines.storefront.types import Json, UtcDateTime, Words, utc_now

# One open row per (kind, subject): a lasting fault is reported once, until it is cleared.
alerts = numbered(
    "alerts",
    sa.Column("kind", sa.String(30), nullable=False),  # low_stock|conflict|daily_report|oversold|...
    sa.Column("subject", sa.String(200), nullable=False),  # what it is about, such as item:12:0
    sa.Column("text", Words(), nullable=False),
    sa.Column("members", Json),  # the subjects of an alert about many of one cause
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("cleared_at", UtcDateTime),  # it is over; the same fault may be reported again
    sa.Column("sent_at", UtcDateTime),  # every target has accepted it
    sa.Column("sent_to", Json),  # fingerprints of the targets that have accepted it so far
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("reason", Words()),  # why the last attempt failed, without any address
    sa.Column("taken_by", Words(100)),  # the person who sees to it
    sa.Column("snoozed_until", UtcDateTime),  # until then it is not shown as open
)
partial_index(alerts, "alerts_open_once", "kind, subject", "cleared_at IS NULL", unique=True)
partial_index(alerts, "alerts_unsent", "next_attempt_at", "sent_at IS NULL AND cleared_at IS NULL")

# What a person or a job checked, when, and whether it held. `midas compliance` reads the newest of each name.
proofs = numbered(
    "midas_proofs",
    sa.Column("name", sa.String(40), nullable=False),  # key_review|backup|backup_drill|scan|incident_plan|...
    sa.Column("at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("by", Words(120), nullable=False),
    sa.Column("detail", Json),
)
sa.Index("midas_proofs_name", proofs.c.name, proofs.c.id)


# What shadow mode kept from leaving, one row for each different write of an item or order.
shadow_writes = sa.Table(
    "midas_shadow_writes",
    store,
    sa.Column("digest", sa.String(64), primary_key=True),  # of kind, subject and content
    sa.Column("kind", sa.String(20), nullable=False),  # listing|quantity|status|order
    sa.Column("subject", Words(255), nullable=False),  # a SKU, 4Seller's product id, or an order's id
    sa.Column("call", sa.String(100), nullable=False),
    sa.Column("content", Json),
    sa.Column("run_id", sa.String(64)),
    sa.Column("first_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("last_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("times", sa.Integer, nullable=False, server_default="1"),
)
sa.Index("midas_shadow_writes_last", shadow_writes.c.last_at)

# The listing before and after each write that was about to be sent: what `midas undo` puts back.
listing_writes = numbered(
    "midas_listing_writes",
    sa.Column("at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("run_id", sa.String(64)),
    sa.Column("mapping_id", BigId, nullable=False),
    sa.Column("sku", Words(255)),
    sa.Column("action", sa.String(20), nullable=False),  # create|update|quantity|delete
    sa.Column("before", Json),  # the product as it was; empty where it was not known, or there was none
    sa.Column("after", Json),  # the product as it was sent; of a quantity that alone
    sa.Column("content_hash", sa.String(64)),
    sa.Column("undone_at", UtcDateTime),
)
sa.Index("midas_listing_writes_item", listing_writes.c.mapping_id, listing_writes.c.id)
sa.Index("midas_listing_writes_run", listing_writes.c.run_id)
sa.Index("midas_listing_writes_at", listing_writes.c.at)

# Where 4Seller's answers differ from the contract.
contract_findings = sa.Table(
    "midas_contract_findings",
    store,
    sa.Column("digest", sa.String(64), primary_key=True),  # of kind, call and place
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("call", sa.String(100), nullable=False),  # GET /products
    sa.Column("place", Words(200), nullable=False),  # data[].price
    sa.Column("what", Words(), nullable=False),
    sa.Column("example", Words()),
    sa.Column("first_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("last_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("times", sa.Integer, nullable=False, server_default="1"),
)

# Answers to calls with an Idempotency-Key, for 24 hours.
repeated_calls = sa.Table(
    "midas_repeated_calls",
    store,
    sa.Column("digest", sa.String(64), primary_key=True),  # of caller, call and key
    sa.Column("body_digest", sa.String(64), nullable=False),
    sa.Column("begun_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("status", sa.Integer),  # empty while it is executed
    sa.Column("media_type", sa.String(100)),
    sa.Column("body", sa.Text),
)
sa.Index("midas_repeated_calls_begun", repeated_calls.c.begun_at)
