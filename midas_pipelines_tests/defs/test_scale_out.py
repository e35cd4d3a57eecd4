"""A backfill over every shard on three Celery workers, one of which is lost half-way: all shards are done in the end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from midas_pipelines_tests.conftest import create_upgraded_shop, empty
from midas_pipelines_tests.copies import PostgresCopies, connect
from midas_pipelines_tests.defs.fleet import Fleet
from midas_pipelines_tests.sandbox_thread import SandboxThread
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.conftest import background_sandbox  # noqa: F401 - fixture
from midas_pipelines_tests.sync.world import World

SHARDS = 16


@pytest.fixture(params=["postgresql", "redis"])
def queue(
    request: pytest.FixtureRequest, postgresql_copies: PostgresCopies, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """The settings of a broker and a result store of its own."""
    if request.param == "postgresql":
        database = postgresql_copies.fresh(empty)
        yield {"MIDAS_CELERY_BROKER": f"sqla+{database}", "MIDAS_CELERY_BACKEND": f"db+{database}"}
        return
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed")
    socket = tmp_path / "redis.sock"
    command = [server, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield {
            "MIDAS_CELERY_BROKER": f"redis+socket://{socket}",
            "MIDAS_CELERY_BACKEND": f"redis+socket://{socket}?virtual_host=1",
        }
        process.terminate()


@pytest.mark.soak
def test_a_lost_worker_loses_no_shard(
    postgresql_copies: PostgresCopies,
    queue: dict[str, str],
    background_sandbox: SandboxThread,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop, history = (postgresql_copies.fresh(kind) for kind in (create_upgraded_shop, empty))
    with connect(shop) as database:
        world = World(database, background_sandbox)
        for _ in range(4 * SHARDS):
            add_product(database)
        world.sandbox.faults.latency_ms = 300.0
        environment = {
            **_settings(world, shop),
            "MIDAS_DAGSTER_POSTGRES_URL": history.replace("+psycopg", ""),
            "MIDAS_EXECUTOR": "celery",
            **queue,
            "MIDAS_LONGEST_RUN_MINUTES": "2",
            "MIDAS_SHARDS": str(SHARDS),
            "MIDAS_IN_FLIGHT": "1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with Fleet(tmp_path, environment) as fleet:
            for number in range(3):
                fleet.start_worker(f"worker{number}")
            fleet.start_daemon()
            fleet.backfill("fourseller_listings")
            fleet.wait(lambda: len(fleet.done()) >= SHARDS // 4 and fleet.busy(0), 300)
            fleet.kill_worker(0)
            fleet.wait(lambda: len(fleet.done()) == SHARDS, 600)
            assert fleet.tried_again() >= 1
        assert world.shown == world.wanted
        assert world.dirty == 0


def _settings(world: World, shop: str) -> dict[str, str]:
    channel = world.settings.channel()
    return {
        "MIDAS_DATABASE_URL": shop,
        "FOURSELLER_API_URL": channel.url,
        "FOURSELLER_API_KEY": channel.api_key.get_secret_value(),
        "FOURSELLER_SELLER_ID": channel.seller_id,
    }
