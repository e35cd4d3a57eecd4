"""`midas incident`: lock, unlock, and collect evidence. What to do when is in docs/incident.md."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from midas_pipelines.cli.audited import Changing, actor
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json
from midas_pipelines.cli.terminal import say
from midas_pipelines.errors import WrongInput
from midas_pipelines.recovery import incident as incidents


@click.group()
def incident() -> None:
    """Lock everything but the import of orders, and pack evidence; docs/incident.md says what to do when."""


@incident.command(cls=Changing)
@click.option("--because", required=True, metavar="TEXT", help="What happened, without any name.")
@json_option
def lock(because: str, as_json: bool) -> None:
    """Revoke every key and stop all pushes to 4Seller; orders are imported as ever."""
    with shop_database() as (settings, database), database.writing() as connection:
        revoked = incidents.lock_system(connection, because=because, by=actor(settings))
    if as_json:
        print_json({"locked": True, "revoked": revoked})
    else:
        say(
            f"Locked: {revoked} keys are revoked and nothing is pushed. `midas incident unlock` allows pushes again."
        )


@incident.command(cls=Changing)
@json_option
def unlock(as_json: bool) -> None:
    """Allow pushes again. Revoked keys stay revoked: make new ones with `midas keys create`."""
    with shop_database() as (_, database), database.writing() as connection:
        ended = incidents.unlock_system(connection)
    if as_json:
        print_json({"unlocked": ended})
    else:
        say(
            "Pushes are allowed again. Make new keys with `midas keys create`."
            if ended
            else "Nothing was locked."
        )


@incident.command(cls=Changing)
@click.option("--since", required=True, type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), help="UTC.")
@click.option("--to", "file", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@json_option
def collect(since: datetime, file: Path | None, as_json: bool) -> None:
    """Pack audit log, refused calls, keys, settings without secrets, versions and errors, encrypted as backups are."""
    target = file or Path(f"incident-{datetime.now(UTC):%Y%m%dT%H%M%S}.tar.gz.age")
    with shop_database() as (settings, database):
        try:
            found = incidents.collect(settings, database, since.replace(tzinfo=UTC), target)
        except OSError as failed:
            raise WrongInput(f"{target} cannot be written: {failed.strerror}.") from None
    if as_json:
        print_json({"file": str(target), "rows": found})
    else:
        say(f"{target}: {', '.join(f'{count} in {name}' for name, count in found.items())}.")
        say(f"Open it with `age -d -i IDENTITY {target} | tar xz`.")
