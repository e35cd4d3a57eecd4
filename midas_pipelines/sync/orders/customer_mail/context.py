"""The template context of customer mail, read when the message is written."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.storefront.currencies import MINOR_UNITS
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders.model.carriers import BadTracking, recorded_tracking
from midas_pipelines.sync.orders.model.units import left_to_ship
from midas_pipelines.sync.orders.stock.release import order_lines
from midas_pipelines.sync.orders.stock.shipped import has_shipped

CHANNEL_NAMES = {"ebay": "eBay", "tiktok": "TikTok Shop"}
"""The marketplaces' own spelling, where capitalizing is not enough."""

LONGEST_NAME, LONGEST_TITLE = 60, 160
AN_ADDRESS = re.compile(r"://|www\.|@", re.IGNORECASE)
"""Text that no real name contains: it would make the shop send somebody's advertising."""


def mail_context(
    connection: sa.Connection, mail: sa.Row[Any], order: sa.Row[Any], shop_name: str
) -> dict[str, Any]:
    """The variables of a template.

    Args:
        connection: to the shop's database.
        mail: the message's row.
        order: our row of its order.
        shop_name: the shop's name.
    """
    columns = (orders.c.order_number, orders.c.status, orders.c.shipping_address)
    shop = connection.execute(sa.select(*columns).where(orders.c.id == order.local_order_id)).first()
    address = shop.shipping_address if shop and isinstance(shop.shipping_address, dict) else {}
    name = _plain(str(address.get("name") or ""), LONGEST_NAME)
    channel = order.sales_channel or ""
    shipped = has_shipped(connection, order, shop.status if shop else None)
    shipment, units = _shipment(connection, mail, order)
    return {
        "shop": {"name": shop_name},
        "customer": {"name": "" if AN_ADDRESS.search(name) else name, "email": address.get("email") or ""},
        "order": {
            "number": _plain(order.marketplace_order_id, LONGEST_TITLE),
            "local_number": shop.order_number if shop else "",
            "channel": CHANNEL_NAMES.get(channel.lower(), _plain(channel, LONGEST_NAME).capitalize()),
            "placed": f"{order.placed_at:%Y-%m-%d}" if order.placed_at else "",
            "currency": order.currency or "",
            "digits": MINOR_UNITS.get(order.currency or "", 2),
            "shipping": order.shipping_cost,
            "tax": order.tax,
            "discount": order.discount,
            "total": order.total,
            "sent": shipped or order.resolution is not None,  # or a person resolved a conflict about it
        },
        "lines": [
            {
                "title": _plain(line.title or line.sku or "An item", LONGEST_TITLE),
                "sku": line.sku,
                "quantity": units.get(str(line.order_item_id), line.quantity),
                "backordered": line.backordered,
                "total": line.price * line.quantity,
            }
            for line in order_lines(connection, order.id)
            if line.quantity > 0 and (not units or str(line.order_item_id) in units)
        ],
        "shipment": shipment,
    }


def _shipment(
    connection: sa.Connection, mail: sa.Row[Any], order: sa.Row[Any]
) -> tuple[dict[str, Any], dict[str, int]]:
    """The shipment that the message is about, and its units by the shop's order line; both empty without one."""
    table = order_shipments.c
    booked = sa.and_(table.order_id == order.local_order_id, table.booked_at.is_not(None))
    found = connection.execute(sa.select(order_shipments).where(booked).order_by(table.id)).all()
    shipment = next((row for row in found if row.id == mail.shipment_id), None)
    if shipment is None:
        return {"carrier": None, "number": None, "url": None, "first": True, "complete": True}, {}
    left = any(left_to_ship(line) or line.backordered for line in order_lines(connection, order.id))
    known: dict[str, Any] = {"first": shipment is found[0], "complete": shipment is found[-1] and not left}
    try:
        label, _ = recorded_tracking(shipment)
    except BadTracking:
        label = Tracking(carrier=shipment.carrier)
    return known | label.model_dump(), shipment.contents or {}


def _plain(text: str, longest: int) -> str:
    """The text on one line, cut to `longest` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
