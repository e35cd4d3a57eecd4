"""The template context of customer mail, read when the message is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.mail import MailRefused
from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.storefront.currencies import MINOR_UNITS
from midas_pipelines.storefront.orders import order_status
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders.customer_mail.queue import read_about
from midas_pipelines.sync.orders.model.carriers import BadTracking, recorded_tracking
from midas_pipelines.sync.orders.stock.shipped import has_shipped

CHANNEL_NAMES = {
    "ebay": "eBay",
    "tiktok": "TikTok Shop",
    "aliexpress": "AliExpress",
    "mercadolibre": "Mercado Libre",
}
"""The marketplaces' own spelling, where capitalizing is not enough."""

LONGEST_NAME, LONGEST_TITLE = 60, 160
AN_ADDRESS = re.compile(r"://|www\.|@", re.IGNORECASE)
"""Text that no real name contains: it would make the shop send somebody's advertising."""


def mail_context(
    connection: sa.Connection, mail: sa.Row[Any], order: sa.Row[Any], shop_name: str
) -> dict[str, Any]:
    """The variables of a template. Raises MailRefused when the message's shipment is no longer on record.

    Args:
        connection: to the shop's database.
        mail: the message's row.
        order: our row of its order.
        shop_name: the shop's name.
    """
    known = connection.execute(
        sa.select(orders.c.order_number, orders.c.shipping_address).where(orders.c.id == order.local_order_id)
    ).first()
    address = known.shipping_address if known and isinstance(known.shipping_address, dict) else {}
    parcel = _parcel(connection, mail)
    channel = order.sales_channel or ""
    return {
        "shop": {"name": shop_name},
        "customer": {"name": _name(address.get("name")), "email": address.get("email") or ""},
        "order": {
            "number": _plain(order.marketplace_order_id, LONGEST_TITLE),
            "local_number": known.order_number if known else "",
            "channel": CHANNEL_NAMES.get(channel.lower(), _plain(channel, LONGEST_NAME).capitalize()),
            "placed": f"{order.placed_at:%Y-%m-%d}" if order.placed_at else "",
            "currency": order.currency or "",
            "digits": MINOR_UNITS.get(order.currency or "", 2),
            "shipping": order.shipping_cost,
            "tax": order.tax,
            "discount": order.discount,
            "total": order.total,
            "sent": _sent(connection, order),
        },
        "lines": _lines(connection, mail.order_id, parcel),
        "parcel": parcel,
    }


def _sent(connection: sa.Connection, order: sa.Row[Any]) -> bool:
    """Whether something of the order has shipped, or may have: a person resolved a conflict about it."""
    shop = order_status(connection, order.local_order_id)
    return order.resolution is not None or has_shipped(connection, order, shop)


def _parcel(connection: sa.Connection, mail: sa.Row[Any]) -> dict[str, Any]:
    """The shipment that the message is about, with its tracking page; without an invalid number."""
    about = read_about(mail.about or "")
    known: dict[str, Any] = {"carrier": None, "number": None, "url": None, "units": {}}
    known |= {"first": True, "complete": about.last, "known": about.known, "corrected": about.corrected}
    if about.shipment_id is None:
        return known
    parcel = sa.select(order_shipments).where(order_shipments.c.id == about.shipment_id)
    row = connection.execute(parcel).first()
    if row is None:
        raise MailRefused("Its shipment is no longer on record.")
    known["units"] = row.contents or {}
    known["first"] = not _has_earlier_shipment(connection, row)
    known["carrier"] = row.carrier
    try:
        sound, _ = recorded_tracking(row)
    except BadTracking:
        return known
    return known | {"carrier": sound.carrier, "number": sound.number, "url": sound.url}


def _has_earlier_shipment(connection: sa.Connection, parcel: sa.Row[Any]) -> bool:
    table = order_shipments.c
    query = sa.select(table.id).where(table.order_id == parcel.order_id, table.id < parcel.id)
    return connection.execute(query.limit(1)).first() is not None


def _lines(connection: sa.Connection, order_row: int, parcel: Mapping[str, Any]) -> list[dict[str, Any]]:
    table = marketplace_order_lines.c
    query = sa.select(marketplace_order_lines).where(table.order_id == order_row, table.quantity > 0)
    units = parcel["units"]
    return [
        {
            "title": _plain(line.title or line.sku or "An item", LONGEST_TITLE),
            "sku": line.sku,
            "quantity": units.get(str(line.order_item_id), line.quantity),
            "backordered": line.backordered,
            "total": line.price * line.quantity,
        }
        for line in connection.execute(query.order_by(table.line))
        if not units or str(line.order_item_id) in units
    ]


def _name(given: object) -> str:
    """The customer's name on one line; empty where it contains an address."""
    text = _plain(given, LONGEST_NAME) if isinstance(given, str) else ""
    return "" if AN_ADDRESS.search(text) else text


def _plain(text: str, longest: int) -> str:
    """The text on one line, cut to `longest` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
