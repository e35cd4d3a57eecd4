"""The command line as a user runs it, with an environment of its own."""

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
from click.testing import CliRunner

from midas_pipelines.cli import main
from midas_pipelines_tests.sync.conftest import background_sandbox, world  # noqa: F401 - fixtures
from midas_pipelines_tests.sync.world import World

KEPT = {"PATH", "HOME", "PYTHONPATH", "MIDAS_STATE_FOLDER"}
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
def midas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Midas:
    """Runs `midas` with the arguments in this process, with nothing in the environment but what the test names."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **environment: str) -> Ended:
        cleared = dict.fromkeys(set(os.environ) - KEPT)
        umask = os.umask(0o022)
        with (
            monkeypatch.context() as patched,
            CliRunner().isolation(env=cleared | environment) as (output, errors, _),
        ):
            patched.setattr(sys, "argv", ["midas", *arguments])
            try:
                with pytest.raises(SystemExit) as ended:
                    main()
            finally:
                os.umask(umask)
            return Ended(int(ended.value.code or 0), output.getvalue().decode(), errors.getvalue().decode())

    return run


@pytest.fixture
def midas_process(tmp_path: Path) -> Midas:
    """As `midas`, in a process of its own: for what a process of ours must do."""

    def run(*arguments: str, **environment: str) -> Ended:
        kept = {name: os.environ[name] for name in KEPT & set(os.environ)}
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments],
            env=kept | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def settings(world: World, tmp_path: Path) -> dict[str, str]:  # noqa: F811
    """The environment of an operator with a shop and the sandbox."""
    return {
        "MIDAS_DATABASE_URL": world.database.engine.url.render_as_string(hide_password=False),
        "FOURSELLER_API_URL": world.background.url,
        "FOURSELLER_API_KEY": world.background.config.api_key,
        "FOURSELLER_SELLER_ID": world.background.config.seller_id,
        "MIDAS_SNAPSHOTS": str(tmp_path / "snapshots"),
    }
