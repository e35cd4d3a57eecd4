"""Commands beside a running `midas dev` or demo, and what dev watches."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from midas_pipelines.cli.local.workplace import Workplace
from midas_pipelines.gateway.dagster_launcher import DagsterLauncher
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines_tests.cli.conftest import Midas


def test_a_command_uses_the_workplace_that_is_held_and_no_other(
    midas: Midas, midas_process: Midas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Workplace(tmp_path / ".midas")
    with place.held():
        with monkeypatch.context() as of_dev:
            of_dev.setattr("os.environ", {"MIDAS_SCHEDULES": "true"})
            place.enter("http://127.0.0.1:9/v1")
        kept = place.root / "environment.json"
        assert kept.stat().st_mode & 0o077 == 0
        joined = midas_process("store", "seed", "--products", "3", "--json")
        assert joined.json["items_added"] == 3
        assert f"Using the sample shop that runs in {place.root}" in joined.errors
        assert place.shop.exists()
        own = midas("status", MIDAS_DATABASE_URL=f"sqlite:///{tmp_path / 'mine.db'}")
        assert "Using" not in own.errors
        left = kept.read_text()
    assert not kept.exists()
    kept.write_text(left)  # as of a dev that was killed
    idle = " ".join(midas("status").errors.split())
    assert "MIDAS_DATABASE_URL is not set" in idle
    assert "`midas dev` starts the sample shop in .midas" in idle


BROKEN = "dagster._core.errors.DagsterImportError: No module named 'x'. Local modules were resolved using\n"
CAUSE = {"message": "ValueError: no such job\n"}
LOCATIONS = [
    ({"loadStatus": "LOADING", "locationOrLoadError": None}, None),
    ({"loadStatus": "LOADED", "locationOrLoadError": {}}, []),
    (
        {"loadStatus": "LOADED", "locationOrLoadError": {"message": BROKEN, "causes": []}},
        ["Dagster could not load midas_pipelines: No module named 'x'."],
    ),
    (
        {"loadStatus": "LOADED", "locationOrLoadError": {"message": "Loading\nmodule=x", "causes": [CAUSE]}},
        ["Dagster could not load midas_pipelines: ValueError: no such job."],
    ),
]


@pytest.mark.parametrize(("entry", "expected"), LOCATIONS, ids=["loading", "loaded", "broken", "caused"])
def test_what_dagster_says_of_its_code_location(entry: dict[str, object], expected: list[str] | None) -> None:
    workspace = {"locationEntries": [{"name": "midas_pipelines"} | entry]}
    answer = json.dumps({"data": {"workspaceOrError": workspace}}).encode()

    class Webserver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    async def ask(url: str) -> list[str] | None:
        dagster = DagsterLauncher(url)
        try:
            return await dagster.load_errors()
        finally:
            await dagster.close()

    with HTTPServer(("127.0.0.1", 0), Webserver) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert asyncio.run(ask(f"http://127.0.0.1:{server.server_port}")) == expected


def test_a_sandbox_that_was_killed_is_noticed() -> None:
    with BackgroundSandbox(process=True) as sandbox:
        assert not sandbox.died
        assert sandbox._child is not None
        sandbox._child.kill()
        sandbox._child.wait()
        assert sandbox.died
