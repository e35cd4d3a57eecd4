"""`midas sync`: what its JSON carries, its exit codes, its sentences."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import add_product, amend
from midas_pipelines_tests.sync.world import World


def test_a_shop_is_synced_from_the_command_line(world: World, midas: Midas, settings: dict[str, str]) -> None:
    product = add_product(world.database, sku="A-1", stock_quantity=5)
    planned = midas("sync", "products", "--full", "--dry-run", "--json", **settings).json
    assert (planned["created"], planned["plan"][0]["sku"], world.writes()) == (1, "A-1", 0)
    first = midas("sync", "products", "--full", "--json", **settings)
    assert first.code == 0
    counts = [
        "scanned",
        "created",
        "updated",
        "deleted",
        "unchanged",
        "failed",
        "quarantined",
        "requests",
        "seconds",
    ]
    assert [first.json[name] for name in counts[:7]] == [1, 1, 0, 0, 0, 0, 0]
    assert set(counts) <= set(first.json)
    world.place(("A-1", 2))
    orders = midas("sync", "orders", "--json", **settings).json
    names = ("fetched", "imported", "already_known", "exceptions")
    assert [orders[name] for name in names] == [1, 1, 0, 0]
    world.set(product, stock_quantity=1)
    pushed = midas("sync", "inventory", "--json", **settings).json
    assert (pushed["pushed"], pushed["failed"], world.shown["A-1"][2]) == (1, 0, 1)


def test_a_run_is_kept_in_dagsters_history_when_it_has_a_home(
    world: World, midas: Midas, settings: dict[str, str], tmp_path: Path
) -> None:
    add_product(world.database)
    told = midas("sync", "products", "--json", **settings, DAGSTER_HOME=str(tmp_path)).json
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run = instance.get_run_by_id(told["run_id"])
    assert run is not None
    assert run.status is dg.DagsterRunStatus.SUCCESS


def test_items_that_failed_make_the_command_fail(
    world: World, midas: Midas, settings: dict[str, str]
) -> None:
    add_product(world.database, sku="A-1")
    world.refuse(500, "A-1")
    ended = midas("sync", "products", "--json", **settings)
    assert (ended.code, ended.json["failed"], ended.json["outcome"]) == (1, 1, "partial")


def test_a_refused_key_is_one_sentence_and_code_2(
    world: World, midas: Midas, settings: dict[str, str]
) -> None:
    add_product(world.database)
    ended = midas("sync", "products", **(settings | {"FOURSELLER_API_KEY": "not-the-key"}))
    assert ended.code == 2
    assert "check FOURSELLER_API_KEY" in ended.errors
    assert "not-the-key" not in ended.output + ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize("command", [("sync", "status"), ("reconcile",)], ids=" ".join)
def test_programs_find_the_counts_where_4seller_was_away_before_the_sync_began(
    midas: Midas, settings: dict[str, str], command: tuple[str, ...]
) -> None:
    away = {"FOURSELLER_API_URL": "http://127.0.0.1:9/v1"}
    ended = midas(*command, "--json", **(settings | away))
    assert (ended.code, ended.json["outcome"]) == (1, "failed")
    assert (ended.json["scanned"], ended.json["pushed"], ended.json["failed"]) == (0, 0, 0)


def test_an_unknown_sku_is_wrong_usage(world: World, midas: Midas, settings: dict[str, str]) -> None:
    ended = midas("sync", "products", "--sku", "NO-SUCH", **settings)
    assert (ended.code, ended.errors) == (
        2,
        "Error: No item of the shop has the SKU NO-SUCH: check the spelling.\n",
    )


def test_a_failed_check_fails_the_command_until_it_passes(
    world: World, midas: Midas, settings: dict[str, str]
) -> None:
    add_product(world.database, sku="A-1", stock_quantity=3)
    amend(world.database, "UPDATE inventory_changes SET delta = delta + 1")
    ended = midas("sync", "inventory", **settings)
    assert ended.code == 1
    assert "Check ledger_explains_stock of inventory_ledger failed: 1 of 1. The worst: A-1." in ended.errors
    amend(world.database, "UPDATE inventory_changes SET delta = delta - 1")
    assert midas("sync", "inventory", **settings).code == 0
