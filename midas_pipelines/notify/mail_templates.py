"""Renders customer mail from Jinja2 templates: for each kind `<kind>.txt`, whose first line is the subject, and `<kind>.html`.

A shop overrides any of them, and `layout.html`, with a file of the same name in its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

from midas_pipelines.notify.mail import CustomerMail

KINDS = ("received", "shipped", "cancelled")
OURS = Path(__file__).parent / "templates"
FAILURES = {
    jinja2.TemplateNotFound: "it names a missing file",
    jinja2.UndefinedError: "it uses an undefined name",
    SecurityError: "it uses an unsafe expression",
}
"""Our own texts: Jinja's quote what the template named, which may be personal data."""
LONGEST_LINE = 160


class BadTemplate(Exception):
    """A template is missing or wrong; the message names it and the line, without personal data."""


def render_mail(
    kind: str, to: str, facts: Mapping[str, Any], *, folder: Path | None, key: str
) -> CustomerMail:
    """Renders the mail of that kind.

    Args:
        kind: received, shipped or cancelled.
        to: the customer's address.
        facts: the variables of the templates; see docs/orders.md.
        folder: the shop's own templates, which come first.
        key: unique, for the Message-ID.

    Raises:
        BadTemplate: a template is missing or wrong.
    """
    if folder is not None and not folder.is_dir():
        raise BadTemplate("MIDAS_MAIL_TEMPLATES is not a folder: create it, or remove the setting.")
    text = _fill_in(f"{kind}.txt", facts, folder)
    html = _fill_in(f"{kind}.html", facts, folder)
    subject, _, body = text.strip().lstrip("\ufeff").partition("\n")
    for part, content, name in (("subject", subject, "txt"), ("text", body, "txt"), ("page", html, "html")):
        if not content.strip():
            raise BadTemplate(f"The mail template {kind}.{name} is wrong: its {part} is empty.")
    return CustomerMail(to, subject.strip(), body.strip() + "\n", html, key)


def _fill_in(name: str, facts: Mapping[str, Any], folder: Path | None) -> str:
    try:
        return _environment(folder).get_template(name).render(facts)
    except jinja2.TemplateSyntaxError as error:  # its text quotes only the template
        why = (error.message or "").rstrip(".")
        raise BadTemplate(
            f"The mail template {error.name or name}, line {error.lineno}, is wrong: {why}."
        ) from None
    except Exception as error:  # a template may raise anything, with text that may quote the customer
        why = next(
            (words for kind, words in FAILURES.items() if isinstance(error, kind)), type(error).__name__
        )
        place = _place(error, _folders(folder))
        if place is None:
            raise BadTemplate(f"The mail template {name} is wrong: {why}.") from None
        where, line = place
        raise BadTemplate(f"The mail template {where}, is wrong: {why}, in {line}") from None


def _place(error: Exception, folders: Sequence[Path]) -> tuple[str, str] | None:
    """The file and line where a template failed, and that line's text; None when it had not started."""
    passed = [(Path(frame.f_code.co_filename), number) for frame, number in walk_tb(error.__traceback__)]
    for path, number in reversed(passed):
        for folder in folders:
            if path.is_relative_to(folder) and path.suffix in (".txt", ".html"):
                return f"{path.relative_to(folder).as_posix()}, line {number}", _line(path, number)
    return None


def _line(path: Path, number: int) -> str:
    lines = path.read_text("utf-8", "replace").split("\n")
    line = lines[number - 1].strip() if number <= len(lines) else ""
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


def money(amount: Decimal, currency: str, digits: int = 2) -> str:
    """Template filter: formats an amount, such as 1,234.50 USD."""
    return f"{amount:,.{digits}f} {currency}".strip()


@lru_cache(maxsize=8)
def _environment(folder: Path | None) -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(_folders(folder)),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = money
    return environment


def _folders(folder: Path | None) -> list[Path]:
    """The template folders, the shop's own first."""
    return [OURS] if folder is None else [folder, OURS]
