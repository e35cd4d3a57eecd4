"""Commands beside a running `midas dev` or demo, and what dev watches."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from midas_pipelines.cli.local import dev
from midas_pipelines.cli.local.dev import Children, Part
from midas_pipelines.cli.local.workplace import Workplace
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.settings import load_settings
from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.notify.conftest import free_port


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


def test_dev_and_the_commands_beside_it_know_the_port_of_its_gateway(
    midas: Midas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> None:
        raise click.ClickException(f"The doctor asks port {load_settings().gateway_port}.")

    monkeypatch.setattr(dev, "doctor_report", look)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("os.environ", dict(os.environ))
    names = ("--port", "--sandbox-port", "--gateway-port")
    ports = {name: str(free_port()) for name in names}
    ended = midas("dev", "--shoppers", "0", *(part for pair in ports.items() for part in pair))
    assert f"The doctor asks port {ports['--gateway-port']}." in ended.errors


def test_a_part_is_ready_once_its_page_shows_the_text_and_says_when_it_has_ended(tmp_path: Path) -> None:
    answers = [b"{}", b"{}", b"full_sync"]

    class Webserver(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers.pop(0))

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Webserver) as server, Children() as children:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        child = children.start(["sleep", "60"], tmp_path / "log")
        part = Part("It", f"http://127.0.0.1:{server.server_port}", "full_sync", tmp_path / "log", child)
        part.wait_until_ready(threading.Event())
        assert answers == []
        server.shutdown()
    assert child.poll() is not None
    with pytest.raises(click.ClickException, match="It ended unexpectedly; see"):
        part.require_alive()


def test_a_sandbox_that_was_killed_is_noticed() -> None:
    with BackgroundSandbox(SandboxConfig()) as sandbox:
        assert not sandbox.died
        assert sandbox._child is not None
        sandbox._child.kill()
        sandbox._child.wait()
        assert sandbox.died
