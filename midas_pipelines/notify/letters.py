"""Writing letters from Jinja2 templates: for each kind `<kind>.txt`, whose first line is the subject, and `<kind>.html`.

A shop replaces any of them, and `layout.html`, by a file of the same name in its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from midas_pipelines.notify.mail import Letter

KINDS = ("received", "shipped", "cancelled")
OURS = Path(__file__).parent / "templates"


class BadTemplate(Exception):
    """A template is missing or wrong; the message names it and the line."""


def write_letter(kind: str, to: str, facts: Mapping[str, Any], *, folder: Path | None, key: str) -> Letter:
    """The letter of that kind.

    Args:
        kind: received, shipped or cancelled.
        to: the customer's address.
        facts: what the templates may name; see docs/orders.md.
        folder: the shop's own templates, which come first.
        key: names the letter, for the Message-ID.

    Raises:
        BadTemplate: a template is missing or wrong.
    """
    if folder is not None and not folder.is_dir():
        raise BadTemplate("MIDAS_MAIL_TEMPLATES names no folder: create it, or take the setting away.")
    templates = _environment(folder)
    try:
        text = templates.get_template(f"{kind}.txt").render(facts)
        html = templates.get_template(f"{kind}.html").render(facts)
    except jinja2.TemplateError as error:
        where = f"{getattr(error, 'name', None) or kind}, line {getattr(error, 'lineno', '?')}"
        raise BadTemplate(f"The mail template {where} is wrong: {error.message}.") from None
    except (
        Exception
    ) as error:  # a template is a program, and may fail as one; its words may quote the customer
        raise BadTemplate(f"The mail template {kind} is wrong: {type(error).__name__}.") from None
    subject, _, body = text.strip().lstrip("\ufeff").partition("\n")
    return Letter(to, subject.strip(), body.strip() + "\n", html, key)


def money(amount: Decimal, currency: str, digits: int = 2) -> str:
    """The amount as people read it: 1,234.50 USD; a filter of the templates."""
    return f"{amount:,.{digits}f} {currency}".strip()


@lru_cache(maxsize=8)
def _environment(folder: Path | None) -> SandboxedEnvironment:
    folders = ([folder] if folder is not None else []) + [OURS]
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = money
    return environment
