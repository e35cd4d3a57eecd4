"""Erases the buyer of an order: what stays are numbers, SKUs, ids, known words and times.

All other text goes, wherever it lies, since a buyer may have written it: which columns, `store/privacy/register.py` says.
`erased_at` of our row marks the order: later updates are stored in the same way.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import read_status
from midas_pipelines.notify.alerts import clear_alerts
from midas_pipelines.store.gateway.webhooks import empty_finished
from midas_pipelines.store.orders.payload_vault import ERASED_PAYLOAD, FORGOTTEN
from midas_pipelines.store.privacy.register import End, ending
from midas_pipelines.store.schema.operation_tables import alerts
from midas_pipelines.store.schema.order_tables import buyer_holds, customer_mails, order_shipments
from midas_pipelines.store.schema.tables import (
    api_errors,
    marketplace_order_lines,
    marketplace_orders,
    order_processing_logs,
)
from midas_pipelines.store.schema.triggers import amending
from midas_pipelines.storefront.orders import update_order, update_order_items
from midas_pipelines.storefront.schema import order_status_history
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import update_rows
from midas_pipelines.sync.orders.changes.close import UNKNOWN_WORD, alert_unknown_status
from midas_pipelines.sync.orders.customer_mail import match_mail_alerts
from midas_pipelines.sync.orders.model.lines import (
    CHANNEL,
    OrderException,
    items_named,
    known_channel,
    known_currency,
    shop_origin,
)
from midas_pipelines.sync.orders.model.order_log import StoredOrder
from midas_pipelines.sync.orders.model.sale import Sale, some_parts, write_content

_ORDERS = marketplace_orders.c
ID = re.compile(r"[^\s@]{1,170}")
IMPERSONAL_PARTS = ("lines", "amounts")
"""The parts of an order whose digests stay; one of a name could be guessed."""


def known_status(word: str | None) -> str | None:
    """The status word if the table has it, `unknown` if it does not; None and an empty word stay."""
    known = not word or (read_status(word).known and not re.search(r"[^A-Za-z _-]", word))
    return word if known else "unknown"


def known_id(text: str | None) -> str | None:
    """The id or SKU if it looks like one: without blanks and no address."""
    return text if text and ID.fullmatch(text) else None


def erase_buyer(order: StoredOrder) -> None:
    """Permanently erases the buyer from every table that holds data of the order."""
    connection, name, local_id = order.connection, order.marketplace_order_id, order.local_order_id
    channel, currency = known_channel(order.sales_channel), known_currency(order.currency)
    word = known_status(order.status_word)
    if local_id is not None:
        words: dict[str, Any] = {"shipping_address": FORGOTTEN, "billing_address": FORGOTTEN}
        words |= shop_origin(name, channel, currency)
        update_order(connection, local_id, **_replaced("orders", words))
    words = {
        "payload": None if order.payload is None else ERASED_PAYLOAD,
        "reason": None if order.reason is None else "The reason was erased with its buyer.",
        "sales_channel": channel,
        "currency": currency,
        "status_word": word,
        "content_hash": write_content(some_parts(order.content, IMPERSONAL_PARTS)),
    }
    order.set(erased_at=utc_now(), **_replaced("marketplace_orders", words))
    _name_lines(order)
    empty_finished(connection, name)
    logs = order_processing_logs.c
    for table, mine in (
        (order_status_history, order_status_history.c.order_id == local_id),
        (order_processing_logs, sa.and_(logs.channel == CHANNEL, logs.marketplace_order_id == name)),
        (api_errors, api_errors.c.item == name),
        (order_shipments, order_shipments.c.order_id == local_id),
        (customer_mails, customer_mails.c.order_id == order.id),
        (buyer_holds, buyer_holds.c.order_id == order.id),
    ):
        with amending(connection):
            texts = dict.fromkeys(ending(table.name, End.CLEARED))
            connection.execute(sa.update(table).where(mine).values(texts))
    unsent = sa.and_(customer_mails.c.order_id == order.id, customer_mails.c.state != "sent")
    connection.execute(sa.update(customer_mails).where(unsent).values(state="dropped"))
    match_mail_alerts(connection)
    _erase_alerts(order, word)
    order.log("erased", "The buyer was erased.")


def _replaced(table: str, words: dict[str, Any]) -> dict[str, Any]:
    """What the register says is replaced in a table; a column without a word here is a KeyError, never left as it is."""
    return {column: words[column] for column in ending(table, End.REPLACED)}


def without_personal_data(connection: sa.Connection, sale: Sale) -> Sale:
    """The sale as it is stored once its buyer is erased; a SKU of the shop stays, whatever it looks like."""
    ours = items_named(connection, [line.named for line in sale.lines])
    lines = []
    for line in sale.lines:
        sku = line.sku if line.named in ours else known_id(line.sku)
        product_id, title = known_id(line.fourseller_product_id), sku or f"Line {line.line}"
        lines.append(replace(line, sku=sku, fourseller_product_id=product_id, title=title))
    return replace(
        sale,
        sales_channel=known_channel(sale.sales_channel),
        currency=known_currency(sale.currency),
        status_word=known_status(sale.status_word) or "",
        buyer=FORGOTTEN,
        ship_to={},
        lines=tuple(lines),
        content=some_parts(sale.content, IMPERSONAL_PARTS),
        sealed=ERASED_PAYLOAD,
    )


def _name_lines(order: StoredOrder) -> None:
    """Names each line by its SKU or number, in our rows and the shop's."""
    rows, items = [], []
    for line in order.lines():
        sku = line.sku if line.product_id is not None else known_id(line.sku)
        title = sku or f"Line {line.line}"
        words = {"sku": sku, "title": title, "fourseller_product_id": known_id(line.fourseller_product_id)}
        rows.append({"id": line.id, **_replaced("marketplace_order_lines", words)})
        if line.order_item_id:
            items.append({"id": line.order_item_id, **_replaced("order_items", {"product_name": title})})
    update_rows(order.connection, marketplace_order_lines, rows)
    if order.local_order_id is not None:
        update_order_items(order.connection, order.local_order_id, items)


def _erase_alerts(order: StoredOrder, word: str | None) -> None:
    """Erases the text of the order's alerts; an alert to its unknown status word gives way to one without the word."""
    connection, name, columns = order.connection, order.marketplace_order_id, alerts.c
    erased = f"Order {name}: its buyer was erased."
    connection.execute(sa.update(alerts).where(columns.subject == order.subject).values(text=erased))
    mine = sa.and_(columns.kind == UNKNOWN_WORD, columns.text.startswith(f"Order {name}: ", autoescape=True))
    subjects = set(connection.scalars(sa.select(columns.subject).where(mine)))
    clear_alerts(connection, kind=UNKNOWN_WORD, subjects=subjects)
    connection.execute(sa.update(alerts).where(mine).values(text=erased, subject="word:erased"))
    if subjects:  # other orders have the word too
        has_word = sa.and_(_ORDERS.exception.contains(OrderException.STATUS), _ORDERS.id != order.id)
        others = sa.select(_ORDERS.status_word, sa.func.min(_ORDERS.marketplace_order_id).label("order"))
        for other in connection.execute(others.where(has_word).group_by(_ORDERS.status_word)):
            alert_unknown_status(connection, other.status_word, other.order)
    if word and order.has(OrderException.STATUS):
        alert_unknown_status(connection, word, name)
