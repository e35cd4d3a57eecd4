"""Every asset says what it is, where it is and who writes it, and every one of its materializations has numbers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import dagster as dg
import pytest

from midas_pipelines.definitions import defs
from midas_pipelines.workflows import WORKFLOWS
from midas_pipelines_tests.defs.conftest import Execute, metadata
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.world import World

SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
KEYS = {"sku", "fourseller_product_id"}
"""Columns by which rows of several assets belong together."""
COUNTED_ELSEWHERE = {"fourseller/orders"}
"""4Seller does not say how many orders it has."""


@pytest.mark.parametrize("name", sorted(SPECS))
def test_an_asset_says_what_it_is_and_where(name: str) -> None:
    spec = SPECS[name]
    assert spec.description
    assert spec.group_name != "default"
    assert spec.owners
    assert spec.kinds
    assert {"dagster/table_name", "dagster/uri"} & spec.metadata.keys()
    schema = spec.metadata["dagster/column_schema"]
    assert schema.columns
    assert all(column.type and column.description for column in schema.columns)
    assert {dep.asset_key.to_user_string() for dep in spec.deps} <= SPECS.keys()


def test_only_what_comes_from_outside_has_no_upstream() -> None:
    outside = {"fourseller/orders", "listing_snapshot", "storefront/products"}
    assert {name for name, spec in SPECS.items() if not spec.deps} == outside


def test_no_two_assets_hold_the_same_columns_of_a_table() -> None:
    held: dict[str, list[str]] = defaultdict(list)
    for spec in SPECS.values():
        names = {column.name for column in spec.metadata["dagster/column_schema"].columns}
        held[spec.metadata.get("dagster/table_name", "")] += sorted(names - KEYS)
    held.pop("")
    assert {table: names for table, names in held.items() if len(names) != len(set(names))} == {}


def shown(event: dg.DagsterEvent) -> dict[str, Any]:
    """The facts of a materialization or an observation."""
    one = event.asset_observation_data.asset_observation if event.is_asset_observation else None
    one = one or event.step_materialization_data.materialization
    return {name: fact.value for name, fact in one.metadata.items()}


def test_each_materialization_has_rows_and_seconds_as_numbers(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku="A-1", stock_quantity=5)
    found: dict[str, set[str]] = defaultdict(set)
    for job in [*(one.name for one in WORKFLOWS if one.makes and one.name != "backup"), "plan_sync"]:
        result = execute(job)
        if job == "full_sync":
            environment.place(("A-1", 1))
        for event in result.all_events:
            if event.is_step_materialization or event.is_asset_observation:
                facts = shown(event)
                numbers = {name for name, fact in facts.items() if isinstance(fact, int | float)}
                found[str(event.asset_key and event.asset_key.to_user_string())] |= numbers
                assert numbers, (job, event.asset_key)
    assert found.keys() == SPECS.keys()
    for name, numbers in found.items():
        partitioned = SPECS[name].partitions_def is not None
        rows = "dagster/partition_row_count" if partitioned else "dagster/row_count"
        assert name in COUNTED_ELSEWHERE or rows in numbers
        assert "seconds" in numbers or name in ("storefront/products", "inventory_ledger")
    backlog = {"fourseller_listings": "still_waiting", "inventory_levels": "still_waiting"}
    backlog |= {"listing_observation": "changing", "order_statuses": "open_orders"}
    assert {name for name, number in backlog.items() if number not in found[name]} == set()
    assert "consistency" in found["listing_observation"]


def test_tables_name_items_by_their_titles(environment: World, execute: Execute) -> None:
    add_product(environment.database, sku="A-1", stock_quantity=1, name="Screen")
    execute("full_sync")
    (row,) = metadata(execute("stock_watch"), "low_stock")["low"].records
    assert (row.data["sku"], row.data["title"]) == ("A-1", "Screen")
