"""Backups to a real S3 server, and backup and restore killed at random points: run again, all is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from moto.server import ThreadedMotoServer

from midas_pipelines.recovery.backup import create_backup, verify_backup
from midas_pipelines.recovery.drill import broken_invariants
from midas_pipelines.recovery.places import backup_place, backups, find_backup, thin_out
from midas_pipelines.recovery.restore import restore_shop
from midas_pipelines.recovery.sealing import identities
from midas_pipelines.store.database import Database
from midas_pipelines_tests.conftest import empty
from midas_pipelines_tests.copies import Copies, connect
from midas_pipelines_tests.shop import rows
from midas_pipelines_tests.sync.world import World

KILLS = 2
COMMAND = "from midas_pipelines.cli import main; main()"


def test_a_bucket_holds_backups_as_a_folder_does(
    safe: World, copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        safe.changes |= {"backup_to": "s3://vault/midas", "backup_s3_url": f"http://{host}:{port}"}
        place = backup_place(safe.settings)
        place.fs.mkdir("vault")
        made = create_backup(safe.settings, safe.database, "ann")
        assert verify_backup(safe.settings, None)[0] == made.name
        folder, manifest = find_backup(place, made.name)
        url = copies.fresh(empty)
        with connect(url) as lost:
            restore_shop(folder, manifest, lost.engine.url, identities(safe.settings.backup_identity_file))
            assert rows(lost, "SELECT sku FROM products ORDER BY sku") == [("A",), ("B",)]
        copies.drop(url)
        (folder / "manifest.json").write_text("{}")
        place.fs.invalidate_cache()
        assert backups(place) == []
        assert thin_out(place, 28) == 0  # it may be in the making still
    finally:
        server.stop()


@pytest.mark.both_databases
def test_backup_and_restore_that_are_killed_leave_all_or_nothing(
    safe: World, copies: Copies, settings: dict[str, str], tmp_path: Path
) -> None:
    with safe.database.writing() as connection:  # enough rows that a kill hits the middle
        connection.exec_driver_sql(
            "INSERT INTO order_processing_logs (marketplace_order_id, step, detail) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
            "SELECT 'X' || i, 'imported', 'some words of the log ' || i FROM n"
        )
    env = {
        name: str(safe.changes[name]) for name in ("backup_to", "backup_recipients", "backup_identity_file")
    }
    env = settings | {f"MIDAS_{name.upper()}": value for name, value in env.items()}
    url = copies.fresh(empty)
    target = env | {"MIDAS_DATABASE_URL": url}
    folder = Path(str(safe.changes["backup_to"]))
    took = timed(tmp_path, env, "backup", "create")
    whole = rows(safe.database, "SELECT id FROM order_processing_logs ORDER BY id")
    random.seed(7)
    for _ in range(KILLS):
        killed(tmp_path, env, took, "backup", "create")
        for name, _ in backups(backup_place(safe.settings)):
            verify_backup(safe.settings, name.name)
        killed(tmp_path, target, took, "backup", "restore")
        with connect(url) as lost:
            there = "order_processing_logs" in lost_tables(lost)
            assert not there or rows(lost, "SELECT id FROM order_processing_logs ORDER BY id") == whole
    timed(tmp_path, target, "backup", "restore", "--replace")
    with connect(url) as lost:
        assert rows(lost, "SELECT id FROM order_processing_logs ORDER BY id") == whole
        assert sum(broken_invariants(lost).values()) == 0
    assert not list(folder.parent.rglob(".midas-scratch-*"))
    copies.drop(url)


def lost_tables(database: Database) -> list[str]:
    return sa.inspect(database.engine).get_table_names()


def started(folder: Path, env: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-c", COMMAND, *arguments]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=kept | env, **pipes)  # type: ignore[call-overload, no-any-return]


def timed(folder: Path, env: dict[str, str], *arguments: str) -> float:
    began = time.monotonic()
    process = started(folder, env, *arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    return time.monotonic() - began


def killed(folder: Path, env: dict[str, str], took: float, *arguments: str) -> None:
    process = started(folder, env, *arguments)
    try:
        process.wait(random.uniform(0.4, 1.0) * took)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()
