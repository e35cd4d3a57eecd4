"""Shards: the items dealt into parts of equal size, so that many workers can share one full sync.

An item's shard is its mapping's id modulo the number of shards. That id is given once and kept as long as the item
is; ids are dealt out in sequence, so the parts are equal to within one; both databases work it out without an index.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from midas_pipelines.store.tables import mappings


@dataclass(frozen=True, slots=True)
class Shards:
    """Some of the parts.

    Args:
        chosen: the numbers of the parts, from 0.
        of: how many parts there are.
    """

    chosen: Collection[int]
    of: int

    @property
    def condition(self) -> sa.ColumnElement[bool]:
        """True for the mappings of the chosen parts."""
        return (mappings.c.id % self.of).in_(sorted(self.chosen))

    def __str__(self) -> str:
        return f"shard {', '.join(str(number) for number in sorted(self.chosen))} of {self.of}"
