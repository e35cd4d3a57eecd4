"""Sending one letter by SMTP, and telling how it ended: taken, refused for good, to be tried again, or unknown."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, parseaddr
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

SECONDS = 20.0


class MailError(Exception):
    """The letter was not taken; the message is a sentence without the customer's address."""


class MailRefused(MailError):
    """The server will never take it (5xx), or it cannot be addressed."""


class MailFailed(MailError):
    """The server did not take it now; trying again may help."""


class MailUnsure(MailError):
    """The connection was lost after the letter was handed over: it may have been sent, so it is not sent again."""


@dataclass(frozen=True)
class Letter:
    """What a customer gets. `key` is the same for the same letter, whoever sends it however often."""

    to: str
    subject: str
    text: str
    html: str
    key: str


@dataclass(frozen=True)
class SmtpServer:
    """Where mail goes, read from `smtp://user:password@host:587` (STARTTLS where offered) or `smtps://host:465`."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool

    @classmethod
    def from_url(cls, url: str) -> SmtpServer:
        """Raises ValueError, without the URL, when it is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("MIDAS_SMTP_URL must be smtp://host:port or smtps://host:port.")
        tls = parts.scheme == "smtps"
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        return cls(parts.hostname, parts.port or (465 if tls else 587), user, password, tls)


class Post:
    """A connection to the SMTP server, used as `with Post(server, sender) as post`; opened by the first letter."""

    def __init__(self, server: SmtpServer, sender: str) -> None:
        self._server = server
        self._sender = sender
        self._line: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hang_up()

    def send(self, letter: Letter) -> None:
        """Hands the letter over. Raises MailRefused, MailFailed or MailUnsure."""
        message = compose(letter, self._sender)
        try:
            line = self._line or self._connect()
            sender = parseaddr(self._sender)[1]
            _expect(line.mail(sender), "the sender")
            _expect(line.rcpt(letter.to), "the customer's address")
        except (OSError, smtplib.SMTPException) as trouble:
            self._hang_up()
            raise _failure(trouble) from None
        except MailError:
            self._hang_up()
            raise
        try:
            _expect(line.data(message.as_bytes(policy=SMTP)), "the letter")
        except MailError:
            self._hang_up()
            raise
        except smtplib.SMTPDataError as refused:  # said no to DATA itself, before the letter
            self._hang_up()
            raise _failure(refused) from None
        except (OSError, smtplib.SMTPException):
            self._hang_up()
            raise MailUnsure(
                "The mail server was lost while it took the letter: it may have been sent. "
                "`midas orders retry ID --mail` sends it again."
            ) from None

    def _connect(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        server = self._server
        if server.tls:
            line: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=SECONDS, context=context)
        else:
            line = smtplib.SMTP(server.host, server.port, timeout=SECONDS)
        try:
            line.ehlo_or_helo_if_needed()
            if not server.tls and line.has_extn("starttls"):
                line.starttls(context=context)
                line.ehlo()
            if server.user is not None:
                line.login(server.user, server.password or "")
        except BaseException:
            line.close()
            raise
        self._line = line
        return line

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            try:
                line.quit()
            except (OSError, smtplib.SMTPException):
                line.close()


def compose(letter: Letter, sender: str) -> EmailMessage:
    """The letter as a message with a text and an HTML part. Raises MailRefused when it cannot be addressed."""
    name, address = parseaddr(sender)
    message = EmailMessage()
    try:
        message["From"] = Address(name, addr_spec=address)
        message["To"] = Address(addr_spec=letter.to)
        message["Subject"] = " ".join(letter.subject.split())
    except ValueError:
        raise MailRefused("The customer's or the sender's address is not one that mail can go to.") from None
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{letter.key}@{address.rsplit('@', 1)[-1]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    return message


def _expect(answer: tuple[int, bytes], what: str) -> None:
    code, _ = answer
    if 500 <= code < 600:
        raise MailRefused(f"The mail server refused {what} ({code}).")
    if not 200 <= code < 300:
        raise MailFailed(f"The mail server did not take {what} now ({code}).")


def _failure(trouble: Exception) -> MailError:
    code = getattr(trouble, "smtp_code", None)
    if isinstance(trouble, smtplib.SMTPAuthenticationError):
        return MailFailed(f"The mail server refused the user or password of MIDAS_SMTP_URL ({code}).")
    reason = f"{type(trouble).__name__}" + (f", {code}" if code else "")
    return MailFailed(f"The mail server could not be reached or did not answer as it should ({reason}).")
