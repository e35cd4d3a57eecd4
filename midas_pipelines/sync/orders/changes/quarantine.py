"""Quarantines orders that cannot be imported: stores them with their reason, alerts staff, and retries them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.payload_vault import ERASED_PAYLOAD
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.writing import insert_new
from midas_pipelines.sync.orders.model.lines import CHANNEL, OrderException
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import short_id
from midas_pipelines.text import writable_in

QUARANTINED, UNKNOWN_WORD = "order_quarantined", "unknown_status"
_ORDERS = marketplace_orders.c


def quarantine_order(
    database: Database, order_context: OrderContext, order_id: str, raw: Any, reason: str
) -> str | None:
    """Quarantines an order that cannot be imported, so that it is neither lost nor blocks others.

    Returns:
        `new` when it was not on record, `still` when it was quarantined before; None, with nothing written, when it is
        imported or dismissed.
    """
    name = short_id(order_id)
    row = {
        "channel": CHANNEL,
        "marketplace_order_id": name,
        "status": "pending",
        "outcome": "quarantined",
        "reason": reason,
        "payload": order_context.vault.seal(writable_in(raw)),
    }
    with database.writing() as connection:
        new = bool(insert_new(connection, marketplace_orders, [row], "id"))
        mine = (_ORDERS.channel == CHANNEL, _ORDERS.marketplace_order_id == name)
        kept = sa.case((_ORDERS.erased_at.is_not(None), ERASED_PAYLOAD), else_=row["payload"])
        renewed = sa.update(marketplace_orders).where(*mine, _ORDERS.outcome == "quarantined")
        if not new and connection.execute(renewed.values(reason=reason, payload=kept)).rowcount == 0:
            return None
        order_context.log_once(connection, name, "failed", reason)
        text = f"Order {name} is quarantined. {reason} Retry it with `midas orders retry` when the cause is fixed, or dismiss it."
        raise_alert(connection, kind=QUARANTINED, subject=f"order:{name}"[:200], text=text)
    return "new" if new else "still"


def end_quarantine(connection: sa.Connection, order_id: str) -> None:
    """Clears the alert of an order that is imported or dismissed."""
    clear_alert(connection, kind=QUARANTINED, subject=f"order:{order_id}"[:200])


def alert_unknown_status(connection: sa.Connection, word: str, order_id: str) -> None:
    """Alerts staff to a status word that is not in our table, once for each word."""
    text = (
        f"Order {order_id}: 4Seller calls its status '{word}', which is unknown, so it counts as pending. "
        "Look at it on 4Seller; end it with `midas orders dismiss` when you have."
    )
    raise_alert(connection, kind=UNKNOWN_WORD, subject=f"word:{word}"[:200], text=text)


def clear_unknown_status(connection: sa.Connection, word: str | None) -> None:
    """Closes the alert of a status word when no order with it has the exception `unknown_status`."""
    unseen = sa.select(_ORDERS.id).where(
        _ORDERS.exception.is_not(None),
        _ORDERS.exception.contains(OrderException.STATUS),
        _ORDERS.status_word == word,
    )
    if word is not None and connection.execute(unseen.limit(1)).first() is None:
        clear_alert(connection, kind=UNKNOWN_WORD, subject=f"word:{word}"[:200])
