"""The command line as a user runs it: a process of its own, with an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from midas_pipelines_tests.sync.conftest import background_sandbox, world  # noqa: F401 - fixtures
from midas_pipelines_tests.sync.world import World

COMMAND = "from midas_pipelines.cli import main; main()"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object that it printed."""
        found: dict[str, Any] = json.loads(self.output)
        return found


Midas = Callable[..., Ended]


@pytest.fixture
def midas(tmp_path: Path) -> Midas:
    """Runs `midas` with the arguments, and with nothing in the environment but what the test names."""

    def run(*arguments: str, **environment: str) -> Ended:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments],
            env=kept | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def settings(world: World) -> dict[str, str]:  # noqa: F811
    """The environment of an operator with a shop and the sandbox."""
    return {
        "MIDAS_DATABASE_URL": world.database.engine.url.render_as_string(hide_password=False),
        "FOURSELLER_API_URL": world.background.url,
        "FOURSELLER_API_KEY": world.background.config.api_key,
        "FOURSELLER_SELLER_ID": world.background.config.seller_id,
    }
