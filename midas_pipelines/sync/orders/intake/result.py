"""Counts of an import."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    postponed: set[str] = field(default_factory=set)  # their rows are locked: try again
    preview: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: ImportCounts) -> None:
        """Adds the counts of another batch."""
        for name in ("imported", "duplicates", "exceptions", "failed", "moved_on", "mapped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.postponed |= other.postponed
        self.preview = (self.preview + other.preview)[:PREVIEW]


def quarantined_order(order_id: str, *, new: bool) -> ImportCounts:
    """The result of a quarantined order; `new` when it was not quarantined before."""
    preview = [{"order": order_id, "channel": "", "total": "", "lines": "", "exception": "quarantined"}]
    return ImportCounts(failed=int(new), duplicates=int(not new), preview=preview if new else [])
