"""A mail server and a webhook receiver on this machine, for real deliveries."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from midas_pipelines_tests.ports import free_port


class Inbox:
    """Keeps each mail that arrives; refuses them while `refusing`."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self.refusing = False

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refusing:
            return "451 try again later"
        mail = message_from_bytes(envelope.content)
        parts = [part.get_payload(decode=True) or b"" for part in mail.walk() if not part.is_multipart()]
        self.mails.append(f"{mail['Subject']}\n" + b"\n".join(parts).decode())
        return "250 OK"


class MailServer:
    """An SMTP server and the address that apprise knows it by."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        port = free_port()
        self._controller = Controller(self.inbox, hostname="127.0.0.1", port=port)
        self._controller.start()
        self.url = f"mailto://127.0.0.1:{port}?smtp=127.0.0.1&from=shop@example.com&to=staff@example.com&mode=insecure"

    def stop(self) -> None:
        self._controller.stop()


class WebhookReceiver:
    """An HTTP server that keeps the JSON it is sent, and answers with `status`."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.followed: list[str] = []  # where a redirect led a sender
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    receiver.bodies.append(json.loads(body))
                self.send_response(receiver.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.followed.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"json://127.0.0.1:{self._server.server_port}/hook"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.stop()


@pytest.fixture
def webhook() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.stop()
