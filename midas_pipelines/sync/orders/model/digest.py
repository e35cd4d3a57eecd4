"""Digests of the parts of an order that a buyer may change, to distinguish an edit from a repetition. Pure.

A part that a message lacks counts as unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any

from midas_pipelines.storefront.json_text import to_json

DIGITS = 15
ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Content:
    """A digest of each part; None for a part that the message lacks."""

    lines: str | None = None
    amounts: str | None = None
    buyer: str | None = None
    address: str | None = None

    def written(self) -> str:
        """The value of the column `content_hash`: at most 64 characters."""
        return ".".join(getattr(self, part) or ABSENT for part in PARTS)

    def changed(self, known: Content) -> frozenset[str]:
        """The parts that differ from `known`."""
        return frozenset(
            part
            for part in PARTS
            if getattr(self, part) is not None and getattr(self, part) != getattr(known, part)
        )

    def only(self, parts: Collection[str]) -> Content:
        """Only these parts."""
        return Content(*(getattr(self, part) if part in parts else None for part in PARTS))

    def over(self, known: Content) -> Content:
        """These parts, and those of `known` where they are missing."""
        return Content(*(getattr(self, part) or getattr(known, part) for part in PARTS))


PARTS = tuple(field.name for field in fields(Content))


def read_content(written: str | None) -> Content:
    """The digests of a `content_hash`; empty for one in another form."""
    parts = (written or "").split(".")
    if len(parts) != len(PARTS):
        return Content()
    return Content(*(None if part == ABSENT else part for part in parts))


def missing_parts(written: str | None) -> frozenset[str]:
    """The parts that a `content_hash` lacks, since no message has had them; none for one in another form."""
    parts = (written or "").split(".")
    if len(parts) != len(PARTS):
        return frozenset()
    return frozenset(name for name, part in zip(PARTS, parts, strict=True) if part == ABSENT)


def digest(part: Any) -> str:
    """A digest of a value's JSON."""
    return hashlib.sha256(to_json(part).encode()).hexdigest()[:DIGITS]


def digest_of_fields(part: dict[str, Any]) -> str | None:
    """A digest of the fields that hold something; None when none does."""
    held = sorted(item for item in part.items() if item[1] is not None)
    return digest(held) if held else None


def digest_of_lines(lines: Iterable[tuple[Any, ...]]) -> str | None:
    """A digest of lines whatever their order; None without any."""
    listed = sorted(lines, key=repr)
    return digest(listed) if listed else None
