"""Sends mail by SMTP and reports the result: accepted, refused, to be retried, or unknown."""

from __future__ import annotations

import ipaddress
import re
import smtplib
import ssl
from base64 import b64encode
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from midas_pipelines.mail_address import header_text, in_ascii, read_sender

SECONDS = 20.0
LOGGED_IN, GO_ON, GO_AHEAD = 235, 334, 354
SENDER_REFUSED = re.compile(
    r"(?<![\w.])5\.7\.\d|\brelay(s|ed|ing)?\b|\b(un)?auth(enticat\w*|ori[sz]\w*)?\b", re.IGNORECASE
)
"""Matches replies that refuse the sender, not the recipient (RFC 3463)."""
QUOTED = re.compile(r"\S*@\S*|\b[\w-]+(\.[\w-]+)*\.[a-z]{2,}\b", re.IGNORECASE)
"""Matches addresses and hosts in replies, whose names could match anything."""


class MailError(Exception):
    """The mail was not accepted; the text is a sentence without the customer's address."""


class MailRefused(MailError):
    """The server refused it permanently (5xx), or its address is invalid."""


class MailFailed(MailError):
    """The server did not accept it now; a retry may succeed."""


class MailDown(MailFailed):
    """The server does not answer, or accepts nothing from us: other mail would fail too."""


class MailUnsure(MailError):
    """The connection was lost after the mail was handed over: it may have been sent, so it is not sent again."""


@dataclass(frozen=True)
class CustomerMail:
    """One mail to a customer. `key` is the same whenever the same mail is sent again."""

    to: str
    subject: str
    text: str
    html: str
    key: str


@dataclass(frozen=True)
class SmtpServer:
    """The SMTP server, read from `smtp://user:password@host:587` (STARTTLS where offered) or `smtps://host:465`."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool

    @classmethod
    def from_url(cls, url: str) -> SmtpServer:
        """Reads a URL. Raises ValueError, without any part of it, when it is invalid."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # its text may quote the password
            parts, port = urlsplit(""), None
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(
                "MIDAS_SMTP_URL must be smtp://user:password@host:587 or smtps://user:password@host:465; "
                "write a special character of the password as % and its code, such as %2F for a slash."
            )
        tls = parts.scheme == "smtps"
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        return cls(parts.hostname, port or (465 if tls else 587), user, password, tls)

    @property
    def is_this_machine(self) -> bool:
        """Whether the server is on this machine."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class SmtpConnection:
    """A connection to the SMTP server, used as `with SmtpConnection(server, sender) as post`; opened by the first mail."""

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

    def send(self, mail: CustomerMail) -> None:
        """Sends the mail. Raises MailRefused, MailFailed, MailDown or MailUnsure."""
        to, message = compose(mail, self._sender)
        try:
            line = self._announce(to)
            _expect(_hand_over(line, message), "the message")
        except MailError:
            self._hang_up()
            raise

    def _announce(self, to: str) -> smtplib.SMTP:
        """The connection, with the server ready for the message; an error before that has sent nothing."""
        try:
            line = self._line or self._connect()
            _expect(line.mail(read_sender(self._sender).addr_spec), "the sender", everyone=True)
            _expect(line.rcpt(to), "the customer's address")
            code, words = line.docmd("data")
            if code != GO_AHEAD:
                raise smtplib.SMTPDataError(code, words)
        except MailError:
            raise
        except Exception as error:  # smtplib raises anything for an invalid host or password
            raise _down(error) from None
        return line

    def _connect(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        server = self._server
        if server.tls:
            line: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=SECONDS, context=context)
        else:
            line = smtplib.SMTP(server.host, server.port, timeout=SECONDS)
        try:
            line.ehlo_or_helo_if_needed()
            sealed = server.tls
            if not sealed and line.has_extn("starttls"):
                line.starttls(context=context)
                line.ehlo()
                sealed = True
            if server.user is not None:
                if not (sealed or server.is_this_machine):
                    raise MailDown(
                        "The mail server offers no encryption, so the password of MIDAS_SMTP_URL is not sent: "
                        "use smtps://, or a server with STARTTLS."
                    )
                _log_in(line, server.user, server.password or "")
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


def compose(mail: CustomerMail, sender: str) -> tuple[str, bytes]:
    """The customer's address in ASCII, and the mail with a text and an HTML part.

    Raises MailRefused, without the address, when an address is invalid.
    """
    message = EmailMessage()
    try:
        to, author = in_ascii(mail.to), read_sender(sender)
        message["From"] = author
        message["To"] = Address(addr_spec=to)
        message["Subject"] = header_text(mail.subject)
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{mail.key}@{author.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text, cte="quoted-printable")
        message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
        return to, message.as_bytes(policy=SMTP)
    except Exception:  # the address parser raises many errors, which quote the address
        raise MailRefused("The customer's or the sender's address is invalid.") from None


def _log_in(line: smtplib.SMTP, user: str, password: str) -> None:
    """Logs in, in UTF-8 where the credentials are not ASCII (RFC 4616), which smtplib does not support."""
    if (user + password).isascii():
        line.login(user, password)
        return
    offered = line.esmtp_features.get("auth", "").upper().split()
    if "PLAIN" in offered:
        answer = line.docmd("AUTH", "PLAIN " + _in_base64(f"\0{user}\0{password}"))
    elif "LOGIN" in offered:
        answer = line.docmd("AUTH", "LOGIN " + _in_base64(user))
        if answer[0] == GO_ON:
            answer = line.docmd(_in_base64(password))
    else:
        raise MailDown(
            "The mail server accepts only ASCII characters in user and password: "
            "change those of MIDAS_SMTP_URL."
        )
    if answer[0] != LOGGED_IN:
        raise smtplib.SMTPAuthenticationError(*answer)


def _in_base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _hand_over(line: smtplib.SMTP, message: bytes) -> tuple[int, bytes]:
    """Sends the message itself and returns the reply. Raises MailUnsure when the connection is lost meanwhile.

    Args:
        line: the connection, after DATA.
        message: with CRLF line ends.
    """
    # A dot alone on a line would end the message (RFC 5321, 4.5.2).
    stuffed = re.sub(rb"(?m)^\.", b"..", message)
    try:
        line.send(stuffed.removesuffix(b"\r\n") + b"\r\n.\r\n")
        return line.getreply()
    except (OSError, smtplib.SMTPException):
        raise MailUnsure(
            "The connection to the mail server was lost while sending: the message may have been sent. "
            "`midas orders retry ID --mail` sends it again."
        ) from None


def _expect(answer: tuple[int, bytes], what: str, *, everyone: bool = False) -> None:
    code, words = answer
    if 500 <= code < 600:
        said = QUOTED.sub(" ", words.decode("utf-8", "replace"))
        if everyone or SENDER_REFUSED.search(said):
            raise MailDown(f"The mail server refused {what} ({code}): see its rules for senders.")
        raise MailRefused(f"The mail server refused {what} ({code}).")
    if not 200 <= code < 300:
        raise MailFailed(f"The mail server did not accept {what} now ({code}).")


def _down(error: Exception) -> MailDown:
    code = getattr(error, "smtp_code", None)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return MailDown(f"The mail server refused the user or password of MIDAS_SMTP_URL ({code}).")
    reason = f"{type(error).__name__}" + (f", {code}" if code else "")
    return MailDown(f"The mail server could not be reached or did not answer correctly ({reason}).")
