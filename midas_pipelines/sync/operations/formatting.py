"""Numbers, durations and text from outside, for people. Pure."""

from __future__ import annotations

import math
import re

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def plain(text: str) -> str:
    """The text with each character that Markdown or HTML gives a meaning escaped; its lines stay lines."""
    return "  \n".join(_PUNCTUATION.sub(r"\\\1", line) for line in text.splitlines())


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


def counted(count: int, one: str, many: str) -> str:
    """A count with its noun: 1 worker, 1,200 workers."""
    return f"{count:,} {one if count == 1 else many}"
