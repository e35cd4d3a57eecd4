"""Shards: the items dealt into parts of equal size, so that many workers can share one full sync.

An item's shard is its mapping's id modulo the number of shards. That id is given once and kept as long as the item
is; ids come from a sequence, so the parts are nearly equal; both databases compute it without an index.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Dagster's definitions need the names of the shards, and should load nothing for them
    import sqlalchemy as sa


def shard_names(count: int) -> list[str]:
    """The names of the shards, in numeric and alphabetic order: 00, 01, ..."""
    width = max(2, len(str(count - 1)))
    return [f"{number:0{width}}" for number in range(count)]


@dataclass(frozen=True, slots=True)
class Shards:
    """The parts with the `chosen` numbers, from 0, of so many."""

    chosen: Collection[int]
    of: int

    def holds(self, mapping_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """True where that column names a mapping of the chosen parts."""
        return (mapping_id % self.of).in_(sorted(self.chosen))

    def __str__(self) -> str:
        return f"shard {', '.join(str(number) for number in sorted(self.chosen))} of {self.of}"
