"""Clocks that are apart: measured, alerted, shown; and a clock that is set back holds nothing up."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from midas_pipelines.notify.alerts import CLOCK_APART, note_clocks, open_subjects
from midas_pipelines.notify.delivery import something_due
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.items import claims
from midas_pipelines.store.items.claims import read_claimable
from midas_pipelines.store.operations import cursors as clocks
from midas_pipelines.store.operations.backlog import overview, stale_items
from midas_pipelines.storefront.types import UtcDateTime, utc_now
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

FAR = "2999-01-01 00:00:00+00:00"


def alerted(database: Database) -> set[str]:
    with database.reading() as connection:
        return open_subjects(connection, CLOCK_APART)


@pytest.mark.parametrize(
    ("ahead", "apart"),
    [(0.0, False), (-30.0, False), (61.0, True), (-600.0, True), (None, False), (1e9, True)],
)
def test_4sellers_clock_is_kept_and_alerted(shop: Database, ahead: float | None, apart: bool) -> None:
    note_clocks(shop, ahead)
    assert alerted(shop) == ({"4Seller"} if apart else set())
    assert overview(shop).clocks.get("4Seller") == ahead
    note_clocks(shop, 0.5)
    assert alerted(shop) == set()


def test_the_databases_clock_is_kept_and_alerted(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(clocks.time, "time", lambda: real() + 600)
    note_clocks(shop, None)
    assert alerted(shop) == {"database"}
    assert -605 < overview(shop).clocks["database"] < -595


def test_every_sync_looks_at_the_clocks(world: World) -> None:
    world.full()
    with world.database.reading() as connection:
        assert clocks.read_clocks(connection).keys() == {"database", "4Seller"}


def test_a_wait_that_no_backoff_explains_is_over(shop: Database) -> None:
    add_product(shop)
    run(shop, "UPDATE fourseller_product_mappings SET next_attempt_at = :far", far=FAR)
    with shop.writing() as connection:
        assert len(read_claimable(connection, limit=9, new=9)) == 1
        assert len(claims.claim(connection, worker="w", lease_seconds=60, limit=9)) == 1
        claims.release_claims(connection, "w")
    run(shop, "UPDATE fourseller_product_mappings SET recheck_at = :far", far=FAR)
    assert claims.free_dead_claims(shop) == 1
    assert stale_items(shop, -60) is not None
    run(
        shop,
        "INSERT INTO marketplace_webhooks (webhook_id, type, payload, next_attempt_at) VALUES ('m', 'x', '{}', :far)",
        far=FAR,
    )
    run(
        shop,
        "INSERT INTO alerts (kind, subject, text, next_attempt_at) VALUES ('k', 's', 't', :far)",
        far=FAR,
    )
    with shop.reading() as connection:
        assert webhooks.any_due(connection, orders=False)
    assert something_due(shop)


@pytest.mark.parametrize(
    ("seconds", "due"), [(-1, True), (30, False), (1800, False), (3599, True), (3600 + 1800, True)]
)
def test_a_clock_that_is_set_back_by_an_hour_holds_nothing_up(
    shop: Database, seconds: int, due: bool
) -> None:
    given = sa.select(utc_now(seconds).label("moment")).subquery()
    with shop.reading() as connection:
        query = sa.select(claims.RETRY.is_due(sa.column("moment", UtcDateTime))).select_from(given)
        assert bool(connection.scalar(query)) is due
