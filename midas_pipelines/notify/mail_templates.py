"""Renders customer mail from Jinja2 templates: for each kind `<kind>.txt`, whose first line is the subject, and `<kind>.html`.

A shop overrides any of them, and `layout.html`, with a file of the same name in its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from traceback import extract_tb
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from midas_pipelines.notify.mail import CustomerMail, MailError

OURS = Path(__file__).parent / "templates"


def render_mail(
    kind: str, to: str, facts: Mapping[str, Any], *, folder: Path | None, key: str
) -> CustomerMail:
    """Renders the mail of that kind, of the shop's own templates in `folder` first; `key` is for the Message-ID.

    Raises MailError: a template is missing or wrong; names it and the line, without personal data.
    """
    if folder is not None and not folder.is_dir():
        raise MailError("MIDAS_MAIL_TEMPLATES is not a folder: create it, or remove the setting.", retry=True)
    text, html = (_fill_in(f"{kind}.{part}", facts, folder) for part in ("txt", "html"))
    subject, _, body = text.strip().lstrip("\ufeff").partition("\n")
    if not (subject.strip() and body.strip() and html.strip()):
        raise MailError(f"The mail template {kind} is wrong: its subject, text or page is empty.", retry=True)
    return CustomerMail(to, subject.strip(), body.strip() + "\n", html, key)


def _fill_in(name: str, facts: Mapping[str, Any], folder: Path | None) -> str:
    try:
        return _environment(folder).get_template(name).render(facts)
    except Exception as error:  # a template may raise anything, with text that may quote the customer
        frames = [(Path(frame.filename), frame.lineno) for frame in extract_tb(error.__traceback__)]
        lines = [f"{path.name}, line {line}," for path, line in frames if path.suffix in (".txt", ".html")]
        where = lines[-1] if lines else name
        why = f"The mail template {where} is wrong: {type(error).__name__}."
        raise MailError(why, retry=True) from None


def money(amount: Decimal, currency: str, digits: int = 2) -> str:
    """Template filter: formats an amount, such as 1,234.50 USD."""
    return f"{amount:,.{digits}f} {currency}".strip()


@lru_cache(maxsize=8)
def _environment(folder: Path | None) -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader([OURS] if folder is None else [folder, OURS]),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = money
    return environment
