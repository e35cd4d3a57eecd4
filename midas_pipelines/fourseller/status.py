"""The statuses of an order: the table that maps 4Seller's words to them, and the one from which each decision about two sides
and the database's check are made. Pure.

Shop and marketplace use the same words; the shop records a refund as a payment status, and its order counts as cancelled.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class OrderStatus(StrEnum):
    """The status of a marketplace order."""

    PENDING = "pending"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True)
class StatusWord:
    """A received status (`word`), the state it maps to, and whether the table knows the word."""

    word: str
    status: OrderStatus
    known: bool

    @property
    def unpaid(self) -> bool:
        """Whether the word says that the buyer has not paid yet."""
        return _letters(self.word) == "unpaid"


# 4Seller's own pages use more statuses than the API; all of these are open orders. Letters only.
WORDS: dict[str, OrderStatus] = {
    **{status.value: status for status in OrderStatus},
    "canceled": OrderStatus.CANCELLED,
    "unmapped": OrderStatus.PENDING,
    "outofstock": OrderStatus.PENDING,
    "addressinvalid": OrderStatus.PENDING,
    "unpaid": OrderStatus.PENDING,
    "onhold": OrderStatus.PENDING,
    "toship": OrderStatus.PENDING,
    "pendingprocessing": OrderStatus.PENDING,
    "inprocess": OrderStatus.PENDING,
}


@lru_cache(1000)
def read_status(word: str | None) -> StatusWord:
    """The state behind a word of 4Seller's: case and everything but letters do not matter; an unknown or missing
    word is pending and not `known`, so that the sale is taken and staff are alerted."""
    status = WORDS.get(_letters(word or ""))
    return StatusWord(word or "", status or OrderStatus.PENDING, status is not None)


def _letters(word: str) -> str:
    return word if word.isalpha() and word.islower() else "".join(filter(str.isalpha, word.lower()))


ORDER_OF_EVENTS = (OrderStatus.PENDING, OrderStatus.PROCESSING, OrderStatus.SHIPPED, OrderStatus.DELIVERED)
SHIPPED_STATES = (OrderStatus.SHIPPED, OrderStatus.DELIVERED)
OPEN = (OrderStatus.PENDING, OrderStatus.PROCESSING)
ENDED = (OrderStatus.CANCELLED, OrderStatus.REFUNDED)


class StatusDecision(StrEnum):
    """What two statuses of one order mean for each other."""

    AGREE = "agree"
    FOLLOW = "follow"  # the second is further: the first follows
    PUSH = "push"  # the first is further: it is pushed, and a report of the second is late
    CONFLICT = "conflict"  # they contradict; a person decides


_GRID = """
            pending  processing  shipped   delivered  cancelled  refunded
pending     agree    follow      follow    follow     follow     follow
processing  push     agree       follow    follow     follow     follow
shipped     push     push        agree     follow     conflict   follow
delivered   push     push        push      agree      conflict   follow
cancelled   push     push        conflict  conflict   agree      follow
refunded    push     push        push      push       push       agree
"""
_HEAD, *_ROWS = (line.split() for line in _GRID.strip().splitlines())
TABLE: dict[tuple[OrderStatus, OrderStatus], StatusDecision] = {
    (OrderStatus(first), OrderStatus(second)): StatusDecision(word)
    for first, *words in _ROWS
    for second, word in zip(_HEAD, words, strict=True)
}
"""For each status of the shop, or recorded before, and each of the marketplace, or reported now."""

BACKWARD = [(before, now) for (before, now), word in TABLE.items() if word is StatusDecision.PUSH]
"""Pairs of statuses of which an order never has the second after the first."""


def decide(
    shop: str | None,
    channel: OrderStatus,
    *,
    shipped: bool = False,
    in_time: bool = True,
    resolution: str | None = None,
) -> StatusDecision:
    """Which side of an order has to change.

    Args:
        shop: the shop's status; None when it has deleted its order.
        channel: the marketplace's.
        shipped: whether goods of the order have left.
        in_time: whether they left before the order ended.
        resolution: what a person decided about the last conflict: shipped, cancelled or None.
    """
    gone = shipped or shop in SHIPPED_STATES or channel in SHIPPED_STATES
    if shop is None:
        return StatusDecision.AGREE
    if channel is OrderStatus.REFUNDED and shop in SHIPPED_STATES:  # both statuses stay
        paid = in_time or resolution == "shipped"
        return StatusDecision.AGREE if paid else StatusDecision.CONFLICT
    if channel is OrderStatus.REFUNDED and shop == "cancelled":
        return StatusDecision.AGREE
    if gone and (shop == "cancelled" or (channel is OrderStatus.CANCELLED and shop != "refunded")):
        if shop != "cancelled" or resolution != "cancelled":
            return StatusDecision.CONFLICT
        return StatusDecision.PUSH if channel in OPEN else StatusDecision.AGREE
    if shop not in list(OrderStatus):  # a word of the shop's own
        return StatusDecision.FOLLOW
    return TABLE[OrderStatus(shop), channel]


def why_not_pushed(decision: StatusDecision, shop: str | None, channel: OrderStatus) -> str | None:
    """Why the shop's status is not pushed to 4Seller, which has another, in words; None when it may be."""
    if decision in (StatusDecision.AGREE, StatusDecision.PUSH):
        return None
    if shop not in list(OrderStatus):
        return f"the shop calls it {shop}, which is not a status of the marketplace"
    if decision is StatusDecision.FOLLOW:
        return f"no step leads from {channel.value} to {shop}"
    if shop == "cancelled":
        return "the shop cancelled an order of which goods have left"
    return f"the shop has sent what is {channel.value} on the marketplace"


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
    if TABLE[current, goal] is not StatusDecision.FOLLOW:
        return []
    if goal in ORDER_OF_EVENTS:
        return list(ORDER_OF_EVENTS[ORDER_OF_EVENTS.index(current) + 1 : ORDER_OF_EVENTS.index(goal) + 1])
    return [goal]
