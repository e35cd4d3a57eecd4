"""Serves a sandbox: in the foreground, or in a process of its own beside the code that uses it."""

import asyncio
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, Self, cast

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from midas_pipelines.fourseller.contract import BASE_PATH
from midas_pipelines.sandbox.app import Sandbox
from midas_pipelines.sandbox.config import TRANSPORT, SandboxConfig
from midas_pipelines.sockets import address_of, listen

STOP_SECONDS = 10.0


class ProtocolWithTransport(HttpToolsProtocol):
    """Leaves the connection in the scope, so that a fault can reset it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = {TRANSPORT: self.transport}


def server_of(sandbox: Sandbox) -> uvicorn.Server:
    """A quiet, fast server."""
    config = uvicorn.Config(
        sandbox,
        loop="uvloop",
        http=ProtocolWithTransport,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def run(sandbox: Sandbox, server: uvicorn.Server, listening: socket.socket) -> None:
    """Serves until the server is asked to exit."""

    async def work() -> None:
        await sandbox.start()
        try:
            await server.serve(sockets=[listening])
        finally:
            await sandbox.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


def serve(config: SandboxConfig, *, host: str = "127.0.0.1", port: int) -> None:
    """Serves until SIGINT or SIGTERM; prints one line, the URL of the API."""
    listening, sandbox = listen(host, port), Sandbox(config)
    sys.stdout.write(f"{address_of(listening)}{BASE_PATH}\n")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        run(sandbox, server_of(sandbox), listening)


class BackgroundSandbox:
    """`with BackgroundSandbox(config) as sandbox:` serves at `sandbox.url` (the API) on a port of this machine, a free one
    by default, in a process of its own, which ends with the block, and also when this process dies in any way, SIGKILL
    included."""

    def __init__(self, config: SandboxConfig, *, port: int = 0) -> None:
        self.config, self._port = config, port
        self.root = ""
        self._child: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The base URL of the API, for the client."""
        return self.root + BASE_PATH

    @property
    def control_url(self) -> str:
        """The base URL of the controls."""
        return self.root + "/__sandbox"

    @property
    def pid(self) -> int | None:
        """The process it runs in; None outside the block."""
        return self._child.pid if self._child else None

    @property
    def died(self) -> bool:
        """Whether its process has ended though nothing here stopped it."""
        return self._child is not None and self._child.poll() is not None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "midas_pipelines.sandbox.background"]
        self._child = child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdin is not None
        assert child.stdout is not None
        order = {"config": dataclasses.asdict(self.config), "port": self._port}
        child.stdin.write(f"{json.dumps(order)}\n")
        child.stdin.flush()  # it stays open as long as this process
        url = child.stdout.readline().strip()
        if not url:
            self.__exit__()
            raise RuntimeError("the sandbox's process did not start; its output is above")
        self.root = url.removesuffix(BASE_PATH)
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
        with self._child:  # closes the pipes and waits
            self._child = None


def die_with_parent() -> None:
    """Ends this process when its parent's end of the pipe is closed, however it died. Runs in a thread of its own."""
    os.read(0, 1)
    os._exit(0)  # no cleanup: each change is already written


def main() -> None:
    """The child: reads what to serve from standard input, and serves it."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=die_with_parent, daemon=True).start()
    serve(SandboxConfig(**order["config"]), port=order["port"])


if __name__ == "__main__":
    main()
