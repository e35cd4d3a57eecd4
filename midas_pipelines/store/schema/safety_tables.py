"""Tables for trying and changing safely: shadow writes, values before each write, the contract's findings, repeated calls.

None holds personal data: of an order there is its id, its status and its tracking number.
"""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import BigId, store
from midas_pipelines.storefront.types import Json, UtcDateTime, Words, utc_now

# What shadow mode kept from leaving, one row for each different write of an item or order.
shadow_writes = sa.Table(
    "midas_shadow_writes",
    store,
    sa.Column("digest", sa.String(64), primary_key=True),  # of kind, subject and content
    sa.Column("kind", sa.String(20), nullable=False),  # listing|quantity|status|order
    sa.Column(
        "subject", Words(255), nullable=False
    ),  # a SKU, 4Seller's product id or the marketplace's order id
    sa.Column("call", sa.String(100), nullable=False),
    sa.Column("content", Json),
    sa.Column("run_id", sa.String(64)),
    sa.Column("first_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("last_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("times", sa.Integer, nullable=False, server_default="1"),
)
sa.Index("midas_shadow_writes_last", shadow_writes.c.last_at)

# The listing before and after each write that was about to be sent: what `midas undo` puts back.
listing_writes = sa.Table(
    "midas_listing_writes",
    store,
    sa.Column("id", BigId, primary_key=True),
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
