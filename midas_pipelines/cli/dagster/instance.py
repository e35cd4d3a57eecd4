"""`midas instance`: Dagster's own settings and storage."""

from __future__ import annotations

import os
from pathlib import Path

import click

from midas_pipelines.cli.dagster.home import limit_pools, write_dagster_yaml
from midas_pipelines.cli.printing import json_option, print_json
from midas_pipelines.settings import SettingsError, load_settings


@click.group()
def instance() -> None:
    """Prepare what Dagster itself needs: its settings in DAGSTER_HOME, and its storage."""


@instance.command()
@json_option
def prepare(as_json: bool) -> None:
    """Write dagster.yaml into DAGSTER_HOME and set the limits of runs at once. Run it before Dagster's daemon.

    \b
    Dagster keeps its history
      in PostgreSQL   when MIDAS_DAGSTER_POSTGRES_URL is set, e.g. postgresql://user:password@host/dagster
      in SQLite files below DAGSTER_HOME otherwise.
    """
    settings = load_settings()
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise SettingsError("DAGSTER_HOME is not set: name the folder for Dagster's settings and files.")
    path = write_dagster_yaml(Path(home), settings)
    limit_pools(settings)
    storage = "postgresql" if settings.dagster_postgres_url is not None else "sqlite"
    if as_json:
        print_json({"file": str(path), "storage": storage, "product_syncs_at_once": settings.shards_at_once})
        return
    click.echo(f"{path}: Dagster keeps its history in {'PostgreSQL' if storage != 'sqlite' else 'SQLite'}.")
    click.echo(f"Up to {settings.shards_at_once} product syncs at once, one run of each other workflow.")
