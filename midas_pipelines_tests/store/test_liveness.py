"""Worker liveness: it survives cut sessions and restarts, and ends with the process."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items import claims
from midas_pipelines.store.items.claims import Heartbeat, alive_workers
from midas_pipelines_tests.shop import add_product, run, value

LEASE = "SELECT alive_until FROM midas_workers WHERE name = 'one'"
EXPIRE = "UPDATE midas_workers SET alive_until = '2000-01-01 00:00:00'"


@pytest.fixture
def heartbeat(shop: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heartbeat]:
    """A quick one, running, of a worker that has claimed an item."""
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    beating = Heartbeat(shop, "one")
    beating.begin()
    add_product(shop)
    with shop.writing() as connection:
        claims.claim(connection, worker="one", lease_seconds=60, limit=1)
    yield beating
    beating.end()


def alive(shop: Database) -> list[str]:
    """The names of the living."""
    with shop.reading() as connection:
        return list(connection.scalars(alive_workers()))


def test_a_worker_lives_between_begin_and_end_however_often_they_are_nested(shop: Database) -> None:
    heartbeat = Heartbeat(shop, "one")
    heartbeat.begin()
    heartbeat.begin()
    heartbeat.end()
    assert (alive(shop), heartbeat.held) == (["one"], True)
    heartbeat.end()
    heartbeat.end()
    assert (alive(shop), value(shop, "SELECT count(*) FROM midas_workers")) == ([], 0)


def test_a_lease_that_ended_is_renewed_and_a_living_worker_keeps_its_claims(
    shop: Database, heartbeat: Heartbeat
) -> None:
    for _ in range(3):
        run(shop, EXPIRE)
        until = time.monotonic() + 30
        while not alive(shop) and time.monotonic() < until:
            time.sleep(0.005)
        assert alive(shop)
    assert claims.free_dead_claims(shop) == 0
    assert heartbeat.held


def test_cut_sessions_end_no_worker(postgresql_shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    heartbeat = Heartbeat(postgresql_shop, "one")
    heartbeat.begin()
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    cutting = sa.create_engine(postgresql_shop.engine.url, poolclass=sa.NullPool)
    for _ in range(3):
        with cutting.connect() as connection:
            connection.exec_driver_sql(others)
        before = value(postgresql_shop, LEASE)
        until = time.monotonic() + 30
        while value(postgresql_shop, LEASE) == before and time.monotonic() < until:
            time.sleep(0.005)
    assert (alive(postgresql_shop), heartbeat.held) == (["one"], True)
    heartbeat.end()


@pytest.mark.parametrize("moment", ["2000-01-01 00:00:00", "2999-01-01 00:00:00"])
def test_a_lease_that_has_ended_or_is_from_a_clock_that_was_set_back_does_not_hold(
    shop: Database, moment: str
) -> None:
    run(shop, "INSERT INTO midas_workers (name, alive_until) VALUES ('dead', :moment)", moment=moment)
    add_product(shop)
    with shop.writing() as connection:
        claims.claim(connection, worker="dead", lease_seconds=3600, limit=1)
    assert claims.free_dead_claims(shop) == 1


def test_a_worker_whose_lease_may_be_over_knows_it(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE_SECONDS", 1)
    heartbeat = Heartbeat(shop, "one")
    assert heartbeat.held
    heartbeat.begin()
    assert not heartbeat.held
    heartbeat.end()
