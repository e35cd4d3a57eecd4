"""What a report has that a known order lacks: which parts of it are applied, and fields that earlier reports left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.bulk import any_of
from midas_pipelines.storefront.orders import date_order, describe_order, order_address, update_order
from midas_pipelines.sync.orders.customer_mail.queue import queue_mail
from midas_pipelines.sync.orders.model import rows
from midas_pipelines.sync.orders.model.lines import CHANNEL
from midas_pipelines.sync.orders.model.merge import said_over
from midas_pipelines.sync.orders.model.order_log import StoredOrder
from midas_pipelines.sync.orders.model.sale import Content, Sale
from midas_pipelines.sync.orders.model.state_machine import ENDED, OPEN
from midas_pipelines.sync.orders.stock.units import has_shipped

_ORDERS = marketplace_orders.c


def orders_with_news(connection: sa.Connection, sales: Sequence[Sale]) -> dict[int, Sale]:
    """The sales that change a known order, by our row; locks nothing."""
    reported = {sale.order_id: sale for sale in sales}
    mine = any_of(connection, _ORDERS.marketplace_order_id, list(reported))
    query = sa.select(marketplace_orders).where(
        _ORDERS.channel == CHANNEL, mine, _ORDERS.outcome == "imported"
    )
    return {
        row.id: reported[row.marketplace_order_id]
        for row in connection.execute(query).all()
        if _has_news(StoredOrder(connection, row), reported[row.marketplace_order_id])
    }


def _has_news(order: StoredOrder, sale: Sale) -> bool:
    return (
        (sale.known_status and sale.status != order.status)
        or sale.unreadable_reason is not None
        or (bool(sale.status_word) and sale.status_word != (order.status_word or ""))
        or (sale.updated_at is not None and order.source_updated_at is None)
        or (sale.updated_at is not None and sale.updated_at > order.source_updated_at)
        or bool(edited_parts(order, sale) or missing_fields(order, sale))
        or has_late_address(order, sale)
    )


def edited_parts(order: StoredOrder, sale: Sale) -> frozenset[str]:
    """The parts of the order that the sale changes."""
    if not sale.content.changed(order.content):
        return frozenset()
    return new_content(order, sale).changed(order.content)


def has_late_address(order: StoredOrder, sale: Sale) -> bool:
    """Whether an older message has another buyer or address, parts of which the newer one may lack."""
    other = sale.content.changed(order.content)
    return bool({"buyer", "address"} & other) and not later(order, sale)


def new_content(order: StoredOrder, sale: Sale) -> Content:
    """The sale's content to apply: all of it where it is later, else the parts that no message has had."""
    return sale.content if later(order, sale) else sale.content.only(order.content.missing)


def later(order: StoredOrder, sale: Sale) -> bool:
    """Whether the sale is later than the state on record.

    A poll after that is later whatever its date: it reads what 4Seller has now. An event is judged by its date.
    """
    if sale.read_at is not None:
        return bool(sale.read_at >= (order.content_at or order.imported_at))
    known, given = order.source_updated_at, sale.updated_at
    return known is None or (given is not None and given >= known)


def missing_fields(order: StoredOrder, sale: Sale) -> dict[str, Any]:
    """The empty columns of our row that the sale can fill. Pure."""
    reported = {"currency": sale.currency, "sales_channel": sale.sales_channel, "placed_at": sale.placed_at}
    return {
        name: value for name, value in reported.items() if value is not None and getattr(order, name) is None
    }


def fill_missing_fields(order: StoredOrder, sale: Sale) -> StoredOrder:
    """Fills in missing fields; returns the order with them.

    Args:
        sale: the reported state, however old: it cannot contradict a field that is empty.
    """
    reported = missing_fields(order, sale)
    if not reported:
        return order
    order.set(**reported)
    named = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in reported.items())
    order.log("learned", f"The marketplace has now reported: {named}.")
    now = order.again()
    if order.local_order_id is not None:
        before, after = (  # the columns of the shop's order that depend on these fields
            {
                "payment_method": rows.payment_method(one.sales_channel),
                "notes": rows.shop_notes(one.marketplace_order_id, one.sales_channel, one.currency),
            }
            for one in (order, now)
        )
        describe_order(order.connection, order.local_order_id, before=before, now=after)
        if "placed_at" in reported:
            date_order(order.connection, order.local_order_id, now.placed_at)
    return now


def fill_late_address(order: StoredOrder, sale: Sale) -> bool:
    """Fills in what the shop's order lacks of buyer and address from an older message; True when it had some of it.

    Args:
        sale: the older state: as if it had come first, it gives what the newer one leaves out.
    """
    known = None if order.erased_at is not None else order_address(order.connection, order.local_order_id)
    if known is None:
        return False
    whole = said_over(sale.buyer | sale.ship_to, known)
    address = known | {name: value for name, value in whole.items() if value is not None}
    if address == known:
        return False
    update_order(order.connection, order.local_order_id, shipping_address=address, billing_address=address)
    order.log("learned", "An older message has filled in the buyer or the address.")
    return True


def confirm_late(order: StoredOrder) -> None:
    """Queues the confirmation that the first message lacked fields for: once, and only while the order is open and unshipped."""
    settings = order.context.settings
    if settings is None or settings.smtp_url is None:
        return
    now, shop = order.again(), order.shop_status()
    if shop not in (None, *ENDED) and now.status in OPEN and not has_shipped(now, shop):
        queue_mail(now, "received")
