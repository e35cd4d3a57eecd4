"""Text from outside in Markdown pages: SKUs, 4Seller's messages and the like are shown, never interpreted. Pure."""

from __future__ import annotations

import re

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def plain(text: str) -> str:
    """The text with each character that Markdown or HTML gives a meaning escaped; its lines stay lines."""
    return "  \n".join(_PUNCTUATION.sub(r"\\\1", line) for line in text.splitlines())
