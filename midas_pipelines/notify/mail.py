"""Sending one letter by SMTP, and telling how it ended: taken, refused for good, to be tried again, or unknown."""

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
NOT_THIS_LETTERS_FAULT = re.compile(
    r"(?<![\w.])5\.7\.\d|\brelay(s|ed|ing)?\b|\b(un)?auth(enticat\w*|ori[sz]\w*)?\b", re.IGNORECASE
)
"""What servers say when they refuse whoever sends rather than the one who is written to (RFC 3463)."""
QUOTED = re.compile(r"\S*@\S*|\b[\w-]+(\.[\w-]+)*\.[a-z]{2,}\b", re.IGNORECASE)
"""Addresses and hosts in what servers say: they may be called anything."""


class MailError(Exception):
    """The letter was not taken; the message is a sentence without the customer's address."""


class MailRefused(MailError):
    """The server will never take it (5xx), or it cannot be addressed."""


class MailFailed(MailError):
    """The server did not take it now; trying again may help."""


class MailDown(MailFailed):
    """The server does not answer, or takes nothing from us: no other letter would fare better now."""


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
        """Raises ValueError, without any part of the URL, when it is none."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # whose own text may quote the password
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
        """Whether what is sent there stays on this machine."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


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
        """Hands the letter over. Raises MailRefused, MailFailed, MailDown or MailUnsure."""
        to, message = compose(letter, self._sender)
        try:
            line = self._announce(to)
            _expect(_hand_over(line, message), "the letter")
        except MailError:
            self._hang_up()
            raise

    def _announce(self, to: str) -> smtplib.SMTP:
        """The line, on which the server waits for the letter; whatever goes wrong before has surely sent nothing."""
        try:
            line = self._line or self._connect()
            _expect(line.mail(read_sender(self._sender).addr_spec), "the sender", everyone=True)
            _expect(line.rcpt(to), "the customer's address")
            code, words = line.docmd("data")
            if code != GO_AHEAD:
                raise smtplib.SMTPDataError(code, words)
        except MailError:
            raise
        except Exception as trouble:  # also what smtplib makes of an odd host or password
            raise _down(trouble) from None
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
                        "The mail server offers no encryption, and the password of MIDAS_SMTP_URL is not sent without: "
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


def compose(letter: Letter, sender: str) -> tuple[str, bytes]:
    """The customer's address as servers take it, and the letter with a text and an HTML part.

    Raises MailRefused when it cannot be addressed; nothing of the address is in its message.
    """
    message = EmailMessage()
    try:
        to, author = in_ascii(letter.to), read_sender(sender)
        message["From"] = author
        message["To"] = Address(addr_spec=to)
        message["Subject"] = header_text(letter.subject)
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{letter.key}@{author.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text, cte="quoted-printable")
        message.add_alternative(letter.html, subtype="html", cte="quoted-printable")
        return to, message.as_bytes(policy=SMTP)
    except Exception:  # the parser of addresses fails in many ways, and its words quote the address
        raise MailRefused("The customer's or the sender's address is not one that mail can go to.") from None


def _log_in(line: smtplib.SMTP, user: str, password: str) -> None:
    """Logs in, with UTF-8 where ASCII does not do (RFC 4616), of which smtplib knows nothing."""
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
            "The mail server takes no user or password with other letters than ASCII ones: "
            "change those of MIDAS_SMTP_URL."
        )
    if answer[0] != LOGGED_IN:
        raise smtplib.SMTPAuthenticationError(*answer)


def _in_base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _hand_over(line: smtplib.SMTP, message: bytes) -> tuple[int, bytes]:
    """Sends the letter itself and returns the answer. Raises MailUnsure when the line is lost meanwhile.

    Args:
        line: on which the server waits for it.
        message: with CRLF at the end of each line.
    """
    # A dot alone on a line would end the letter (RFC 5321, 4.5.2).
    stuffed = re.sub(rb"(?m)^\.", b"..", message)
    try:
        line.send(stuffed.removesuffix(b"\r\n") + b"\r\n.\r\n")
        return line.getreply()
    except (OSError, smtplib.SMTPException):
        raise MailUnsure(
            "The mail server was lost while it took the letter: it may have been sent. "
            "`midas orders retry ID --mail` sends it again."
        ) from None


def _expect(answer: tuple[int, bytes], what: str, *, everyone: bool = False) -> None:
    code, words = answer
    if 500 <= code < 600:
        said = QUOTED.sub(" ", words.decode("utf-8", "replace"))
        if everyone or NOT_THIS_LETTERS_FAULT.search(said):
            raise MailDown(f"The mail server refused {what} ({code}): see its rules for who may send.")
        raise MailRefused(f"The mail server refused {what} ({code}).")
    if not 200 <= code < 300:
        raise MailFailed(f"The mail server did not take {what} now ({code}).")


def _down(trouble: Exception) -> MailDown:
    code = getattr(trouble, "smtp_code", None)
    if isinstance(trouble, smtplib.SMTPAuthenticationError):
        return MailDown(f"The mail server refused the user or password of MIDAS_SMTP_URL ({code}).")
    reason = f"{type(trouble).__name__}" + (f", {code}" if code else "")
    return MailDown(f"The mail server could not be reached or did not answer as it should ({reason}).")
