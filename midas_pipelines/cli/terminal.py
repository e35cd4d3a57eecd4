"""Terminal output, with control characters in external text removed."""

from __future__ import annotations

import click


def clean(text: str) -> str:
    """The text on one line, with a space for each character that moves the cursor, colours, or turns the writing around."""
    return "".join(c if c.isprintable() else " " for c in text)


def say(text: str, *, err: bool = False) -> None:
    """Prints one line, whatever the names, ids and reasons in it hold."""
    click.echo(clean(text), err=err)
