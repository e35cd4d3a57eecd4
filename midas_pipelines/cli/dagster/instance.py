"""`midas instance` and `midas step-worker`: Dagster's own settings in DAGSTER_HOME, its limits, and Celery's workers."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from midas_pipelines.cli.printing import AnsweringGroup, answer
from midas_pipelines.settings import Settings, SettingsError, load_settings
from midas_pipelines.workflows import WORKFLOWS, pool_of

PACKAGE = Path(__file__).parents[2]
"""In a clone `dagster.yaml` and `workspace.yaml` are beside this folder; a wheel has them inside."""

ON_POSTGRESQL = """
# Dagster's history: runs, events, schedules. The password stays in the environment.
storage:
  postgres:
    postgres_url:
      env: MIDAS_DAGSTER_POSTGRES_URL
"""

ON_CELERY = """
# Runs are executed by `midas step-worker`; the addresses of the queue stay in the environment.
run_launcher:
  module: dagster_celery.launcher
  class: CeleryRunLauncher
  config:
    broker:
      env: MIDAS_CELERY_BROKER
    backend:
      env: MIDAS_CELERY_BACKEND
"""


def dagster_yaml(settings: Settings) -> str:
    """The text of `dagster.yaml`: YAML cannot choose by the environment, so it is written for it."""
    longest = f"\\1 {settings.longest_run_minutes * 60}"
    text = re.sub(r"(max_runtime_seconds:) \d+", longest, shipped("dagster.yaml").read_text())
    most = f"\\1 {max(6, settings.shards_at_once + 2)}"  # two for all else
    text = re.sub(r"(max_concurrent_runs:) \d+", most, text)
    if settings.executor == "celery":
        settings.queue()  # a run may wait there for a worker
        text = re.sub(r"(start_timeout_seconds:) \d+", longest, text) + ON_CELERY
    return text + ON_POSTGRESQL if settings.dagster_postgres_url is not None else text


def shipped(name: str) -> Path:
    """A file of Dagster's that the project ships: `dagster.yaml` or `workspace.yaml`."""
    return next(place for folder in (PACKAGE.parent, PACKAGE) if (place := folder / name).exists())


def write_dagster_yaml(home: Path, settings: Settings) -> Path:
    """Makes the folder, for this user alone, and writes the file into it."""
    home.mkdir(parents=True, exist_ok=True)
    with suppress(
        PermissionError
    ):  # another user's folder, such as a mounted volume, is that user's to guard
        home.chmod(0o700)
    path = home / "dagster.yaml"
    path.write_text(dagster_yaml(settings))
    return path


def limit_pools(settings: Settings) -> None:
    """Lets as many product syncs run at once as the settings say; of all else the default, one. DAGSTER_HOME must be set."""
    import dagster as dg  # takes a second to load

    with dg.DagsterInstance.get() as instance:
        for workflow in (one for one in WORKFLOWS if one.at_once):
            slots = getattr(settings, str(workflow.at_once))
            instance.event_log_storage.set_concurrency_slots(pool_of(workflow.makes[-1]), slots)


@click.group(cls=AnsweringGroup)
def instance() -> None:
    """Prepare what Dagster itself needs: its settings in DAGSTER_HOME, and its storage."""


@instance.command()
def prepare() -> None:
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
    storage = "PostgreSQL" if settings.dagster_postgres_url is not None else "SQLite"
    most = settings.shards_at_once
    answer(
        {"file": str(path), "storage": storage.lower(), "product_syncs_at_once": most},
        f"{path}: Dagster keeps its history in {storage}.",
        f"Up to {most} product syncs at once, one run of each other workflow.",
    )


@click.command(name="step-worker")
@click.option("--concurrency", default=1, help="Runs at once, each in its own process.")
@click.option("--name", default=None, help="A name that no other worker has; made up if not given.")
def step_worker(concurrency: int, name: str | None) -> None:
    """Execute runs from the Celery queue until it is stopped; start as many as there are processors.

    \b
    Needs a DAGSTER_HOME of `midas instance prepare`, the same settings as Dagster's daemon, and beside them:
      MIDAS_EXECUTOR=celery
      MIDAS_CELERY_BROKER   redis://host/0, or sqla+postgresql+psycopg://user:password@host/celery
      MIDAS_CELERY_BACKEND  redis://host/0, or db+postgresql+psycopg://user:password@host/celery
    """
    settings = load_settings()
    if settings.executor != "celery":
        raise SettingsError("MIDAS_EXECUTOR is not celery: no run would ever be handed to a worker.")
    import midas_pipelines.definitions  # noqa: F401 - loaded once, before Celery forks the processes of its pool

    app = make_celery(settings)
    arguments = ["worker", f"--concurrency={concurrency}", "--queues=dagster", "--loglevel=info"]
    app.worker_main([*arguments, *([f"--hostname={name}@%h"] if name else []), "--without-gossip"])
    sys.exit(0)


def make_celery(settings: Settings) -> Any:
    """The Celery application of our workers, with Dagster's tasks: to execute a run, and to resume one.

    A run is confirmed when it has ended, so that no worker holds a second one back. One whose process died fails, and
    Dagster tries it again. Raises SettingsError where an address or the package is missing.
    """
    broker, backend = settings.queue()
    try:
        import dagster_celery.make_app as application
        import dagster_celery.tasks as tasks
    except ImportError:
        raise SettingsError(
            "MIDAS_EXECUTOR is celery, and the package dagster-celery is not installed: "
            "install midas-pipelines[celery]."
        ) from None
    config = {"task_acks_late": True, "worker_prefetch_multiplier": 1}
    app = application.make_app({"broker": broker, "backend": backend, "config_source": config})  # type: ignore[no-untyped-call]
    tasks.create_execute_job_task(app)
    tasks.create_resume_job_task(app)
    return app
