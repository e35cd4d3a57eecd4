"""Tables of shipments and of mail to customers."""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import BigId, store
from midas_pipelines.storefront.types import Json, ReadableMoment, UtcDateTime, utc_now

# One row per shipment. The shop's own code may insert here: the order, the carrier and the number are enough.
order_shipments = sa.Table(
    "order_shipments",
    store,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("order_id", sa.Integer, nullable=False),  # the shop's order
    sa.Column("carrier", sa.String(50)),
    sa.Column("tracking_number", sa.String(100)),
    sa.Column("tracking_url", sa.String(500)),
    sa.Column("source", sa.String(20), nullable=False, server_default="shop"),  # shop|operator|gateway
    sa.Column("shipped_at", ReadableMoment, nullable=False, server_default=utc_now()),
    sa.Column("booked_at", ReadableMoment),  # when its units were booked on the order's lines
    sa.Column("pushed_at", ReadableMoment),  # when 4Seller confirmed it
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", ReadableMoment),
    sa.Column("reason", sa.Text),  # why it waits or was refused, in words for the operator
    sa.Column("contents", Json),  # the units that were booked for it, by the shop's order line
)
sa.Index(
    "order_shipments_once",
    order_shipments.c.order_id,
    order_shipments.c.tracking_number,
    unique=True,
    postgresql_where=order_shipments.c.tracking_number.is_not(None),
    sqlite_where=order_shipments.c.tracking_number.is_not(None),
)
sa.Index("order_shipments_order", order_shipments.c.order_id)
sa.Index(
    "order_shipments_untold",
    order_shipments.c.id,
    postgresql_where=order_shipments.c.pushed_at.is_(None),
    sqlite_where=order_shipments.c.pushed_at.is_(None),
)

# The contents of a shipment by the shop's own code; one without lines holds everything that was left to ship.
order_shipment_lines = sa.Table(
    "order_shipment_lines",
    store,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("shipment_id", BigId, sa.ForeignKey("order_shipments.id", ondelete="CASCADE"), nullable=False),
    sa.Column("order_item_id", sa.Integer, nullable=False),  # the shop's order line
    sa.Column("quantity", sa.Integer, sa.CheckConstraint("quantity > 0"), nullable=False),
    sa.UniqueConstraint("shipment_id", "order_item_id", name="order_shipment_lines_once"),
)

# Mail to customers: written in the transaction that made it due, sent after it. No address is kept here.
customer_mails = sa.Table(
    "customer_mails",
    store,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("order_id", BigId, sa.ForeignKey("marketplace_orders.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),  # received|shipped|cancelled
    sa.Column("shipment_id", BigId, sa.ForeignKey("order_shipments.id", ondelete="CASCADE"), unique=True),
    sa.Column(  # waiting|sending|sent|failed (a person has to look)|dropped (no longer appropriate)
        "state", sa.String(20), nullable=False, server_default="waiting"
    ),
    sa.Column("reason", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("sent_at", UtcDateTime),
)
sa.Index(
    "customer_mails_once",
    customer_mails.c.order_id,
    customer_mails.c.kind,
    unique=True,
    postgresql_where=customer_mails.c.shipment_id.is_(None),
    sqlite_where=customer_mails.c.shipment_id.is_(None),
)
sa.Index("customer_mails_order", customer_mails.c.order_id)
sa.Index(
    "customer_mails_unsent",
    customer_mails.c.id,
    postgresql_where=customer_mails.c.state.in_(["waiting", "sending", "failed"]),
    sqlite_where=customer_mails.c.state.in_(["waiting", "sending", "failed"]),
)
