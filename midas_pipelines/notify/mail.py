"""Mail to customers: written from Jinja2 templates, sent by SMTP: accepted, to be retried, or refused for good.

For each kind there is `<kind>.txt`, whose first line is the subject, and `<kind>.html`. A shop overrides any of them, and
`layout.html`, with a file of the same name in its own folder.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from traceback import extract_tb
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from midas_pipelines.mail_address import header_text, in_ascii, read_sender

OURS = Path(__file__).parent / "templates"
SECONDS = 20.0  # the longest wait for an answer of the server
FAILURES: dict[type[Exception], str] = {
    smtplib.SMTPAuthenticationError: "refused the user or password of MIDAS_SMTP_URL",
    smtplib.SMTPNotSupportedError: "offers no encryption (STARTTLS), so nothing is sent",
}


class MailError(Exception):
    """The mail was not accepted; the text is a sentence without the customer's address.

    `retry`: a later attempt may succeed, and cannot send it twice. `down`: other mail would fail now too.
    """

    def __init__(self, why: str, *, retry: bool = False, down: bool = False) -> None:
        super().__init__(why)
        self.retry, self.down = retry, down


@dataclass(frozen=True)
class CustomerMail:
    """One mail to a customer. `key` is the same whenever the same mail is sent again."""

    to: str
    subject: str
    text: str
    html: str
    key: str


class SmtpConnection:
    """A connection to the SMTP server, used as `with SmtpConnection(url, sender) as smtp`; opened by the first mail.

    `url` as the settings checked it: `smtp://user:password@host:587` (STARTTLS where offered; with `encrypted`, nothing is
    sent without) or `smtps://host:465`.
    """

    def __init__(self, url: str, sender: str, *, encrypted: bool = False) -> None:
        self._url, self._encrypted, self._sender = urlsplit(url), encrypted, sender
        self._smtp: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            try:
                smtp.quit()
            except (OSError, smtplib.SMTPException):
                smtp.close()

    def send(self, mail: CustomerMail) -> None:
        """Sends the mail. Raises MailError, after which the next mail opens a new connection."""
        to, message = compose(mail, self._sender)
        handed_over = False
        try:
            smtp = self._smtp or self._connect()
            _require(smtp.mail(read_sender(self._sender).addr_spec)[0], "the sender", down=True)
            _require(smtp.rcpt(to)[0], "the customer's address")
            handed_over = True
            _require(smtp.data(message)[0], "the message")
        except Exception as error:
            self.__exit__()
            raise _in_words(error, handed_over) from None

    def check(self) -> None:
        """Connects and signs in. Raises MailError."""
        try:
            self._connect()
        except Exception as error:
            raise _in_words(error) from None

    def _connect(self) -> smtplib.SMTP:
        url, context, secure = self._url, ssl.create_default_context, self._url.scheme == "smtps"
        host, port = url.hostname or "", url.port or (465 if secure else 587)
        if secure:
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=SECONDS, context=context())
        else:
            smtp = smtplib.SMTP(host, port, timeout=SECONDS)
        self._smtp = smtp
        smtp.ehlo_or_helo_if_needed()
        if not secure and (self._encrypted or url.username or smtp.has_extn("starttls")):
            smtp.starttls(context=context())  # raises where it is not offered
            smtp.ehlo()
        if url.username:
            smtp.login(unquote(url.username), unquote(url.password or ""))
        return smtp


def compose(mail: CustomerMail, sender: str) -> tuple[str, bytes]:
    """The customer's address in ASCII, and the mail as text and HTML. Raises MailError, which does not quote an address."""
    message = EmailMessage()
    try:
        to, author = in_ascii(mail.to), read_sender(sender)
        message["From"] = author
        message["To"] = Address(addr_spec=to)
        message["Subject"] = header_text(mail.subject)
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{header_text(mail.key)}@{author.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text, cte="quoted-printable")
        message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
        return to, message.as_bytes(policy=SMTP)
    except Exception:  # the address parser raises many errors, which quote the address
        raise MailError("The customer's or the sender's address is invalid.") from None


def _require(code: int, what: str, *, down: bool = False) -> None:
    if not 200 <= code < 300:
        raise MailError(f"The mail server refused {what} ({code}).", retry=down or code < 500, down=down)


def _in_words(error: Exception, handed_over: bool = False) -> MailError:
    """What smtplib raised, which may be anything for an invalid host or password; only a lost message may have been sent."""
    if isinstance(error, MailError):
        return error
    if isinstance(error, smtplib.SMTPDataError):  # before the message
        code = error.smtp_code
        return MailError(f"The mail server refused the message ({code}).", retry=code < 500)
    if handed_over:
        why = "The connection to the mail server was lost while sending: the message may have been sent."
        return MailError(why, down=True)
    what = FAILURES.get(type(error), "could not be reached or did not answer correctly")
    return MailError(f"The mail server {what} ({type(error).__name__}).", retry=True, down=True)


def render_mail(
    kind: str, to: str, facts: Mapping[str, Any], *, folder: Path | None, key: str
) -> CustomerMail:
    """Renders the mail of that kind, of the shop's own templates in `folder` first; `key` is for the Message-ID.
    Raises MailError, which names a template that is missing or wrong, and the line."""
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
