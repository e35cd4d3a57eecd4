"""What loading the definitions costs every Dagster process."""

from __future__ import annotations

import subprocess
import sys

ENGINE = [
    "sqlalchemy",
    "httpx",
    "midas_pipelines.sync.context",
    "midas_pipelines.fourseller.client",
    "pandas",
]


def test_the_definitions_load_without_the_engine() -> None:
    statement = (
        f"import midas_pipelines.definitions, sys; print([name for name in {ENGINE} if name in sys.modules])"
    )
    command = [sys.executable, "-c", statement]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "[]\n"
