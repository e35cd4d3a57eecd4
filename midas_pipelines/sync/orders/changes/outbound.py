"""What 4Seller is to be told of an order: which moves, with which parcels, in which order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midas_pipelines.fourseller.models import Order, Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.sync.orders.model.carriers import bare_number
from midas_pipelines.sync.orders.model.state_machine import (
    ENDED,
    ORDER_OF_EVENTS,
    SHIPPED_STATES,
    Transition,
    agree,
    path,
    transition,
)


@dataclass(frozen=True, slots=True)
class ShipmentToPush:
    """A parcel that 4Seller does not know yet; `remark` says what is odd about its number."""

    shipment_id: int
    tracking: Tracking
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """One call: the order's status, and a parcel with it or not."""

    status: OrderStatus
    parcel: ShipmentToPush | None = None


@dataclass(frozen=True, slots=True)
class Objection:
    """Why the shop's move is not told; in a `conflict` goods and money may be at odds, and a person decides."""

    why: str
    conflict: bool = False


def objection(
    current: OrderStatus,
    shop: str | None,
    *,
    shipped: bool,
    known: bool = False,
    resolution: str | None = None,
) -> Objection | None:
    """What speaks against telling 4Seller of the shop's status; None when nothing does.

    Args:
        standing: where 4Seller has the order.
        shop: the shop's own word.
        left: whether goods of the order have left.
        known: whether the lines of an order that has ended account for what left: it was gone before the end.
        settled: what a person decided when the two sides contradicted each other.
    """
    if shop is None or agree(shop, current):
        return None
    if shop not in list(OrderStatus):
        return Objection(f"the shop calls it {shop}, which is none of the marketplace's words")
    goal = OrderStatus(shop)
    if goal in SHIPPED_STATES and current is OrderStatus.REFUNDED and (known or resolution == "shipped"):
        return None  # paid back after it had left: each side stays where it is
    if goal in SHIPPED_STATES and current in ENDED:
        return Objection(f"the shop has sent what is {current.value} on the marketplace", conflict=True)
    if goal is OrderStatus.CANCELLED and resolution != "cancelled" and (shipped or current in SHIPPED_STATES):
        return Objection("the shop cancelled an order of which goods have left", conflict=True)
    if transition(current, goal) not in (Transition.FORWARD, Transition.SAME):
        return Objection(f"no step leads from {current.value} to {goal.value}")
    return None


def status_updates(
    current: OrderStatus,
    goal: OrderStatus | None,
    parcels: Sequence[ShipmentToPush] = (),
    *,
    refund: bool = False,
) -> list[StatusUpdate]:
    """The calls that bring 4Seller from one status to another and tell it of each parcel once.

    One call carries one parcel, so that all parcels but the last go while the order is still being worked on, and
    the last one together with `shipped`. Empty when no move leads to the goal and there is no parcel. A refund comes
    last: after `shipped`, and in place of anything else.
    """
    if refund:
        return [
            *status_updates(current, goal if goal in SHIPPED_STATES else None, parcels),
            StatusUpdate(OrderStatus.REFUNDED),
        ]
    moves = path(current, goal) if goal is not None else []
    if not parcels:
        return [StatusUpdate(move) for move in moves]
    if OrderStatus.SHIPPED in moves:
        before = [StatusUpdate(move) for move in moves[: moves.index(OrderStatus.SHIPPED)]]
        after = [StatusUpdate(move) for move in moves[moves.index(OrderStatus.SHIPPED) + 1 :]]
        early = [StatusUpdate(OrderStatus.PROCESSING, parcel) for parcel in parcels[:-1]]
        return [*before, *early, StatusUpdate(OrderStatus.SHIPPED, parcels[-1]), *after]
    reached = moves[-1] if moves else current
    if reached in SHIPPED_STATES:
        return [StatusUpdate(reached, parcel) for parcel in parcels]
    if reached not in ORDER_OF_EVENTS:  # cancelled or refunded: no parcel belongs to it
        return [StatusUpdate(move) for move in moves]
    return [
        *(StatusUpdate(move) for move in moves[:-1]),
        *(StatusUpdate(OrderStatus.PROCESSING, parcel) for parcel in parcels),
    ]


def shown(call: StatusUpdate, current: OrderStatus, answer: Order) -> StatusUpdate:
    """What of a call 4Seller's answer shows: the call itself where all of it was taken.

    Args:
        call: what was pushed.
        standing: where 4Seller had the order before; the status of the result where the answer does not show a new one.
        answer: the order as it came back; an unknown word says nothing of its status.
    """
    state = answer.state
    ahead = state.known and transition(call.status, state.status) in (Transition.SAME, Transition.FORWARD)
    if call.status is OrderStatus.PROCESSING:  # for which 4Seller's pages have a word of their own
        ahead = ahead or "".join(filter(str.isalpha, state.word.lower())) == "inprocess"
    number = answer.tracking.number if answer.tracking is not None else None
    parcel = call.parcel
    if parcel is not None and bare_number(number or "") != bare_number(parcel.tracking.number or ""):
        parcel = None
    return StatusUpdate(call.status if ahead or call.status is current else current, parcel)
