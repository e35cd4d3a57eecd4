"""Imported orders by day: backfills that change nothing twice, and polls that note the days they touched."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from midas_pipelines.cli.dagster.running import QUIET
from midas_pipelines.definitions import defs
from midas_pipelines.defs.orders.assets import FIRST_DAYS
from midas_pipelines.lib.partitions import days_begun, days_of_orders, order_days
from midas_pipelines.settings import load_settings
from midas_pipelines_tests.defs.conftest import partition_range
from midas_pipelines_tests.shop import add_product, amend, value
from midas_pipelines_tests.sync.world import World

DAY, NEXT = "2026-02-03", "2026-02-04"
TODAY = f"{datetime.now(UTC):%Y-%m-%d}"
LAST_DAYS = {
    f"{day}" for day in days_begun(load_settings(), datetime.now(UTC) - FIRST_DAYS, datetime.now(UTC))
}
"""What the first import records, with or without orders."""
NONE_YET = dict.fromkeys(LAST_DAYS, 0)


def backfill(instance: dg.DagsterInstance, day: str) -> dict[str, object]:
    """Materializes one day as the UI would; what its event tells."""
    job = defs.resolve_job_def("order_import")
    result = job.execute_in_process(instance=instance, run_config=dict(QUIET), partition_key=day)
    (event,) = result.asset_materializations_for_node("imported_orders")
    assert event.partition == day
    return {name: told.value for name, told in event.metadata.items()}


def poll(instance: dg.DagsterInstance) -> object:
    """Polls as the schedule does; how many orders that imported."""
    job = defs.resolve_job_def("order_import")
    result = job.execute_in_process(instance=instance, run_config=dict(QUIET))
    (event,) = result.asset_materializations_for_node("imported_orders")[-1:]
    return event.metadata["imported"].value


def rows_noted(instance: dg.DagsterInstance) -> dict[str, object]:
    """The orders of each day that Dagster knows of."""
    key = dg.AssetKey("imported_orders")
    noted = {}
    for day in instance.get_materialized_partitions(key):
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day]), limit=1
        )
        event = records.records[0].asset_materialization
        assert event is not None
        noted[day] = event.metadata["dagster/partition_row_count"].value
    return noted


def sell(world: World) -> None:
    """Three sales around the midnight between two days."""
    add_product(world.database, sku="A", stock_quantity=10)
    for moment in (f"{DAY}T00:00:00Z", f"{DAY}T23:59:59.999999Z", f"{NEXT}T00:00:00Z"):
        world.place(("A", 1), created_at=moment, sales_channel="amazon")


def test_a_day_is_read_whole_and_alone_and_again_changes_nothing(
    environment: World, instance: dg.DagsterInstance
) -> None:
    sell(environment)
    first, again = backfill(instance, DAY), backfill(instance, DAY)
    assert (first["imported"], first["dagster/partition_row_count"], first["units"]) == (2, 2, 2)
    assert first["orders_amazon"] == 2
    assert (again["imported"], again["already_known"]) == (0, 2)
    assert backfill(instance, NEXT)["imported"] == 1
    assert value(environment.database, "SELECT stock_quantity FROM products") == 7


def test_a_poll_notes_the_days_it_touched(environment: World, instance: dg.DagsterInstance) -> None:
    sell(environment)
    job = defs.resolve_job_def("order_import")
    job.execute_in_process(instance=instance, run_config=dict(QUIET))
    noted = instance.get_materialized_partitions(dg.AssetKey("imported_orders"))
    assert noted == {DAY, NEXT, *LAST_DAYS}
    assert backfill(instance, DAY)["imported"] == 0


def test_a_poll_notes_what_the_gateway_imported_before_it(
    environment: World, instance: dg.DagsterInstance
) -> None:
    sell(environment)
    poll(instance)
    gone = rows_noted(instance)
    environment.place(("A", 1), created_at=f"{NEXT}T10:00:00Z")
    environment.import_orders()  # by another driver, of which Dagster knows nothing
    assert rows_noted(instance) == gone == NONE_YET | {DAY: 2, NEXT: 1}
    assert poll(instance) == 0
    assert rows_noted(instance) == NONE_YET | {DAY: 2, NEXT: 2}


@pytest.mark.both_databases
def test_a_poll_records_the_day_of_an_order_that_was_cancelled_later(
    environment: World, instance: dg.DagsterInstance
) -> None:
    sell(environment)
    poll(instance)
    (first, *_) = environment.sandbox.state.orders
    long_ago = "2026-01-01 00:00:00+00:00"
    amend(environment.database, f"UPDATE marketplace_orders SET imported_at = '{long_ago}'")
    amend(environment.database, f"UPDATE order_processing_logs SET created_at = '{long_ago}'")
    environment.sandbox.state.move(first, "cancelled")
    poll(instance)
    assert sales(instance, DAY) == (2, 1, 1)


def sales(instance: dg.DagsterInstance, day: str) -> tuple[object, ...]:
    """The orders, the cancelled ones and the units of a day as Dagster plots them."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey("imported_orders"), asset_partitions=[day])
    event = instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    assert event is not None
    return tuple(event.metadata[name].value for name in ("dagster/partition_row_count", "cancelled", "units"))


def test_many_days_are_read_in_one_run_and_each_tells_of_itself(
    environment: World, instance: dg.DagsterInstance
) -> None:
    sell(environment)
    tags = partition_range(DAY, "2026-02-05")
    job = defs.resolve_job_def("order_import")
    result = job.execute_in_process(instance=instance, run_config=dict(QUIET), tags=tags)
    assert not any(
        "seconds" in event.metadata for event in result.asset_materializations_for_node("imported_orders")
    )
    assert rows_noted(instance) == {DAY: 2, NEXT: 1, "2026-02-05": 0}


@pytest.mark.parametrize(
    ("since", "begun"),
    [
        ("2026-03-01T00:00:00+00:00", set()),
        ("2026-02-28T23:59:59+00:00", {"2026-03-01"}),
        ("2026-02-26T12:00:00+00:00", {"2026-02-27", "2026-02-28", "2026-03-01"}),
        ("2026-03-02T12:00:00+00:00", set()),  # a clock that was ahead
    ],
)
def test_days_begin_at_midnight(since: str, begun: set[str]) -> None:
    now = datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert {f"{day}" for day in days_begun(load_settings(), datetime.fromisoformat(since), now)} == begun


@pytest.mark.parametrize(
    ("zone", "first", "begins", "hours"),
    [
        ("UTC", "2026-10-31", "2026-11-01T00:00+00:00", 24),
        ("Asia/Tokyo", "2026-11-01", "2026-10-31T15:00+00:00", 24),
        ("America/Los_Angeles", "2026-10-31", "2026-11-01T07:00+00:00", 25),
    ],
)
def test_partitions_are_days_of_the_shop(zone: str, first: str, begins: str, hours: int) -> None:
    settings = load_settings(timezone=zone, orders_since=datetime(2026, 10, 31, 23, 0, tzinfo=UTC))
    days = days_of_orders(settings)
    assert (days.get_first_partition_key(), days.get_last_partition_key()) == (first, f"{settings.today()}")
    window = days.time_window_for_partition_key("2026-11-01")
    assert window.start.timestamp() == datetime.fromisoformat(begins).timestamp()
    assert window.end.timestamp() - window.start.timestamp() == hours * 3600


@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("zone", "counts"),
    [("Asia/Tokyo", {DAY: 1, NEXT: 2}), ("America/Los_Angeles", {"2026-02-02": 1, DAY: 2})],
)
def test_a_poll_records_days_of_the_shop(
    environment: World,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
    counts: dict[str, int],
) -> None:
    monkeypatch.setenv("MIDAS_TIMEZONE", zone)
    sell(environment)
    poll(instance)
    assert {day: count for day, count in rows_noted(instance).items() if count} == counts


def test_days_include_today() -> None:
    assert order_days.has_partition_key(f"{datetime.now(UTC):%Y-%m-%d}")
    assert not order_days.has_partition_key("1999-01-01")
