"""`midas step-worker`: executes steps that the Celery executor hands out."""

from __future__ import annotations

import sys

import click

from midas_pipelines.settings import SettingsError, load_settings


@click.command(name="step-worker")
@click.option("--concurrency", default=1, show_default=True, help="Steps at once, each in its own process.")
@click.option("--name", default=None, help="A name that no other worker has; made up if not given.")
def step_worker(concurrency: int, name: str | None) -> None:
    """Execute steps for runs of the Celery executor until it is stopped; start as many as there are machines.

    \b
    Needs the same settings as Dagster's daemon, and beside them:
      MIDAS_EXECUTOR=celery
      MIDAS_CELERY_BROKER   redis://host/0, or sqla+postgresql+psycopg://user:password@host/celery
      MIDAS_CELERY_BACKEND  redis://host/0, or db+postgresql+psycopg://user:password@host/celery
    """
    settings = load_settings()
    if settings.executor != "celery":
        raise SettingsError("MIDAS_EXECUTOR is not celery: no step would ever be handed to a worker.")
    from midas_pipelines.lib.executors import make_celery  # with dagster, takes seconds to load

    app = make_celery(settings)
    arguments = ["worker", f"--concurrency={concurrency}", "--queues=dagster", "--loglevel=info"]
    app.worker_main([*arguments, *([f"--hostname={name}@%h"] if name else []), "--without-gossip"])
    sys.exit(0)
