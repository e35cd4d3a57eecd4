"""What loading the definitions costs every Dagster process."""

from __future__ import annotations

import subprocess
import sys

import pytest

ENGINE = [
    "sqlalchemy",
    "httpx",
    "midas_pipelines.sync.context",
    "midas_pipelines.fourseller.client",
    "pandas",
]


@pytest.mark.parametrize("module", ENGINE)
def test_the_definitions_load_without_the_engine(module: str) -> None:
    statement = f"import midas_pipelines.definitions, sys; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", statement], timeout=60, check=False).returncode == 0
