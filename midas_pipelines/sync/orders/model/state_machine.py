"""State machine of order statuses: forward only; late and illegal transitions are logged and ignored. Pure.

Marketplace and shop use the same five states; the shop records a refund as a payment status.
"""

from __future__ import annotations

from enum import StrEnum

from midas_pipelines.fourseller.status import OrderStatus

ORDER_OF_EVENTS = (OrderStatus.PENDING, OrderStatus.PROCESSING, OrderStatus.SHIPPED, OrderStatus.DELIVERED)


class Transition(StrEnum):
    """How a reported status relates to the current one."""

    SAME = "same"
    FORWARD = "forward"
    LATE = "late"  # already reached or passed
    ILLEGAL = "illegal"  # not reachable; a person decides


def transition(current: OrderStatus, reported: OrderStatus) -> Transition:
    """Classifies the transition from `current` to `reported`. Steps may be skipped: pending -> delivered is forward."""
    if reported is current:
        return Transition.SAME
    if current is OrderStatus.REFUNDED:
        return Transition.LATE
    if reported is OrderStatus.REFUNDED:
        return Transition.FORWARD
    if current is OrderStatus.CANCELLED:
        shipped = reported in (OrderStatus.SHIPPED, OrderStatus.DELIVERED)
        return Transition.ILLEGAL if shipped else Transition.LATE
    if reported is OrderStatus.CANCELLED:
        open_still = current in (OrderStatus.PENDING, OrderStatus.PROCESSING)
        return Transition.FORWARD if open_still else Transition.ILLEGAL
    ahead = ORDER_OF_EVENTS.index(reported) > ORDER_OF_EVENTS.index(current)
    return Transition.FORWARD if ahead else Transition.LATE


def local_status(status: OrderStatus) -> str:
    """The shop's word for a marketplace status; a refunded order counts as cancelled there."""
    return "cancelled" if status is OrderStatus.REFUNDED else status.value


def payment_status(status: OrderStatus, *, paid: bool) -> str:
    """The shop's payment status for a marketplace order."""
    if status is OrderStatus.REFUNDED:
        return "refunded"
    return "paid" if paid else "pending"


def path(current: OrderStatus, goal: OrderStatus) -> list[OrderStatus]:
    """The legal steps from one status to another; empty when there are none."""
    if transition(current, goal) is not Transition.FORWARD:
        return []
    if goal in ORDER_OF_EVENTS:
        return list(ORDER_OF_EVENTS[ORDER_OF_EVENTS.index(current) + 1 : ORDER_OF_EVENTS.index(goal) + 1])
    return [goal]


SHIPPED_STATES = (OrderStatus.SHIPPED, OrderStatus.DELIVERED)
OPEN = (OrderStatus.PENDING, OrderStatus.PROCESSING)
ENDED = (OrderStatus.CANCELLED, OrderStatus.REFUNDED)


class InboundDecision(StrEnum):
    """What the shop's order does about a status change on the marketplace."""

    FOLLOW = "follow"  # change too
    STAY = "stay"  # no change
    AHEAD = "ahead"  # it is further: push its status to the marketplace
    CONFLICT = "conflict"  # they contradict; a person decides


def decide_inbound(shop: str | None, reported: OrderStatus, *, shipped: bool) -> InboundDecision:
    """Decides what the shop's order does when the marketplace reports a status.

    Args:
        shop: the shop's own status; None when it has deleted its order.
        reported: the marketplace's status.
        shipped: whether goods of the order have left.
    """
    if shop is None:
        return InboundDecision.STAY
    if reported is OrderStatus.REFUNDED:
        return InboundDecision.STAY if shipped or shop == local_status(reported) else InboundDecision.FOLLOW
    if reported is OrderStatus.CANCELLED and shipped:
        return InboundDecision.CONFLICT
    if shop not in list(OrderStatus):
        return InboundDecision.FOLLOW
    match transition(OrderStatus(shop), reported):
        case Transition.FORWARD:
            return InboundDecision.FOLLOW
        case Transition.SAME:
            return InboundDecision.STAY
        case Transition.LATE:
            return InboundDecision.AHEAD
        case _:
            return InboundDecision.CONFLICT


def agree(shop: str | None, current: OrderStatus) -> bool:
    """Whether the shop's and the marketplace's status mean the same."""
    return shop in (current.value, local_status(current))
