"""The copy of a person's data that Art. 15 and 20 GDPR ask for: JSON, with purposes, recipients and periods."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.settings import Settings
from midas_pipelines.store.gateway.webhooks import ORDER
from midas_pipelines.store.orders.payload_vault import PayloadUnreadable, Vault
from midas_pipelines.store.privacy.register import RECIPIENTS, TABLES
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.privacy_tables import buyer_holds
from midas_pipelines.store.schema.shipment_tables import customer_mails, order_shipments
from midas_pipelines.store.schema.tables import (
    marketplace_order_lines,
    marketplace_orders,
    order_processing_logs,
)
from midas_pipelines.storefront.schema import order_items, order_status_history, orders
from midas_pipelines.sync.privacy.search import FoundPerson


def export_person(
    connection: sa.Connection, settings: Settings, vault: Vault, found: FoundPerson
) -> dict[str, Any]:
    """Everything that is kept of the person, opened.

    Args:
        connection: one consistent snapshot.
        settings: for the periods.
        vault: opens the payloads.
        found: the person's orders and events.
    """
    events = sa.select(marketplace_webhooks).where(marketplace_webhooks.c.id.in_(found.events))
    return {
        "orders": [_order(connection, settings, vault, row) for row in found.orders],
        "events": [_opened(vault, row) for row in connection.execute(events).mappings()],
        "fields": [
            {"table": table, "field": name, "what": one.what, "why": one.purpose.value, "ends": one.end.value}
            for table, entry in TABLES.items()
            for name, one in entry.personal.items()
        ],
        "recipients": RECIPIENTS,
    }


def _order(connection: sa.Connection, settings: Settings, vault: Vault, row: sa.Row[Any]) -> dict[str, Any]:
    name, local = row.marketplace_order_id, row.local_order_id
    days = settings.erase_after(row.sales_channel)
    parts = {
        orders: orders.c.id == local,
        order_items: order_items.c.order_id == local,
        order_status_history: order_status_history.c.order_id == local,
        marketplace_orders: marketplace_orders.c.id == row.id,
        marketplace_order_lines: marketplace_order_lines.c.order_id == row.id,
        order_processing_logs: order_processing_logs.c.marketplace_order_id == name,
        order_shipments: order_shipments.c.order_id == local,
        customer_mails: customer_mails.c.order_id == row.id,
        marketplace_webhooks: marketplace_webhooks.c.subject == f"{ORDER}{name}",
        buyer_holds: buyer_holds.c.order_id == row.id,
    }
    return {
        "order": name,
        "kept": "as long as the shop says" if days is None else f"{days} days after the delivery or the end",
        **{
            table.name: [
                _opened(vault, found) for found in connection.execute(sa.select(table).where(mine)).mappings()
            ]
            for table, mine in parts.items()
        },
    }


def _opened(vault: Vault, row: sa.RowMapping) -> dict[str, Any]:
    found = dict(row)
    if found.get("payload"):
        try:
            found["payload"] = vault.open(found["payload"])
        except PayloadUnreadable as why:
            found["payload"] = str(why)
    return found
