"""`midas dev`: the whole system for one person, in the foreground, until Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import click
import httpx

from midas_pipelines.cli.dagster.instance import limit_pools, shipped
from midas_pipelines.cli.local.beside import WORKPLACE
from midas_pipelines.cli.local.workplace import Workplace, make_shop, workplace_option
from midas_pipelines.lib.doctor.report import doctor_report
from midas_pipelines.sockets import listen
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.keys import (
    LINK,
    Caller,
    Role,
    create_key,
    issue_token,
    list_keys,
    revoke_key,
)

READY_SECONDS = 120
ORDERS_KEPT = timedelta(days=30)  # days of orders that a sample shop keeps

JOBS = "{repositoriesOrError{...on RepositoryConnection{nodes{jobs{name}}}}}"
"""Asks Dagster for what it has loaded: no job, until its code location is there."""

KEY_NAME = "midas dev"
LINK_MINUTES = 12 * 60  # how long the link into the console waits for its one use


@dataclass
class Part:
    """A process of the whole; it is ready once the page at `url` shows `text`."""

    name: str
    url: str
    text: str
    log: Path
    child: subprocess.Popen[bytes]

    def wait_until_ready(self, stop: threading.Event) -> None:
        """Returns when it is ready, or `stop` is set. Raises click.ClickException when it does not begin."""
        deadline = time.monotonic() + READY_SECONDS
        while not stop.wait(0.3):
            self.require_alive()
            with suppress(httpx.HTTPError):
                if self.text in httpx.get(self.url, timeout=2.0).text:
                    return
            if time.monotonic() > deadline:
                words = f"{self.name} was not ready after {READY_SECONDS} s"
                raise click.ClickException(f"{words}; see {self.log}.")

    def require_alive(self) -> None:
        """Raises click.ClickException when it has ended."""
        if self.child.poll() is not None:
            raise click.ClickException(f"{self.name} ended unexpectedly; see {self.log}.")


@click.command()
@workplace_option
@click.option("--port", default=3000, help="Port of the Dagster UI.")
@click.option("--sandbox-port", default=4400, help="Port of the sandbox.")
@click.option("--gateway-port", default=8700, help="Port of the gateway.")
@click.option("--shoppers", default=0.2, help="Shoppers' actions a second; 0 for none.")
def dev(workplace: Path, port: int, sandbox_port: int, gateway_port: int, shoppers: float) -> None:
    """Run everything on this machine: sandbox with shoppers, gateway, schedules, Dagster UI. Ctrl-C stops all of it.

    Works on a sample shop in the workplace folder and never on the database that MIDAS_DATABASE_URL names.
    """
    place = Workplace(workplace)
    with place.held():
        place.prepare()
        _require_free(port, "--port")
        _require_free(sandbox_port, "--sandbox-port")
        _require_free(gateway_port, "--gateway-port")
        _run(place, port, sandbox_port, gateway_port, shoppers)


def _run(place: Workplace, port: int, sandbox_port: int, gateway_port: int, shoppers: float) -> None:
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: stop.set())
    gateway_url, dagster_url = f"http://127.0.0.1:{gateway_port}", f"http://127.0.0.1:{port}"
    hooks = {"webhook_url": f"{gateway_url}/api/marketplace/webhooks", "webhook_secret": place.webhook_secret}
    made = place.sandbox(port=sandbox_port, shoppers_rate=shoppers, **hooks)
    with made as sandbox, Children() as children:
        os.environ.setdefault("MIDAS_ORDERS_SINCE", (datetime.now(UTC) - ORDERS_KEPT).date().isoformat())
        os.environ |= {
            "MIDAS_SCHEDULES": "true",
            "PYTHONWARNINGS": "ignore:Function `dev_command` is superseded",  # `dg dev` is no part of what is installed
            "MIDAS_DAGSTER_URL": dagster_url,
            "MIDAS_CONSOLE_URL": gateway_url,
            "MIDAS_GATEWAY_PORT": str(gateway_port),
            "MIDAS_FOURSELLER_PAGE": sandbox.root + "/?id={fourseller_id}",
            "MIDAS_FOURSELLER_ORDER_PAGE": sandbox.root + "/?order={order}",
        }
        settings = place.enter(sandbox.url)
        with Database(settings.database(), settings.limits("bulk")) as database:
            make_shop(database)
            caller, key = _new_key(database)
            link = database.write(issue_token, LINK, caller, seconds=LINK_MINUTES * 60)
        limit_pools(settings)
        for line in doctor_report():
            if line.state == "wrong":
                click.echo(f"Doctor: {line.check} is wrong. {line.found} {line.next_step}", err=True)
        dagster = [_script("dagster"), "dev", "-w", str(shipped("workspace.yaml")), "-h", "127.0.0.1"]
        parts = []
        for title, url, text, command in (
            ("The gateway", f"{gateway_url}/readyz", "ready", [_script("midas"), "gateway"]),
            ("Dagster", f"{dagster_url}/graphql?query={JOBS}", "full_sync", [*dagster, "-p", str(port)]),
        ):
            log = place.root / f"{title.split()[-1].lower()}.log"
            click.echo(f"Starting {title} (its log is {log}) ...")
            parts.append(Part(title, url, text, log, children.start(command, log)))
        for part in parts:
            part.wait_until_ready(stop)
        if not stop.is_set():
            click.echo(f"  Dagster UI  {dagster_url}")
            click.echo(f"  4Seller     {sandbox.root}/ (sandbox)")
            click.echo(f"  Console     {gateway_url}/sign-in?link={link}")
            click.echo(f"              (signs you in once; then {gateway_url}/ and the key below)")
            click.echo(f"  API         {gateway_url}/docs")
            click.echo(f"  API key     {key}")
            click.echo(f"  The shop    {place.shop}")
            if place.root == Path(WORKPLACE):
                click.echo("  midas       other commands in this folder use this shop: try `midas status`")
            click.echo("Everything runs; the schedules are on. Ctrl-C stops all of it.")
        while not stop.wait(0.5):
            for part in parts:
                part.require_alive()
            if sandbox.died:
                raise click.ClickException("The sandbox ended unexpectedly: start `midas dev` again.")
        click.echo("Stopping ...")
    click.echo("Everything is stopped.")


def _new_key(database: Database) -> tuple[Caller, str]:
    """A key for this start; the last start's ends."""
    with database.writing() as connection:
        for row in list_keys(connection):
            if row["name"] == KEY_NAME and row["state"] == "valid":
                revoke_key(connection, row["key_id"])
        return create_key(connection, name=KEY_NAME, role=Role.ADMIN)


def _script(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _require_free(port: int, option: str) -> None:
    try:
        listen("127.0.0.1", port).close()
    except OSError:
        raise click.ClickException(f"Port {port} is taken: choose another with {option}.") from None


GRACE_SECONDS = 20.0
PR_SET_PDEATHSIG = 1


class Children:
    """A context that stops the processes started in it, each with the group that it leads."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGINT)
        for child in self._started:
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_SECONDS)
        self._signal(signal.SIGKILL)  # what they left, such as runs

    def start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Starts a command in a group of its own, its output going to `log`; a terminal's Ctrl-C does not reach it."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self._started.append(child)
        return child

    def _signal(self, number: int) -> None:
        for child in self._started:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, number)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
