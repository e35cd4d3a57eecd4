"""What an import comes to: counts, and which orders it leaves out (`MIDAS_ORDERS_SINCE`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from midas_pipelines.sync.orders.model.sale import Sale

PREVIEW = 20


@dataclass
class ImportCounts:
    """The result of importing a batch: counts of orders, and a preview of the first."""

    imported: int = 0
    duplicates: int = 0
    exceptions: int = 0
    failed: int = 0
    moved_on: int = 0  # known orders whose status or content changed
    mapped: int = 0  # lines that were unmapped and have an item now
    left_out: dict[str, str] = field(
        default_factory=dict
    )  # unknown orders that are not to be imported, and why
    postponed: set[str] = field(default_factory=set)  # their rows are locked: try again
    refused: set[str] = field(
        default_factory=set
    )  # of those, the ones that no lock explains: try again, ever later
    preview: list[dict[str, str]] = field(default_factory=list)
    new: list[str] = field(default_factory=list)  # the ids of the imported orders

    def add(self, other: ImportCounts) -> None:
        """Adds the counts of another batch."""
        for name in ("imported", "duplicates", "exceptions", "failed", "moved_on", "mapped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.postponed |= other.postponed
        self.refused |= other.refused
        self.left_out |= other.left_out
        self.new += other.new
        self.preview = (self.preview + other.preview)[:PREVIEW]


def quarantined_order(order_id: str, *, new: bool) -> ImportCounts:
    """The result of a quarantined order; `new` when it was not quarantined before."""
    preview = [{"order": order_id, "channel": "", "total": "", "lines": "", "exception": "quarantined"}]
    return ImportCounts(failed=int(new), duplicates=int(not new), preview=preview if new else [])


TOO_OLD = "It was placed before MIDAS_ORDERS_SINCE, so it is not imported."
UNDATED = "It has no date, and MIDAS_ORDERS_SINCE is set: the next poll decides whether to import it."


def too_old(placed_at: datetime | None, since: datetime | None) -> bool:
    """Whether the date is known to be before the cut-off."""
    return placed_at is not None and since is not None and placed_at < since


def skipped_as_old(sale: Sale, since: datetime) -> str | None:
    """Why an unknown order is not imported, as a sentence; None when it is.

    Args:
        sale: all states of it in the batch, joined.
        since: the cut-off.
    """
    if too_old(sale.placed_at or sale.updated_at, since):
        return TOO_OLD
    if sale.placed_at is not None or sale.read_at is not None:
        return None
    return None if "created_at" in sale.unreadable else UNDATED  # a poll cannot read it either
