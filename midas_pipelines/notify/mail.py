"""Sends mail to customers by SMTP: accepted, to be retried, or refused for good."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Self
from urllib.parse import unquote, urlsplit

from midas_pipelines.mail_address import header_text, in_ascii, read_sender

SECONDS = 20.0
"""The longest wait for an answer of the server."""
FAILURES: dict[type[Exception], str] = {
    smtplib.SMTPAuthenticationError: "refused the user or password of MIDAS_SMTP_URL",
    smtplib.SMTPNotSupportedError: "offers no encryption (STARTTLS), so nothing is sent",
}
"""What an error before the message means; any other: the server does not answer as it should."""


class MailError(Exception):
    """The mail was not accepted; the text is a sentence without the customer's address.

    Args:
        why: the sentence.
        retry: whether a later attempt may succeed, and cannot send it twice.
        down: whether other mail would fail now too.
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

    Args:
        url: `smtp://user:password@host:587` (STARTTLS where offered) or `smtps://host:465`, as the settings checked it.
        sender: such as `Shop <orders@example.com>`.
        encrypted: sends nothing without STARTTLS.
    """

    def __init__(self, url: str, sender: str, *, encrypted: bool = False) -> None:
        self._url, self._encrypted = urlsplit(url), encrypted
        self._sender = sender
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
        try:
            smtp = self._announce(to)
            _require(_hand_over(smtp, message), "the message")
        except MailError:
            self.__exit__()
            raise

    def check(self) -> None:
        """Connects and signs in. Raises MailError."""
        self._announce(None)

    def _announce(self, to: str | None) -> smtplib.SMTP:
        """The connection, ready for the message; an error before that has sent nothing."""
        try:
            smtp = self._smtp or self._connect()
            if to is None:
                return smtp
            _require(smtp.mail(read_sender(self._sender).addr_spec), "the sender", down=True)
            _require(smtp.rcpt(to), "the customer's address")
        except MailError:
            raise
        except Exception as error:  # smtplib raises anything for an invalid host or password
            what = FAILURES.get(type(error), "could not be reached or did not answer correctly")
            why = f"The mail server {what} ({type(error).__name__})."
            raise MailError(why, retry=True, down=True) from None
        return smtp

    def _connect(self) -> smtplib.SMTP:
        url, context = self._url, ssl.create_default_context()
        if url.scheme == "smtps":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                url.hostname or "", url.port or 465, timeout=SECONDS, context=context
            )
        else:
            smtp = smtplib.SMTP(url.hostname or "", url.port or 587, timeout=SECONDS)
        self._smtp = smtp
        smtp.ehlo_or_helo_if_needed()
        if url.scheme == "smtp" and (self._encrypted or url.username or smtp.has_extn("starttls")):
            smtp.starttls(context=context)  # raises where it is not offered
            smtp.ehlo()
        if url.username:
            smtp.login(unquote(url.username), unquote(url.password or ""))
        return smtp


def compose(mail: CustomerMail, sender: str) -> tuple[str, bytes]:
    """The customer's address in ASCII, and the mail with a text and an HTML part.

    Raises MailError, without the address, when an address is invalid.
    """
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


def _hand_over(smtp: smtplib.SMTP, message: bytes) -> tuple[int, bytes]:
    """Sends the message itself and returns the answer. Raises MailError when the connection is lost meanwhile."""
    try:
        return smtp.data(message)
    except smtplib.SMTPDataError as refused:  # before the message
        return refused.smtp_code, b""
    except (OSError, smtplib.SMTPException):
        why = "The connection to the mail server was lost while sending: the message may have been sent."
        raise MailError(why, down=True) from None


def _require(answer: tuple[int, bytes], what: str, *, down: bool = False) -> None:
    code = answer[0]
    if not 200 <= code < 300:
        raise MailError(f"The mail server refused {what} ({code}).", retry=down or code < 500, down=down)
