"""A command starts with no more than it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.world import World

HEAVY = {
    "dagster",
    "pandas",
    "pyarrow",
    "fastapi",
    "httpx",
    "aiohttp",
    "alembic",
    "cryptography",
    "starlette",
}
OTHERS = {"psycopg", "sqlalchemy.dialects.postgresql", "pydantic_settings", "rapidfuzz"}
"""What a command on SQLite does without."""
RUN = """
import sys
from midas_pipelines.cli import main
try:
    main()
finally:
    print(" ".join(sys.modules), file=sys.stderr)
"""


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        (["--help"], HEAVY | {"sqlalchemy", "pydantic", "rich"}),
        (["status"], HEAVY | OTHERS),
        (["explain", "A"], HEAVY | OTHERS),
    ],
)
def test_a_command_loads_nothing_that_it_does_not_need(
    world: World, settings: dict[str, str], command: list[str], unneeded: set[str]
) -> None:
    add_product(world.database, sku="A", stock_quantity=3)
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *command], env=settings, capture_output=True, text=True, check=True
    )
    assert set(ended.stderr.split()) & unneeded == set()
