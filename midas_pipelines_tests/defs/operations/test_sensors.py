"""The safety net: it takes up what the gateway left, asks once for it, and launches nothing when there is nothing."""

from __future__ import annotations

import json

import dagster as dg
import pytest
import sqlalchemy as sa

from midas_pipelines.definitions import defs
from midas_pipelines.defs.operations.jobs import stale_work
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines_tests.defs.conftest import tick
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.world import World

LONG_AGO = {
    "sqlite": "datetime('now', '-1 hour')",
    "postgresql": "now() - interval '1 hour'",
}


def wait_an_hour(world: World) -> None:
    moment = LONG_AGO["postgresql" if world.database.is_postgresql else "sqlite"]
    run(world.database, f"UPDATE fourseller_product_mappings SET dirty_since = {moment}")


def test_nothing_dirty_launches_nothing(environment: World, instance: dg.DagsterInstance) -> None:
    found = tick(stale_work, instance)
    assert not found.run_requests
    assert found.skip_message == "Nothing has waited for longer than 60 s."


def test_an_item_just_changed_is_left_to_the_gateway(
    environment: World, instance: dg.DagsterInstance
) -> None:
    add_product(environment.database)
    assert not tick(stale_work, instance).run_requests


def test_an_item_left_over_is_taken_up_once(environment: World, instance: dg.DagsterInstance) -> None:
    add_product(environment.database)
    wait_an_hour(environment)
    first = tick(stale_work, instance)
    again = tick(stale_work, instance, first.cursor)
    assert [request.job_name for request in first.run_requests or []] == ["incremental_sync"]
    assert not again.run_requests
    assert "A run of incremental_sync has already tried what is waiting" in str(again.skip_message)


def test_a_run_under_way_is_not_joined_by_another(environment: World, instance: dg.DagsterInstance) -> None:
    add_product(environment.database)
    wait_an_hour(environment)
    job = defs.resolve_job_def("incremental_sync")
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    found = tick(stale_work, instance)
    assert (found.run_requests, found.cursor) == ([], None)


def test_an_item_that_backs_off_is_not_taken_up(environment: World, instance: dg.DagsterInstance) -> None:
    add_product(environment.database)
    wait_an_hour(environment)
    with environment.database.writing() as connection:
        connection.execute(sa.update(mappings).values(next_attempt_at=utc_now(120)))
    assert not tick(stale_work, instance).run_requests


def left_over(world: World, *kinds: str, day: int = 1) -> None:
    """Webhooks that nobody has processed for long."""
    for kind in kinds:
        run(
            world.database,
            "INSERT INTO marketplace_webhooks (webhook_id, type, payload, received_at) "
            f"VALUES ('{kind}_{day}', '{kind}', 'plain:{{}}', '2026-01-0{day} 00:00:00')",
        )


def asked(found: dg.SensorExecutionData) -> list[str]:
    return [str(request.job_name) for request in found.run_requests or []]


def test_unprocessed_webhooks_are_healed_once_by_the_workflow_of_their_kind(
    environment: World, instance: dg.DagsterInstance
) -> None:
    left_over(environment, "order.created", "product.deleted", "inventory.updated")
    first = tick(stale_work, instance)
    again = tick(stale_work, instance, first.cursor)
    left_over(environment, "order.created", day=2)
    later = tick(stale_work, instance, again.cursor)
    assert [asked(found) for found in (first, again, later)] == [
        ["consistency_check", "order_import"],
        [],
        ["order_import"],
    ]
    assert "A run of order_import has already tried" in str(again.skip_message)


def test_one_workflow_under_way_keeps_no_other_from_healing(
    environment: World, instance: dg.DagsterInstance
) -> None:
    left_over(environment, "order.created", "product.deleted")
    instance.create_run_for_job(defs.resolve_job_def("order_import"), status=dg.DagsterRunStatus.STARTED)
    found = tick(stale_work, instance)
    assert asked(found) == ["consistency_check"]
    assert json.loads(str(found.cursor)).keys() == {"consistency_check"}


def test_a_paused_workflow_heals_nothing_and_keeps_no_other_from_it(
    environment: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_over(environment, "order.created", "product.deleted")
    with monkeypatch.context() as patch:
        patch.setenv("MIDAS_PAUSED", "consistency_check")
        first = tick(stale_work, instance)
        assert asked(first) == ["order_import"]
        again = tick(stale_work, instance, first.cursor)
        assert "Work is waiting for consistency_check, which MIDAS_PAUSED turns off." in str(
            again.skip_message
        )
    assert asked(tick(stale_work, instance, first.cursor)) == ["consistency_check"]


def test_a_shop_that_is_not_set_up_is_a_reason_to_skip(
    monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    monkeypatch.delenv("MIDAS_DATABASE_URL", raising=False)
    assert "MIDAS_DATABASE_URL is not set" in str(tick(stale_work, instance).skip_message)
