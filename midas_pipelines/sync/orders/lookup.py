"""Finds an order by any of its ids."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders.model.lines import CHANNEL

LARGEST_LOCAL_ID, LOCAL_ID_DIGITS = 2**31 - 1, 10
_TABLE = marketplace_orders.c


class NoSuchOrder(WrongInput):
    """No order, or more than one, has this id; the message says what to do."""

    http_status = 404


def find_order(connection: sa.Connection, text: str) -> sa.Row[Any]:
    """Our row of the order with this id: the marketplace's, the shop's order number, or the shop's own id.

    Where the id is the marketplace's of one order and the shop's of another, it means the one without an order number.

    Raises:
        NoSuchOrder: no order has it, or several that each have an order number too.
    """
    name = text.strip()
    row = sa.select(_TABLE.id)
    which = [  # one after the other, so that each finds its index
        row.where(_TABLE.channel == CHANNEL, _TABLE.marketplace_order_id.in_([text, name])),
        row.join(orders, orders.c.id == _TABLE.local_order_id).where(orders.c.order_number == name),
    ]
    if name.isascii() and name.isdigit() and len(name) <= LOCAL_ID_DIGITS and int(name) <= LARGEST_LOCAL_ID:
        which.append(row.where(_TABLE.local_order_id == int(name)))
    query = (
        sa.select(marketplace_orders, orders.c.order_number, orders.c.status.label("shop_status"))
        .select_from(marketplace_orders.outerjoin(orders, orders.c.id == _TABLE.local_order_id))
        .where(_TABLE.id.in_(sa.union(*which)))
        .order_by(_TABLE.id)
        .limit(4)
    )
    found = list(connection.execute(query))
    if any(row.marketplace_order_id == text for row in found):  # preferred over the id without spaces
        found = [row for row in found if row.marketplace_order_id == text or row.marketplace_order_id != name]
    nameless = [
        row for row in found if row.order_number is None
    ]  # the others have an unambiguous order number
    if len(found) == 1 or len(nameless) == 1:
        return (nameless or found)[0]
    if found:
        numbers = " or ".join(str(row.order_number or row.marketplace_order_id) for row in found)
        raise NoSuchOrder(
            f"{name[:100]} is the marketplace's id of one order and the shop's id of another: give the order number, "
            f"{numbers}."
        )
    raise NoSuchOrder(
        f"No imported order has the id {name[:100]}: give the marketplace's id, the order number or the shop's id. "
        "`midas sync orders` imports what is new."
    )
