"""What 4Seller is to be told of an order: which moves, with which parcels, in which order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.sync.orders.statuses import GOODS_LEFT, ORDER_OF_EVENTS, path


@dataclass(frozen=True, slots=True)
class Parcel:
    """A parcel that 4Seller does not know yet."""

    shipment_id: int
    tracking: Tracking


@dataclass(frozen=True, slots=True)
class Message:
    """One call: the order's status, and a parcel with it or not."""

    status: OrderStatus
    parcel: Parcel | None = None


def messages(
    standing: OrderStatus, goal: OrderStatus | None, parcels: Sequence[Parcel] = ()
) -> list[Message]:
    """The calls that bring 4Seller from one status to another and tell it of each parcel once.

    One call carries one parcel, so that all parcels but the last go while the order is still being worked on, and
    the last one together with `shipped`. Empty when no move leads to the goal and there is no parcel.
    """
    moves = path(standing, goal) if goal is not None else []
    if not parcels:
        return [Message(move) for move in moves]
    if OrderStatus.SHIPPED in moves:
        before = [Message(move) for move in moves[: moves.index(OrderStatus.SHIPPED)]]
        after = [Message(move) for move in moves[moves.index(OrderStatus.SHIPPED) + 1 :]]
        early = [Message(OrderStatus.PROCESSING, parcel) for parcel in parcels[:-1]]
        return [*before, *early, Message(OrderStatus.SHIPPED, parcels[-1]), *after]
    reached = moves[-1] if moves else standing
    if reached in GOODS_LEFT:
        return [Message(reached, parcel) for parcel in parcels]
    if reached not in ORDER_OF_EVENTS:  # cancelled or refunded: no parcel belongs to it
        return [Message(move) for move in moves]
    return [
        *(Message(move) for move in moves[:-1]),
        *(Message(OrderStatus.PROCESSING, parcel) for parcel in parcels),
    ]
