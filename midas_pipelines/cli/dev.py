"""`midas dev`: the whole system for one person, in the foreground, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import httpx

from midas_pipelines.cli.dagster_home import limit_pools
from midas_pipelines.cli.processes import Children
from midas_pipelines.cli.workplace import API_KEY, SELLER_ID, Workplace, workplace_option
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.store import migrate
from midas_pipelines.store.database import Database
from midas_pipelines.storefront import sample

READY_SECONDS = 120


@click.command()
@workplace_option
@click.option("--port", default=3000, show_default=True, help="Port of the Dagster UI.")
@click.option("--sandbox-port", default=4400, show_default=True, help="Port of the sandbox.")
@click.option("--shoppers", default=0.2, show_default=True, help="Shoppers' actions a second; 0 for none.")
def dev(workplace: Path, port: int, sandbox_port: int, shoppers: float) -> None:
    """Run everything on this machine: sandbox with shoppers, schedules, Dagster UI. Ctrl-C stops all of it.

    Works on a sample shop in the workplace folder and never on the database that MIDAS_DATABASE_URL names.
    """
    place = Workplace(workplace)
    with place.held():
        place.prepare()
        _require_free(port, "--port")
        _require_free(sandbox_port, "--sandbox-port")
        _run(place, port, sandbox_port, shoppers)


def _run(place: Workplace, port: int, sandbox_port: int, shoppers: float) -> None:
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: stop.set())
    config = SandboxConfig(
        api_key=API_KEY,
        seller_id=SELLER_ID,
        latency_ms=20.0,
        state_file=str(place.sandbox_state),
        shoppers_rate=shoppers,
    )
    with BackgroundSandbox(config, process=True, port=sandbox_port) as sandbox, Children() as children:
        os.environ["MIDAS_SCHEDULES"] = "true"
        settings = place.enter(sandbox.url)
        with Database(settings.database()) as database:
            _seed(database)
        limit_pools(settings)
        log = place.root / "dagster.log"
        dagster = children.start(_dagster(port), log)
        click.echo(f"Starting Dagster (its log is {log}) ...")
        _wait_until_ready(f"http://127.0.0.1:{port}/server_info", dagster, stop, log)
        if not stop.is_set():
            click.echo(f"  Dagster UI  http://127.0.0.1:{port}")
            click.echo(f"  4Seller     {sandbox.root}/ (sandbox)")
            click.echo(f"  The shop    {place.shop}")
            click.echo("Everything runs; the schedules are on. Ctrl-C stops all of it.")
        while not stop.wait(0.5):
            if dagster.poll() is not None:
                raise click.ClickException(f"Dagster ended by itself; its last words are in {log}.")
        click.echo("Stopping ...")
    click.echo("Everything is stopped.")


def _seed(database: Database) -> None:
    with database.writing() as connection:
        sample.create_shop_tables(connection)
        sample.seed_shop(connection)
    migrate.upgrade(database)


def _dagster(port: int) -> list[str]:
    # The module rather than a workspace file: works from any folder. dagster's script stands beside our python.
    dagster = Path(sys.executable).parent / "dagster"
    return [str(dagster), "dev", "-m", "midas_pipelines.definitions", "-h", "127.0.0.1", "-p", str(port)]


def _wait_until_ready(url: str, dagster: subprocess.Popen[bytes], stop: threading.Event, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not stop.wait(0.3):
        if dagster.poll() is not None:
            raise click.ClickException(f"Dagster did not start; why is in {log}.")
        try:
            if httpx.get(url, timeout=2.0).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise click.ClickException(f"Dagster was not ready after {READY_SECONDS} s; see {log}.")


def _require_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise click.ClickException(f"Port {port} is taken: choose another with {option}.") from None
