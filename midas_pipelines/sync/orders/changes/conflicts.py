"""Resolves a conflict about the end of an order as a person decides: the sale is valid, or it is not."""

from __future__ import annotations

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.status import ENDED, OPEN, SHIPPED_STATES, OrderStatus, read_status
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.changes.close import end_conflict
from midas_pipelines.sync.orders.changes.inbound import end_order
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.model.order_log import StoredOrder
from midas_pipelines.sync.orders.stock import units


def resolve_conflict(order: StoredOrder, decision: str, *, restock: bool) -> None:
    """Resolves a conflict as a person decided.

    Args:
        decision: `shipped` (the sale is valid) or `cancelled` (it is not).
        restock: for `cancelled`: whether the shipped goods are back in stock.

    Raises:
        WrongInput: the order is in no conflict.
    """
    if not order.has(OrderException.CONFLICT):
        raise WrongInput(
            f"Order {order.marketplace_order_id} is in no conflict: nothing was changed. "
            "`midas orders dismiss` ends other exceptions that a person has looked at."
        )
    goods = ", with the goods back in stock" if restock else ""
    order.log("settled", f"An operator resolved the conflict: the order counts as {decision}{goods}.")
    if decision == "cancelled":
        _cancel(order, restock=restock)
    else:
        _uphold(order)
    # The decision covers all reports so far; a later one raises a new conflict.
    order.set(resolution=decision, disputed_at=order.source_updated_at or order.disputed_at)
    end_conflict(order)


def _cancel(order: StoredOrder, *, restock: bool) -> None:
    """Cancels the sale: releases units that have not shipped, and restocks shipped ones only if they are back."""
    shop = order.shop_status()
    units.allocate_again(order, shop, whole=False)
    all_shipped = order.status in ENDED or units.is_fully_shipped(order, shop)
    word = read_status(order.status_word)
    there = word.status if word.known else OrderStatus(order.status)
    pending = (
        shop is not None and there in OPEN and order.status not in (*SHIPPED_STATES, OrderStatus.REFUNDED)
    )
    if pending:
        order.set(status=there.value)
    elif order.status in OPEN:
        order.set(status=OrderStatus.CANCELLED.value)
    if shop not in (None, "cancelled"):
        order.move("cancelled", "Resolved by the operator")
    order.mark_for_push(utc_now() if pending else None)
    end_order(order, OrderStatus.CANCELLED, all_shipped=all_shipped)
    if restock:
        units.restock_units(order, "cancelled", all_shipped=all_shipped)


def _uphold(order: StoredOrder) -> None:
    """Upholds the sale: allocates its stock again, and has the shop's status pushed to 4Seller."""
    if order.status == OrderStatus.CANCELLED:
        order.set(status=OrderStatus.PROCESSING.value)
    shop = order.shop_status()
    refunded = order.status == OrderStatus.REFUNDED  # a refunded order ships no more
    units.allocate_again(order, shop, whole=not refunded)
    everything_shipped = not any(units.left_to_ship(line) or line.backordered for line in order.lines())
    wanted = "shipped" if everything_shipped or refunded else "processing"
    if order.status in SHIPPED_STATES:
        wanted = order.status
    if shop is not None and shop not in SHIPPED_STATES and shop != wanted:
        order.move(wanted, "Resolved by the operator")
    order.mark_for_push(None if refunded else utc_now())
