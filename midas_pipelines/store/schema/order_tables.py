"""Tables beside an order: shipments, mail to customers, and what the law and persons ask about buyers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.tables import BigId, marketplace_orders, numbered, partial_index
from midas_pipelines.storefront.types import Json, UtcDateTime, Words, utc_now

WHOLE_UNITS = "quantity > 0 AND quantity = CAST(quantity AS INTEGER)"
"""SQLite would let words and parts of a unit in."""


def _text(name: str, length: int) -> sa.Column[str]:
    """A column that the shop's own code may write; SQLite would let bytes in."""
    return sa.Column(name, sa.String(length), sa.CheckConstraint(f"{name} = CAST({name} AS TEXT)"))


# One row per shipment. The shop's own code may insert here: the order, the carrier and the number are enough.
order_shipments = numbered(
    "order_shipments",
    sa.Column("order_id", sa.Integer, nullable=False),  # the shop's order
    _text("carrier", 50),
    _text("tracking_number", 100),
    _text("tracking_url", 500),
    # who recorded it, as the order log names them; `shop` is the shop's own code
    sa.Column("source", sa.String(64), nullable=False, server_default="shop"),
    sa.Column("shipped_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("booked_at", UtcDateTime),  # when its units were booked on the order's lines
    sa.Column("pushed_at", UtcDateTime),  # when 4Seller confirmed it
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", UtcDateTime),
    sa.Column("reason", sa.Text),  # why it waits or was refused, in words for the operator
    sa.Column("contents", Json),  # the units that were booked for it, by the shop's order line
)
partial_index(
    order_shipments,
    "order_shipments_once",
    "order_id, tracking_number",
    "tracking_number IS NOT NULL",
    unique=True,
)
sa.Index("order_shipments_order", order_shipments.c.order_id)
partial_index(order_shipments, "order_shipments_unpushed", "id", "pushed_at IS NULL")

# The contents of a shipment by the shop's own code; one without lines holds everything that was left to ship.
order_shipment_lines = numbered(
    "order_shipment_lines",
    sa.Column("shipment_id", BigId, sa.ForeignKey("order_shipments.id", ondelete="CASCADE"), nullable=False),
    sa.Column("order_item_id", sa.Integer, nullable=False),  # the shop's order line
    sa.Column("quantity", sa.Integer, sa.CheckConstraint(WHOLE_UNITS), nullable=False),
    sa.UniqueConstraint("shipment_id", "order_item_id", name="order_shipment_lines_once"),
)

# Mail to customers: written in the transaction that made it due, sent after it. No address is kept here.
customer_mails = numbered(
    "customer_mails",
    sa.Column("order_id", BigId, sa.ForeignKey("marketplace_orders.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),  # received|shipped|cancelled
    sa.Column("shipment_id", BigId, sa.ForeignKey("order_shipments.id", ondelete="CASCADE"), unique=True),
    # waiting|sending|sent|failed (a person has to look)|dropped (no longer appropriate)
    sa.Column("state", sa.String(20), nullable=False, server_default="waiting"),
    sa.Column("reason", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("sent_at", UtcDateTime),
)
partial_index(customer_mails, "customer_mails_once", "order_id, kind", "shipment_id IS NULL", unique=True)
sa.Index("customer_mails_order", customer_mails.c.order_id)
partial_index(customer_mails, "customer_mails_unsent", "id", "state IN ('waiting', 'sending', 'failed')")


# At most one hold of an order is in force: the one that is not released and has not ended.
buyer_holds = numbered(
    "buyer_holds",
    sa.Column("order_id", BigId, sa.ForeignKey("marketplace_orders.id", ondelete="CASCADE"), nullable=False),
    sa.Column("held_until", UtcDateTime, nullable=False),
    sa.Column("because", Words(500)),  # which law
    sa.Column("held_by", Words(120), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("released_at", UtcDateTime),
)
sa.Index("buyer_holds_order", buyer_holds.c.order_id)

# What a person asked for, and the proof of the answer. Who asked is kept as a keyed digest, never in clear.
privacy_requests = numbered(
    "privacy_requests",
    sa.Column("kind", sa.String(10), nullable=False),  # find|export|erase
    sa.Column("subject", sa.String(100), nullable=False),  # such as email:DIGEST; order:ID names an order
    sa.Column("asked_by", Words(120), nullable=False),  # who passed it on
    sa.Column("received_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("due_at", UtcDateTime, nullable=False, server_default=utc_now(30 * 24 * 3600)),
    sa.Column("done_at", UtcDateTime),
    sa.Column("orders", Json),  # the orders found, by the marketplace's number
    sa.Column("proof", Json),  # what was erased or held, and that nothing is left
    sa.Column("sent", Json),  # to whom what was sent, and when
)
partial_index(privacy_requests, "privacy_requests_open", "due_at", "done_at IS NULL")


def person_digests(payload: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """The keyed digests before a sealed payload (`store/orders/payload_vault.py`), on PostgreSQL."""
    index = sa.func.split_part(payload, sa.text("':'"), sa.text("3"))
    return sa.func.string_to_array(index, sa.text("'.'"), type_=sa.ARRAY(sa.Text))


# A person is found by them. SQLite has no index of several values of a row: there the beginning of each payload is read.
for _table in (marketplace_orders, marketplace_webhooks):
    _made = f"CREATE INDEX {_table.name}_persons ON {_table.name} USING gin (string_to_array(split_part(payload, ':', 3), '.'))"
    sa.event.listen(_table, "after_create", sa.DDL(_made).execute_if(dialect="postgresql"))  # type: ignore[no-untyped-call]
