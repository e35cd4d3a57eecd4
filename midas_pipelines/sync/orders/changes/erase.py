"""Erases the buyer of an order: numbers, SKUs, ids, statuses and dates stay, but no text that the buyer may have written.

`erased_at` of our row marks the order: later updates are stored without its buyer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.gateway.webhooks import empty_finished
from midas_pipelines.store.orders.payload_vault import (
    ERASED_PAYLOAD,
    FORGOTTEN,
    Vault,
    without_persons_payload,
)
from midas_pipelines.store.schema.alert_tables import alerts
from midas_pipelines.store.schema.shipment_tables import customer_mails
from midas_pipelines.store.schema.tables import (
    marketplace_order_lines,
    marketplace_orders,
    order_processing_logs,
)
from midas_pipelines.storefront.bulk import update_rows
from midas_pipelines.storefront.orders import erase_words, update_order, update_order_items
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.customer_mail.send import match_mail_alerts
from midas_pipelines.sync.orders.model.lines import CHANNEL
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.rows import shop_notes
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.stock.release import order_lines


def erase_buyer(connection: sa.Connection, order: sa.Row[Any], order_context: OrderContext) -> None:
    """Permanently erases the buyer from the shop's order, the payload, the webhooks, the order log and the alerts.

    Args:
        connection: a writing transaction.
        order: our row, locked.
        order_context: writes the order log; its vault opens the payload.
    """
    table, name = marketplace_orders.c, order.marketplace_order_id
    if order.local_order_id is not None:
        notes = shop_notes(name, order.sales_channel, order.currency)
        erased = {"shipping_address": FORGOTTEN, "billing_address": FORGOTTEN, "notes": notes}
        update_order(connection, order.local_order_id, **erased)
        erase_words(connection, order.local_order_id)
    values = {"erased_at": utc_now(), "payload": _without_buyer(order.payload, order_context.vault)}
    values["reason"] = None if order.reason is None else "The reason was erased with its buyer."
    connection.execute(sa.update(marketplace_orders).where(table.id == order.id).values(values))
    _name_lines(connection, order.id)
    logs = order_processing_logs.c
    mine = sa.and_(logs.channel == CHANNEL, logs.marketplace_order_id == name)
    connection.execute(sa.update(order_processing_logs).where(mine).values(detail=None))
    of_order = alerts.c.subject == f"order:{name}"[:200]
    connection.execute(sa.update(alerts).where(of_order).values(text=f"Order {name}: its buyer was erased."))
    empty_finished(connection, order.marketplace_order_id)
    mails = sa.update(customer_mails).where(customer_mails.c.order_id == order.id)
    state = sa.case((customer_mails.c.state == "sent", "sent"), else_="dropped")
    connection.execute(mails.values(state=state, reason=None))
    match_mail_alerts(connection)
    order_context.log(connection, order.marketplace_order_id, "forgotten", "The buyer was erased.")


def without_personal_data(sale: Sale) -> Sale:
    """The sale as it is stored once its buyer is erased."""
    lines = tuple(replace(line, title=line.sku or f"Line {line.line}") for line in sale.lines)
    return replace(sale, buyer=FORGOTTEN, ship_to={}, lines=lines, sealed=without_persons_payload(sale.raw))


def _name_lines(connection: sa.Connection, order_row: int) -> None:
    """Replaces each line's title by its SKU or number, in our rows and the shop's: a title may hold the buyer's own text."""
    lines = order_lines(connection, order_row)
    titles = {line.id: line.sku or f"Line {line.line}" for line in lines}
    update_rows(connection, marketplace_order_lines, [{"id": row, "title": titles[row]} for row in titles])
    items = [
        {"id": line.order_item_id, "product_name": titles[line.id]} for line in lines if line.order_item_id
    ]
    table = marketplace_orders.c
    local = connection.scalar(sa.select(table.local_order_id).where(table.id == order_row))
    if local is not None:
        update_order_items(connection, local, items)


def _without_buyer(sealed: str | None, vault: Vault) -> str | None:
    """The payload without personal data, unsealed; empty where its key is gone."""
    if sealed is None:
        return None
    try:
        return without_persons_payload(vault.open(sealed))
    except ValueError:
        return ERASED_PAYLOAD
