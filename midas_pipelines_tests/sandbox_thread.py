"""A sandbox in a thread of the test's process, so that a test can look into it."""

from __future__ import annotations

import threading
from typing import Self

from midas_pipelines.sandbox.app import Sandbox
from midas_pipelines.sandbox.background import STOP_SECONDS, BackgroundSandbox, run, server_of
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.sockets import address_of, listen


class SandboxThread(BackgroundSandbox):
    """Serves like `BackgroundSandbox`, over real connections; `app` is the running application."""

    def __init__(self, config: SandboxConfig, *, port: int = 0) -> None:
        super().__init__(config, port=port)
        self.app = Sandbox(config)
        self._server = server_of(self.app)

    def __enter__(self) -> Self:
        listening = listen("127.0.0.1", self._port)
        self.root = address_of(listening)
        work = (self.app, self._server, listening)
        self._thread = threading.Thread(target=run, args=work, name="sandbox", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)
