"""A backfill over every shard on three Celery workers, one of which is lost half-way: all shards are done in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines_tests.conftest import create_upgraded_shop, empty
from midas_pipelines_tests.copies import PostgresCopies, connect
from midas_pipelines_tests.defs.fleet import Fleet
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.conftest import background_sandbox  # noqa: F401 - fixture
from midas_pipelines_tests.sync.world import World

SHARDS = 16


@pytest.mark.soak
def test_a_lost_worker_loses_no_shard(
    postgresql_copies: PostgresCopies,
    background_sandbox: BackgroundSandbox,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop, history, queue = (postgresql_copies.fresh(kind) for kind in (create_upgraded_shop, empty, empty))
    with connect(shop) as database:
        world = World(database, background_sandbox)
        for _ in range(4 * SHARDS):
            add_product(database)
        world.sandbox.faults.latency_ms = 300.0
        environment = {
            **_settings(world, shop),
            "MIDAS_DAGSTER_POSTGRES_URL": history.replace("+psycopg", ""),
            "MIDAS_EXECUTOR": "celery",
            "MIDAS_CELERY_BROKER": f"sqla+{queue}",
            "MIDAS_CELERY_BACKEND": f"db+{queue}",
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
            fleet.backfill("catalog_snapshot", "fourseller_listings")
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
