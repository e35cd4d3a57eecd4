"""Dagster's own settings in DAGSTER_HOME: which file it gets, and the limits that live in its storage."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from midas_pipelines.settings import Settings

DAGSTER_SETTINGS = Path(__file__).parents[2] / "dagster.yaml"
"""The repository's `dagster.yaml` is a link to this file, so that the installed package has it too."""

ON_POSTGRESQL = """
# Dagster's history: runs, events, schedules. The password stays in the environment.
storage:
  postgres:
    postgres_url:
      env: MIDAS_DAGSTER_POSTGRES_URL
"""

PRODUCT_POOL = "listings"


def dagster_yaml(settings: Settings) -> str:
    """The text of `dagster.yaml`: YAML cannot choose by the environment, so it is written for it."""
    longest = f"max_runtime_seconds: {settings.longest_run_minutes * 60}"
    text = re.sub(r"max_runtime_seconds: \d+", longest, DAGSTER_SETTINGS.read_text())
    return text + ON_POSTGRESQL if settings.dagster_postgres_url is not None else text


def write_dagster_yaml(home: Path, settings: Settings) -> Path:
    """Makes the folder, for this user alone, and writes the file into it."""
    home.mkdir(parents=True, exist_ok=True)
    with suppress(
        PermissionError
    ):  # a folder of another user, such as a mounted volume, is that user's to guard
        home.chmod(0o700)
    path = home / "dagster.yaml"
    path.write_text(dagster_yaml(settings))
    return path


def limit_pools(settings: Settings) -> None:
    """Lets as many product syncs run at once as the settings say; of all else the default, one. DAGSTER_HOME must be set."""
    import dagster as dg  # takes a second to load

    with dg.DagsterInstance.get() as instance:
        instance.event_log_storage.set_concurrency_slots(PRODUCT_POOL, settings.shards_at_once)
