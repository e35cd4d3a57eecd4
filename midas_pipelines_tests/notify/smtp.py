"""A real SMTP server for tests, on loopback, that keeps what it gets and can be told to misbehave."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from midas_pipelines_tests.ports import free_port

HANG, DROP = "hang", "drop"
"""What it may do instead of an answer: say nothing for ever, or be gone."""


class Mailbox:
    """`with Mailbox() as box:` serves at `box.url`.

    Args:
        tls: offers STARTTLS with this certificate.
        password: the one that it lets in, sealed or not; None offers no login.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, password: str | None = None) -> None:
        self.mails: list[EmailMessage] = []
        self.raw: list[bytes] = []  # the same letters as they came over the line
        self.recipients: list[str] = []
        self.answers: list[str] = []  # to the next letters; taken when empty
        self.refused: dict[str, str] = {}  # address -> answer to RCPT
        self.hang_up = False  # take the letter and die before saying so
        self.meanwhile: Callable[[], object] = lambda: None  # done while it has a letter in its hands
        self.at: dict[str, str] = {}  # CONNECT, MAIL, RCPT, DATA or LETTER -> the answer there, HANG or DROP
        self.connections = 0
        self.passwords: list[str] = []  # as they were heard
        self._password = password
        self._port = free_port()
        login: dict[str, Any] = {}
        if password is not None:
            login = {"authenticator": self._let_in, "auth_require_tls": False}
        self._controller = _Doors(self, hostname="127.0.0.1", port=self._port, tls_context=tls, **login)

    def __enter__(self) -> Mailbox:
        self._controller.start()
        self.connections = 0  # the controller has tried it
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    @property
    def url(self) -> str:
        """Its address as the settings take it."""
        return f"smtp://127.0.0.1:{self._port}"

    def url_as(self, login: str) -> str:
        """Its address with `user:password`."""
        return f"smtp://{login}@127.0.0.1:{self._port}"

    async def does(self, server: SMTP, place: str) -> str | None:
        """What it is told to say at this place, if anything; where it hangs, nothing is ever said."""
        said = self.at.get(place)
        if said == HANG:
            await asyncio.Event().wait()  # until the caller gives up
        if said == DROP:
            assert server.transport is not None
            server.transport.abort()
        return said

    async def handle_MAIL(  # noqa: N802 - the name that the server asks for
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[Any]
    ) -> str:
        """Answers the sender."""
        said = await self.does(server, "MAIL")
        envelope.mail_from = address
        return said or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[Any]
    ) -> str:
        """Answers one recipient."""
        said = self.refused.get(address) or await self.does(server, "RCPT")
        if said is None:
            envelope.rcpt_tos.append(address)
        return said or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Takes one letter, or not."""
        self.meanwhile()
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            content = envelope.content if isinstance(envelope.content, bytes) else b""
            mail = email.message_from_bytes(content, policy=email.policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
            self.raw.append(content)
            self.recipients += envelope.rcpt_tos
        if self.hang_up:
            assert server.transport is not None
            server.transport.abort()
        return await self.does(server, "LETTER") or answer

    def _let_in(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        password = given.password.decode() if isinstance(given, LoginPassword) else ""
        self.passwords.append(password)
        return AuthResult(success=password == self._password, handled=False)


class _Line(SMTP):
    """One connection, where the box may speak before the protocol does."""

    greeted = False

    async def push(self, status: Any) -> None:
        """Sends one answer; the first is the greeting."""
        if not self.greeted:
            self.greeted = True
            self.event_handler.connections += 1
            status = await self.event_handler.does(self, "CONNECT") or status
        await super().push(status)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        """Answers DATA itself, before there is a letter."""
        said = await self.event_handler.does(self, "DATA")
        await (super().smtp_DATA(arg) if said is None else self.push(said))


class _Doors(Controller):
    def factory(self) -> SMTP:
        """One connection."""
        return _Line(self.handler, **self.SMTP_kwargs)


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's certificate for this machine that nobody vouches for, and the file of it for whoever trusts it."""
    key, path = ec.generate_private_key(ec.SECP256R1()), folder / "certificate.pem"
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, pkcs8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, path
