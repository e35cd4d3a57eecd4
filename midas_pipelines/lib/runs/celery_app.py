"""The Celery application of our workers: Dagster's one task, at the addresses of the settings."""

from typing import Any

import dagster_celery.make_app as application
import dagster_celery.tasks as tasks

from midas_pipelines.lib.runs.executors import celery_config
from midas_pipelines.settings import Settings


def make_celery(settings: Settings) -> Any:
    """The application with its task, ready to work. Raises SettingsError when an address is missing."""
    app = application.make_app(celery_config(settings))  # type: ignore[no-untyped-call]
    tasks.create_task(app)  # type: ignore[no-untyped-call]
    return app
