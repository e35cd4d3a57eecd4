"""Imported orders by day: backfills that change nothing twice, and polls that note the days they touched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from midas_pipelines.cli.running import QUIET
from midas_pipelines.definitions import defs
from midas_pipelines.defs.order_days import first_day, is_a_day
from midas_pipelines.settings import Settings
from midas_pipelines_tests.shop import add_product, value
from midas_pipelines_tests.sync.world import World

DAY, NEXT = "2026-02-03", "2026-02-04"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def backfill(instance: dg.DagsterInstance, day: str) -> dict[str, object]:
    """Materializes one day as the UI would; what its event tells."""
    job = defs.resolve_job_def("order_backfill")
    result = job.execute_in_process(instance=instance, run_config=dict(QUIET), partition_key=day)
    (event,) = result.asset_materializations_for_node("imported_orders")
    assert event.partition == day
    return {name: told.value for name, told in event.metadata.items()}


def sell(world: World) -> None:
    """Three sales around the midnight between two days."""
    add_product(world.database, sku="A", stock_quantity=10)
    for moment in (f"{DAY}T00:00:00Z", f"{DAY}T23:59:59.999999Z", f"{NEXT}T00:00:00Z"):
        world.place(("A", 1), created_at=moment)


def test_a_day_is_read_whole_and_alone_and_again_changes_nothing(
    environment: World, instance: dg.DagsterInstance
) -> None:
    sell(environment)
    first, again = backfill(instance, DAY), backfill(instance, DAY)
    assert (first["imported"], first["dagster/row_count"]) == (2, 2)
    assert (again["imported"], again["duplicates"]) == (0, 2)
    assert backfill(instance, NEXT)["imported"] == 1
    assert value(environment.database, "SELECT stock_quantity FROM products") == 7


def test_a_poll_notes_the_days_it_touched(environment: World, instance: dg.DagsterInstance) -> None:
    sell(environment)
    job = defs.resolve_job_def("order_import")
    job.execute_in_process(instance=instance, run_config=dict(QUIET))
    noted = instance.get_materialized_partitions(dg.AssetKey("imported_orders"))
    assert noted == {DAY, NEXT}
    assert backfill(instance, DAY)["imported"] == 0


def test_days_begin_where_orders_are_imported_from_and_include_today() -> None:
    assert first_day(Settings(orders_since=datetime(2026, 3, 4, 23, 0, tzinfo=UTC))) == "2026-03-04"
    assert is_a_day(f"{datetime.now(UTC):%Y-%m-%d}")
    assert not is_a_day("1999-01-01")
