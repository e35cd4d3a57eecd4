"""Compares texts despite hub spelling: case, blanks, HTML entities, forms of a character."""

from __future__ import annotations

import html
import unicodedata


def folded(text: str) -> str:
    """The text without what hubs change in it: case, blanks, HTML entities, the form of its characters."""
    plain = unicodedata.normalize("NFKC", html.unescape(text))
    return "".join(plain.casefold().split())
