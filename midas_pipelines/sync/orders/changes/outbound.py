"""Plans the outbound status updates of an order: which statuses, with which shipments, in which order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midas_pipelines.fourseller.models import Order, Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.sync.orders.model.carriers import bare_number
from midas_pipelines.sync.orders.model.state_machine import (
    ORDER_OF_EVENTS,
    SHIPPED_STATES,
    TABLE,
    StatusDecision,
    path,
)


@dataclass(frozen=True, slots=True)
class ShipmentToPush:
    """A shipment that 4Seller does not know yet; `remark` says why its number looks wrong."""

    shipment_id: int
    tracking: Tracking
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """One call: the order's status, with or without a shipment."""

    status: OrderStatus
    shipment: ShipmentToPush | None = None


def why_not_pushed(decision: StatusDecision, shop: str | None, channel: OrderStatus) -> str | None:
    """Why the shop's status is not pushed to 4Seller, in words; None when it may be.

    Args:
        decision: of `decide`.
        shop: the shop's own status.
        channel: the status at 4Seller.
    """
    if decision in (StatusDecision.AGREE, StatusDecision.PUSH):
        return None
    if shop not in list(OrderStatus):
        return f"the shop calls it {shop}, which is not a status of the marketplace"
    if decision is StatusDecision.FOLLOW:
        return f"no step leads from {channel.value} to {shop}"
    if shop == "cancelled":
        return "the shop cancelled an order of which goods have left"
    return f"the shop has sent what is {channel.value} on the marketplace"


def status_updates(
    current: OrderStatus,
    goal: OrderStatus | None,
    shipments: Sequence[ShipmentToPush] = (),
    *,
    refund: bool = False,
) -> list[StatusUpdate]:
    """The calls that bring 4Seller from one status to another and push each shipment once.

    One call carries one shipment: all but the last go while the order is `processing`, the last one with `shipped`. Empty
    when the goal is not reachable and there is no shipment. A refund comes last: after `shipped`, and instead of any
    other status.
    """
    if refund:
        return [
            *status_updates(current, goal if goal in SHIPPED_STATES else None, shipments),
            StatusUpdate(OrderStatus.REFUNDED),
        ]
    moves = path(current, goal) if goal is not None else []
    if not shipments:
        return [StatusUpdate(move) for move in moves]
    if OrderStatus.SHIPPED in moves:
        before = [StatusUpdate(move) for move in moves[: moves.index(OrderStatus.SHIPPED)]]
        after = [StatusUpdate(move) for move in moves[moves.index(OrderStatus.SHIPPED) + 1 :]]
        early = [StatusUpdate(OrderStatus.PROCESSING, shipment) for shipment in shipments[:-1]]
        return [*before, *early, StatusUpdate(OrderStatus.SHIPPED, shipments[-1]), *after]
    reached = moves[-1] if moves else current
    if reached in SHIPPED_STATES:
        return [StatusUpdate(reached, shipment) for shipment in shipments]
    if reached not in ORDER_OF_EVENTS:  # cancelled or refunded: takes no shipment
        return [StatusUpdate(move) for move in moves]
    return [
        *(StatusUpdate(move) for move in moves[:-1]),
        *(StatusUpdate(OrderStatus.PROCESSING, shipment) for shipment in shipments),
    ]


def shown(call: StatusUpdate, current: OrderStatus, answer: Order) -> StatusUpdate:
    """The part of a call that 4Seller's answer shows: all of it where it was accepted.

    Args:
        call: what was pushed.
        current: the status at 4Seller before; the result's status where the answer does not show a new one.
        answer: the order as it came back; an unknown status word does not count.
    """
    state = answer.state
    relation = TABLE[call.status, state.status]
    ahead = state.known and relation in (StatusDecision.AGREE, StatusDecision.FOLLOW)
    if call.status is OrderStatus.PROCESSING:  # 4Seller's UI has its own word for it
        ahead = ahead or "".join(filter(str.isalpha, state.word.lower())) == "inprocess"
    number = answer.tracking.number if answer.tracking is not None else None
    shipment = call.shipment
    if shipment is not None and bare_number(number or "") != bare_number(shipment.tracking.number or ""):
        shipment = None
    return StatusUpdate(call.status if ahead or call.status is current else current, shipment)
