"""Tables of personal data: which buyers the law keeps, and what persons asked for."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.tables import BigId, marketplace_orders, store
from midas_pipelines.storefront.types import Json, UtcDateTime, Words, utc_now

# At most one hold of an order is in force: the one that is not released and has not ended.
buyer_holds = sa.Table(
    "buyer_holds",
    store,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("order_id", BigId, sa.ForeignKey("marketplace_orders.id", ondelete="CASCADE"), nullable=False),
    sa.Column("held_until", UtcDateTime, nullable=False),
    sa.Column("because", Words(500)),  # which law
    sa.Column("held_by", Words(120), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("released_at", UtcDateTime),
)
sa.Index("buyer_holds_order", buyer_holds.c.order_id)

# What a person asked for, and the proof of the answer. Who asked is kept as a keyed digest, never in clear.
privacy_requests = sa.Table(
    "privacy_requests",
    store,
    sa.Column("id", BigId, primary_key=True),
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
sa.Index(
    "privacy_requests_open",
    privacy_requests.c.due_at,
    postgresql_where=privacy_requests.c.done_at.is_(None),
    sqlite_where=privacy_requests.c.done_at.is_(None),
)


def person_digests(payload: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """The keyed digests before a sealed payload (`store/orders/payload_vault.py`), on PostgreSQL."""
    index = sa.func.split_part(payload, sa.text("':'"), sa.text("3"))
    return sa.func.string_to_array(index, sa.text("'.'"), type_=sa.ARRAY(sa.Text))


# A person is found by them. SQLite has no index of several values of a row: there the beginning of each payload is read.
for _payload in (marketplace_orders.c.payload, marketplace_webhooks.c.payload):
    _persons = sa.Index(f"{_payload.table.name}_persons", person_digests(_payload), postgresql_using="gin")
    _persons.ddl_if(dialect="postgresql")
