"""What became of a batch of sales, counted."""

from __future__ import annotations

from dataclasses import dataclass, field

PREVIEW = 20


@dataclass
class ImportCounts:
    """What became of a batch; counts of orders, and the first few by name."""

    imported: int = 0
    duplicates: int = 0
    exceptions: int = 0
    failed: int = 0
    moved_on: int = 0  # known orders whose status or content changed
    mapped: int = 0  # lines that were unmapped and have an item now
    postponed: set[str] = field(default_factory=set)  # others held rows that they need: to be tried again
    preview: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: ImportCounts) -> None:
        """Counts another batch in."""
        for name in ("imported", "duplicates", "exceptions", "failed", "moved_on", "mapped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.postponed |= other.postponed
        self.preview = (self.preview + other.preview)[:PREVIEW]


def quarantined_order(order_id: str, reason: str, *, new: bool) -> ImportCounts:
    """The result of an order that was set aside, now or before."""
    preview = [
        {"order": order_id, "channel": "", "total": "", "lines": "", "exception": f"set aside: {reason}"}
    ]
    return ImportCounts(failed=int(new), duplicates=int(not new), preview=preview if new else [])
