"""Serves the sandbox: in the foreground, in a thread, or in a process that never outlives its parent."""

import asyncio
import socket
import sys
from typing import Any, cast

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from midas_pipelines.fourseller.contract import BASE_PATH
from midas_pipelines.sandbox.app import Sandbox, create_app
from midas_pipelines.sandbox.breaking import TRANSPORT
from midas_pipelines.sandbox.config import SandboxConfig


class ProtocolWithTransport(HttpToolsProtocol):
    """Leaves the connection in the scope, so that a fault can reset it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = {TRANSPORT: self.transport}


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. From here on a caller may connect."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(2048)
    return listening


def root_of(listening: socket.socket) -> str:
    """The address of the sandbox's root, e.g. http://127.0.0.1:8004."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def server_of(sandbox: Sandbox) -> uvicorn.Server:
    """A quiet, fast server."""
    return uvicorn.Server(
        uvicorn.Config(
            sandbox,
            loop="uvloop",
            http=ProtocolWithTransport,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="error",
            server_header=False,
            date_header=True,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            backlog=2048,
        )
    )


async def run(sandbox: Sandbox, server: uvicorn.Server, listening: socket.socket) -> None:
    """Serves until the server is asked to exit."""
    await sandbox.start()
    try:
        await server.serve(sockets=[listening])
    finally:
        await sandbox.stop()


def serve(config: SandboxConfig, host: str = "127.0.0.1", port: int = 8004) -> None:
    """Serves until SIGINT or SIGTERM; prints one line, the URL of the API."""
    listening = listen(host, port)
    sys.stdout.write(f"{root_of(listening)}{BASE_PATH}\n")
    sys.stdout.flush()
    sandbox = create_app(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run(sandbox, server_of(sandbox), listening))
        except KeyboardInterrupt:
            return
