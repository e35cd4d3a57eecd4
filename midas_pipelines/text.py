"""Texts from outside: in characters that every database holds, as JSON, and compared whatever a hub changes in them;
numbers and durations in words. Pure."""

from __future__ import annotations

import html
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pydantic_core

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def writable(text: str) -> str:
    """The text with U+FFFD for what no database holds: NUL, and half of a surrogate pair."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")


def writable_in(value: Any) -> Any:
    """A JSON value with all its texts made writable."""
    if isinstance(value, str):
        return writable(value)
    if isinstance(value, dict):
        return {writable_in(name): writable_in(part) for name, part in value.items()}
    if isinstance(value, list):
        return [writable_in(part) for part in value]
    return value


def folded(text: str) -> str:
    """The text without what hubs change in it: case, blanks, HTML entities, the form of its characters."""
    return bare(unicodedata.normalize("NFKC", html.unescape(text)).casefold())


def spellings(sku: str) -> set[str]:
    """The SKU in small letters and without blanks, in the ways that hubs write one: HTML entities, Unicode forms. Pure."""
    plain = html.unescape(sku)
    forms = {
        unicodedata.normalize(form, one)
        for one in (sku, plain, html.escape(plain))
        for form in ("NFC", "NFD", "NFKC")
    }
    return {bare(one.lower()) for one in forms} | {bare(_ascii_lower(one.upper())) for one in forms}


def bare(text: str) -> str:
    """The text without blanks and without characters that are not seen, such as a zero-width space."""
    if text.isascii() and text.isprintable():  # as nearly every SKU is: ten times as fast
        return text.replace(" ", "")
    return "".join(one for one in text if not one.isspace() and unicodedata.category(one) != "Cf")


def _ascii_lower(text: str) -> str:
    """The text as SQLite lowers it: ASCII letters only."""
    return "".join(one.lower() if one.isascii() else one for one in text)


spell_moment = lru_cache(10_000)(str)
"""A moment as text, ISO 8601: to spell one takes long, and those of an order are written in several tables."""

_NUL = re.compile(r"((?<!\\)(?:\\\\)*)\\u0000")


def to_json(value: Any) -> str:
    """The value as JSON that every database takes: an amount becomes a text, so that it stays exact, a moment ISO 8601.

    U+FFFD takes the place of NUL and of half a character, which no database holds.
    """
    try:
        text = pydantic_core.to_json(value).decode()
    except (ValueError, UnicodeEncodeError):  # half a character, which only `json` knows how to spell
        text = writable(json.dumps(value, default=str, ensure_ascii=False))
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


def escaped(text: str) -> str:
    """The text with each character that Markdown or HTML gives a meaning escaped; its lines stay lines."""
    return "  \n".join(_PUNCTUATION.sub(r"\\\1", line) for line in text.splitlines())


OF_CALLS = ("requests", "sale_requests", "declared")
"""Whole numbers of a report that count no item and no order."""


def counts_of(report: Mapping[str, Any]) -> dict[str, int]:
    """What a sync counted, by the fields of its report or by its row in the log: the whole numbers."""
    return {name: value for name, value in report.items() if type(value) is int and name not in OF_CALLS}


def counted(counts: Mapping[str, object]) -> str:
    """The counts that are not zero, in words; empty where all are."""
    return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in counts.items() if value)


def number(value: float) -> str:
    """A number with three significant digits, or more before the point: 0.0125, 3.5, 1,234."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def duration_in_words(seconds: float) -> str:
    """A duration in the unit a person would choose; "never ends" where it is infinite."""
    if math.isinf(seconds):
        return "never ends"
    for unit, length, until in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 172_800)):
        if seconds < until:
            return f"{number(seconds / length)} {unit}"
    return f"{number(seconds / 86_400)} days"
