"""What loading the definitions costs every Dagster process, and that what it left out can be had."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from midas_pipelines.definitions import defs
from midas_pipelines.lib import engine

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


def test_each_name_of_the_engine_is_where_its_import_says() -> None:
    for name in engine._modules():
        assert getattr(engine, name) is not None
    with pytest.raises(AttributeError, match="add its import"):
        _ = engine.nothing_of_this_name  # type: ignore[attr-defined]


def test_dagster_accepts_the_definitions_as_a_whole() -> None:
    dg.Definitions.validate_loadable(defs)
