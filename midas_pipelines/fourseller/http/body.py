"""The JSON in a body, read however badly some text in it is spelled: one bad character must not hide a whole page."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pydantic_core

from midas_pipelines.text import writable_in

LONGEST_NUMBER = 400  # digits; Python refuses integers of thousands
ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')


def read_json(body: bytes) -> Any:
    """The value in a body.

    Bytes that are no UTF-8, halves of a surrogate pair and NUL become U+FFFD, raw control characters are kept, and NaN,
    Infinity and numbers of hundreds of digits are null.

    Raises:
        ValueError: it is not JSON.
    """
    if b"\\u0000" not in body:  # which no database stores
        with suppress(ValueError):
            return pydantic_core.from_json(body, allow_inf_nan=False)
    text = ESCAPE.sub(_escape, body.decode("utf-8-sig", "replace"))
    try:
        value = json.loads(text, strict=False, parse_constant=lambda _: None, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return writable_in(value)


def _escape(found: re.Match[str]) -> str:
    return found[0] if found[1] else "\\\\"  # such as the backslash of C:\parts


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= LONGEST_NUMBER else None
