"""Runs the gateway, or only a worker, in the foreground until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

import uvicorn
import uvloop

from midas_pipelines.errors import ExpectedError
from midas_pipelines.gateway.api.limits import PatientProtocol
from midas_pipelines.gateway.app import create_app
from midas_pipelines.gateway.service import Service
from midas_pipelines.setting_checks import is_this_machine
from midas_pipelines.settings import SettingsError
from midas_pipelines.store.gateway.keys import any_valid_key

STOP_SECONDS = 25

SWITCH_SECONDS = 0.0005
"""How long a thread may run Python while the event loop waits to: with Python's own 5 ms, each step of a call waits for
that time once for every busy thread of the worker."""

log = logging.getLogger(__name__)


def require_keys(service: Service, host: str) -> None:
    """Raises SettingsError when other machines could reach the gateway and no key exists."""
    with service.database.reading() as connection:
        if not (host and is_this_machine(host)) and not any_valid_key(connection):
            raise SettingsError(
                f"The gateway would listen on {host}, where others can reach it, and there is no API key: "
                "make one with `midas keys create --role operator --name shop`, or listen on 127.0.0.1."
            )


class Server(uvicorn.Server):
    """Exits cleanly on a signal: uvicorn's own server would raise it again afterwards."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles SIGINT and SIGTERM, in a main thread."""
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(name, self.handle_exit, name, None)
        yield


def believed(proxies: str) -> list[str]:
    """The proxies' networks, those of IPv4 also as a socket of both families shows their addresses."""
    networks = [ip_network(text) for text in proxies.split(",") if text]
    both = [f"::ffff:{net.network_address}/{96 + net.prefixlen}" for net in networks if net.version == 4]
    return [*map(str, networks), *both]


def server_of(service: Service) -> uvicorn.Server:
    """The HTTP server over a service."""
    server = Server(
        uvicorn.Config(
            create_app(service),
            loop="uvloop",
            http=PatientProtocol,
            ws="none",
            proxy_headers=bool(service.settings.gateway_proxies),
            forwarded_allow_ips=believed(service.settings.gateway_proxies),
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=STOP_SECONDS,
            backlog=2048,
        )
    )
    service.is_ending = lambda: server.should_exit
    return server


def serve(service: Service, listening: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT. Raises SettingsError where the worker cannot start, ExpectedError where a task of the
    service cannot go on."""
    server = server_of(service)
    _run(service, server.serve(sockets=[listening]), lambda: setattr(server, "should_exit", True))
    if not server.started:
        raise SettingsError("The gateway could not start; see the error above.")


def work(service: Service) -> None:
    """Runs the service's worker without HTTP; ends as `serve` does."""
    stopped = asyncio.Event()

    async def working() -> None:
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stopped.set)
        async with service.running():
            await stopped.wait()

    _run(service, working(), stopped.set)


def _run(service: Service, main: Coroutine[Any, Any, None], end: Callable[[], None]) -> None:
    """Runs until `main` ends, which it is asked to where a task of the service cannot go on."""

    async def end_when_broken() -> None:
        if (problem := await service.supervisor.broken()) is not None:
            log.error("%s This process ends, so that it is started again.", problem)
            # A thread that never returns would keep the process from ending.
            hard = threading.Timer(2 * STOP_SECONDS, os._exit, [1])
            hard.daemon = True
            hard.start()
            end()
            raise ExpectedError(f"{problem} Start the command again.")

    async def supervised() -> None:
        ending = asyncio.create_task(end_when_broken())
        await main
        if ending.done():
            await ending
        ending.cancel()

    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(supervised())
