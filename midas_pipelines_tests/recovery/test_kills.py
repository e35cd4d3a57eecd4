"""Erasure, rotation, backup and restore killed at random points: what is there is whole, and run again all is done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from midas_pipelines.recovery.backup import verify_backup
from midas_pipelines.recovery.places import backup_place, backups
from midas_pipelines.recovery.restore import broken_invariants
from midas_pipelines.store.orders.payload_vault import payloads_by_key, vault_of
from midas_pipelines.store.privacy.keys import key_ring
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines_tests.conftest import empty
from midas_pipelines_tests.copies import Copies, connect
from midas_pipelines_tests.shop import rows, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

TIMES = pytest.mark.parametrize("times", [1, pytest.param(30, marks=pytest.mark.soak)])
SPARED, FIRST = 0.02, 0.5
"""Seconds between which the first kill comes."""

FORKING = """
import json, os, sys
import sqlalchemy.dialects.postgresql.psycopg, sqlalchemy.dialects.sqlite.pysqlite
import midas_pipelines.cli.security.privacy, midas_pipelines.cli.security.keys, midas_pipelines.cli.security.recovery
from midas_pipelines.cli import main
for line in sys.stdin:
    arguments, environment = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.environ.update(environment)
        sys.argv = ["midas", *arguments]
        main()
    print(child, flush=True)
    sys.stdin.readline()  # until here it can be killed by its number, though it may have ended
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Runs each command in a fork of itself, so that a kill costs no start of Python."""


@dataclass
class Killer:
    """Runs commands in processes that it kills at random points, the same ones each time."""

    server: subprocess.Popen[str]
    environment: dict[str, str]
    chance: random.Random
    killed: bool = False

    def run(self, *arguments: str, after: float | None = None, **environment: str) -> None:
        """Runs a command; with `after`, kills it that many seconds later."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps([arguments, self.environment | environment]) + "\n")
        self.server.stdin.flush()
        child = int(self.server.stdout.readline())
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        self.killed = os.WIFSIGNALED(status)
        assert after is not None or status == 0, arguments

    def kill(self, times: int, check: Callable[[], object], *arguments: str, **environment: str) -> None:
        """Kills a command at that many points before its end, each time followed by a check; then lets it end.

        The points spread until the command ends before its kill: it need not run whole to be measured.
        """
        hits, longest = 0, FIRST
        while hits < times:
            after = self.chance.uniform(SPARED, longest)
            self.run(*arguments, after=after, **environment)
            hits, longest = (hits + 1, longest * 1.2) if self.killed else (hits, after)
            check()
        self.run(*arguments, **environment)
        sys.stdout.write(f"{' '.join(arguments)}: killed {hits} times before its end\n")
        check()


@pytest.fixture(scope="module")
def forking() -> Iterator[subprocess.Popen[str]]:
    """The process that runs the commands."""
    command = [sys.executable, "-c", FORKING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield server
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture
def killer(safe: World, settings: dict[str, str], tmp_path: Path, forking: subprocess.Popen[str]) -> Killer:
    safe.changes |= {"payload_key": None, "payload_key_file": tmp_path / "payload-key"}
    run(safe.database, "UPDATE marketplace_orders SET payload = NULL")  # sealed with the usual key
    names = ("backup_to", "backup_recipients", "backup_identity_file", "payload_key_file")
    given = {f"MIDAS_{name.upper()}": str(safe.changes[name]) for name in names}
    return Killer(
        forking, settings | given | {"MIDAS_STATE_FOLDER": str(tmp_path / "state")}, random.Random(7)
    )


def fill_log(safe: World, count: int) -> list[object]:
    """So many rows more that a kill hits the middle."""
    run(
        safe.database,
        "INSERT INTO order_processing_logs (marketplace_order_id, step, detail) "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count) "
        "SELECT 'X' || i, 'imported', 'some words of the log ' || i FROM n",
        count=count,
    )
    return rows(safe.database, "SELECT id FROM order_processing_logs ORDER BY id")


@pytest.mark.both_databases
@TIMES
def test_a_backup_and_a_restore_that_are_killed_leave_all_or_nothing(
    safe: World, copies: Copies, killer: Killer, times: int
) -> None:
    whole = fill_log(safe, 1_500 if times < 30 else 20_000)

    def newest_is_whole() -> None:
        if backups(backup_place(safe.settings)):
            verify_backup(safe.settings, None)

    killer.kill(times, newest_is_whole, "backup", "create")
    verify_backup(safe.settings, None)
    url = copies.fresh(empty)

    def all_or_nothing() -> None:
        with connect(url) as lost:
            there = "order_processing_logs" in sa.inspect(lost.engine).get_table_names()
            assert not there or rows(lost, "SELECT id FROM order_processing_logs ORDER BY id") == whole

    killer.kill(times, all_or_nothing, "backup", "restore", "--replace", MIDAS_DATABASE_URL=url)
    with connect(url) as lost:
        assert sum(broken_invariants(lost).values()) == 0
    assert not list(Path(str(safe.changes["backup_to"])).parent.rglob(".midas-scratch-*"))
    copies.drop(url)


@TIMES
def test_an_erasure_that_is_killed_leaves_each_buyer_whole_or_gone(
    safe: World, killer: Killer, times: int
) -> None:
    def sell(count: int) -> None:
        for order in [safe.place(("A", 1), buyer_note="Zyxwvu") for _ in range(count)]:
            desk.market(safe, order, "cancelled")
        safe.import_orders()
        past = "UPDATE order_status_history SET created_at = '2020-01-01 00:00:00+00:00'"
        run(safe.database, past)
        run(safe.database, "UPDATE marketplace_orders SET source_updated_at = NULL")

    def whole_or_gone() -> None:
        found = rows(
            safe.database,
            "SELECT m.erased_at, m.payload, o.shipping_address, o.notes FROM marketplace_orders m "
            "JOIN orders o ON o.id = m.local_order_id",
        )
        for row in found:
            gone = ["erased" in str(row.shipping_address), (row.payload or "plain:").startswith("plain:")]
            assert row.payload is None or gone == [row.erased_at is not None] * 2
        left = value(safe.database, "SELECT count(*) FROM marketplace_orders WHERE erased_at IS NULL")
        if times > 1 and left < 4:
            sell(8)

    sell(6)
    killer.kill(times, whole_or_gone, "privacy", "erase-due")
    desk.assert_whole(safe)


@TIMES
def test_a_rotation_that_is_killed_leaves_every_payload_readable(
    safe: World, killer: Killer, times: int
) -> None:
    vault = vault_of(safe.settings)
    sealed = [
        {
            "webhook_id": str(number),
            "type": "odd",
            "payload": vault.seal({"id": number, "email": "a@b.example"}),
        }
        for number in range(450)
    ]
    with safe.database.writing() as connection:
        connection.execute(sa.insert(marketplace_webhooks), sealed)

    def all_open() -> None:
        fresh = vault_of(safe.settings)
        found = rows(safe.database, "SELECT payload FROM marketplace_webhooks ORDER BY id")
        assert [fresh.open(row.payload)["id"] for row in found] == list(range(450))

    killer.kill(times, all_open, "keys", "rotate-payload", "--retire")
    assert payloads_by_key(safe.database) == {key_ring(safe.settings).newest().key_id: 450}
