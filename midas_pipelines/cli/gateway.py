"""`midas gateway` and `midas worker`: webhooks and changes in real time."""

from __future__ import annotations

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.gateway import server
from midas_pipelines.gateway.service import Service
from midas_pipelines.notify.delivery import require_understood
from midas_pipelines.settings import Settings, SettingsError
from midas_pipelines.sockets import address_of, listen
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.version import require_columns


@click.command()
@click.option("--host", help="Address to listen on; MIDAS_GATEWAY_HOST, else 127.0.0.1.")
@click.option("--port", type=int, help="Port to listen on, 0 for a free one; MIDAS_GATEWAY_PORT, else 8700.")
@click.option("--worker/--no-worker", default=True, help="Whether this process also applies and pushes.")
def gateway(host: str | None, port: int | None, worker: bool) -> None:
    """Serve webhooks and the shop's calls, and push changes as they happen. Ctrl-C finishes what is under way.

    Several may run on one database. Without a key of `midas keys create` it accepts no calls, and listens
    on this machine only. The API is described at /docs.
    """
    with shop_database() as (settings, database):
        service = _service(settings, database, worker=worker)
        address = host or settings.gateway_host
        server.require_keys(service, address)
        try:
            listening = listen(address, settings.gateway_port if port is None else port)
        except OSError as taken:
            raise click.ClickException(
                f"Cannot listen on {address}:{port or settings.gateway_port}: {taken.strerror or taken}."
            ) from None
        click.echo(f"The gateway listens at {address_of(listening)}; its API is described at /docs.")
        server.serve(service, listening)


@click.command()
def worker() -> None:
    """Work off webhooks and changes beside a gateway, without serving HTTP. Ctrl-C finishes what is under way."""
    with shop_database() as (settings, database):
        service = _service(settings, database, worker=True)
        click.echo("The worker is at work.")
        server.work(service)


def _service(settings: Settings, database: Database, *, worker: bool) -> Service:
    require_understood(settings.notify_urls)
    database.read(require_columns)
    if worker:
        settings.channel()  # fails early when something is not set
    try:
        return Service(settings, database, with_worker=worker)
    except ValueError as wrong:
        raise SettingsError(str(wrong)) from None
