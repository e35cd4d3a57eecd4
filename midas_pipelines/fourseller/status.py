"""The states of a marketplace order, and the one table that maps 4Seller's words to them."""

from dataclasses import dataclass
from enum import StrEnum


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


def read_status(word: str | None) -> StatusWord:
    """The state behind a word of 4Seller's: case and everything but letters do not matter; an unknown or missing
    word is pending and not `known`, so that the sale is taken and staff are alerted."""
    status = WORDS.get(_letters(word or ""))
    return StatusWord(word or "", status or OrderStatus.PENDING, status is not None)


def _letters(word: str) -> str:
    return word if word.isalpha() and word.islower() else "".join(filter(str.isalpha, word.lower()))
