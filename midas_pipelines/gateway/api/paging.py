"""Keyset paging: a cursor names the last row seen, so that new rows shift no page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query

LARGEST = 2**63 - 1
SIGN = "b"

Cursor = Annotated[
    str | None,
    Query(pattern=r"^b[0-9]{1,18}$", description="`next` of the page before."),
]


def decode_cursor(cursor: str | None) -> int | None:
    """The id that the page starts before."""
    return None if cursor is None else int(cursor.removeprefix(SIGN))


def next_cursor(rows: Sequence[Mapping[str, Any]], limit: int) -> str | None:
    """The cursor behind a page; None when it was the last."""
    return f"{SIGN}{rows[-1]['id']}" if len(rows) == limit else None
