"""Erases the buyer of an order, unless the law holds it: what stays are numbers, SKUs, ids, known words and times.

All other text goes, wherever it lies, since a buyer may have written it: which columns, `store/privacy/register.py` says.
`erased_at` of our row marks the order: later updates are stored in the same way (`sync/orders/model/lines.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.fourseller import known_words
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.webhooks import ORDER, empty_finished
from midas_pipelines.store.orders.payload_vault import ERASED, ERASED_PAYLOAD
from midas_pipelines.store.privacy.register import End, ending
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.operation_tables import alerts
from midas_pipelines.store.schema.order_tables import buyer_holds, customer_mails, order_shipments
from midas_pipelines.store.schema.tables import api_errors, marketplace_order_lines, marketplace_orders
from midas_pipelines.store.schema.tables import order_processing_logs as order_logs
from midas_pipelines.store.schema.triggers import amending
from midas_pipelines.storefront.orders import update_order, update_order_items
from midas_pipelines.storefront.schema import order_items, order_status_history, orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import update_rows
from midas_pipelines.sync.orders.changes.exceptions import (
    UNKNOWN_WORD,
    alert_unknown_word,
    match_unknown_word,
)
from midas_pipelines.sync.orders.customer_mail import match_mail_alerts
from midas_pipelines.sync.orders.model.lines import IMPERSONAL_PARTS, OrderException, line_words, shop_origin
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.model.sale import some_parts, write_content

_ORDERS, _HOLDS = marketplace_orders.c, buyer_holds.c
HELD = sa.and_(_HOLDS.released_at.is_(None), _HOLDS.held_until > utc_now())
"""Selects the holds that last."""


def places_of(order: Any) -> list[tuple[sa.Column[Any], Any]]:
    """Each table that has rows of an order, by the column that names it and its value there; `order` is our row."""
    local_id, name = order.local_order_id, order.marketplace_order_id
    return [
        *((column, local_id) for column in (orders.c.id, order_items.c.order_id)),
        *((column, local_id) for column in (order_status_history.c.order_id, order_shipments.c.order_id)),
        *((column, order.id) for column in (_ORDERS.id, marketplace_order_lines.c.order_id)),
        *((column, order.id) for column in (customer_mails.c.order_id, _HOLDS.order_id)),
        *((column, name) for column in (order_logs.c.marketplace_order_id, api_errors.c.item)),
        (marketplace_webhooks.c.subject, f"{ORDER}{name}"),
    ]


class BuyerHeld(ExpectedError):
    """The law keeps the buyer of an order."""


def hold_buyer(connection: sa.Connection, order_row: int, *, until: datetime, because: str, by: str) -> None:
    """Holds the buyer of the order of that row, in place of an earlier hold; the transaction has locked the order."""
    release_hold(connection, order_row)
    row = {"order_id": order_row, "held_until": until, "because": because, "held_by": by}
    connection.execute(sa.insert(buyer_holds).values(row))


def release_hold(connection: sa.Connection, order_row: int) -> bool:
    """Ends the hold of an order; False when there was none."""
    mine = sa.update(buyer_holds).where(_HOLDS.order_id == order_row, HELD)
    return connection.execute(mine.values(released_at=utc_now())).rowcount > 0


def erase_order(
    database: Database, order_row: int, order_context: OrderContext, *, overwrite: bool = True
) -> bool:
    """Erases the buyer of the order of that row of ours, and with `overwrite` its traces in the database's files; False when
    that was done before. Raises BuyerHeld, InShadow, or RowsBusy where another session holds the order."""
    with database.writing(asked=True) as connection:
        order = lock_order(connection, order_row, order_context)
        until = connection.scalar(sa.select(_HOLDS.held_until).where(_HOLDS.order_id == order_row, HELD))
        if until is not None:
            raise BuyerHeld(
                f"Order {order.marketplace_order_id} is held by law until {until:%Y-%m-%d}: `midas orders release` ends that."
            )
        erase_buyer(order)
    if overwrite:
        database.overwrite_erased()
    return order.erased_at is None


def erase_buyer(order: StoredOrder) -> None:
    """Permanently erases the buyer from every table that holds data of the order."""
    connection, name, local_id = order.connection, order.marketplace_order_id, order.local_order_id
    channel = known_words.known_channel(order.sales_channel)
    currency, word = known_words.known_currency(order.currency), known_words.known_status(order.status_word)
    if local_id is not None:
        words: dict[str, Any] = {"shipping_address": ERASED, "billing_address": ERASED}
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
    with amending(connection):
        for column, value in places_of(order):
            if texts := dict.fromkeys(ending(column.table.name, End.CLEARED)):
                connection.execute(sa.update(column.table).where(column == value).values(texts))
    unsent = sa.and_(customer_mails.c.order_id == order.id, customer_mails.c.state != "sent")
    connection.execute(sa.update(customer_mails).where(unsent).values(state="dropped"))
    match_mail_alerts(connection)
    _erase_alerts(order, word)
    order.log("erased", "The buyer was erased.")


def _replaced(table: str, words: dict[str, Any]) -> dict[str, Any]:
    """What the register says is replaced in a table; a column without a word here is a KeyError, never left as it is."""
    return {column: words[column] for column in ending(table, End.REPLACED)}


def _name_lines(order: StoredOrder) -> None:
    """Names each line by its SKU or number, in our rows and the shop's."""
    rows, items = [], []
    for line in order.lines():
        words = line_words(line, line.product_id is not None)
        rows.append({"id": line.id, **_replaced("marketplace_order_lines", words)})
        if line.order_item_id:
            title = {"product_name": words["title"]}
            items.append({"id": line.order_item_id, **_replaced("order_items", title)})
    update_rows(order.connection, marketplace_order_lines, rows)
    if order.local_order_id is not None:
        update_order_items(order.connection, order.local_order_id, items)


def _erase_alerts(order: StoredOrder, word: str | None) -> None:
    """Erases the text of the order's alerts; one to its unknown status word names another order with it, or gives way to one
    without the word."""
    connection, name, columns = order.connection, order.marketplace_order_id, alerts.c
    erased = f"Order {name}: its buyer was erased."
    connection.execute(sa.update(alerts).where(columns.subject == order.subject).values(text=erased))
    mine = sa.and_(columns.kind == UNKNOWN_WORD, columns.text.startswith(f"Order {name}: ", autoescape=True))
    for subject in set(connection.scalars(sa.select(columns.subject).where(mine))):
        match_unknown_word(connection, subject.removeprefix("word:"))
    closed = sa.and_(mine, columns.cleared_at.is_not(None))
    connection.execute(sa.update(alerts).where(closed).values(text=erased, subject="word:erased"))
    if word and order.has(OrderException.STATUS):
        alert_unknown_word(connection, word, name)
