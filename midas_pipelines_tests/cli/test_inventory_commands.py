"""rules, reconcile, conflicts, explain, stock, alerts and plans, as an operator types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.world import World

Settings = dict[str, str]


def test_rules_are_set_listed_explained_simulated_and_cleared(
    midas: Midas, world: World, settings: Settings
) -> None:
    add_product(world.database, sku="A-1", stock_quantity=9)
    assert (
        midas("rules", "set", "--sku", "A-1", "--buffer", "2", "--json", **settings).json["items_marked"] == 1
    )
    (rule,) = midas("rules", "list", "--json", **settings).json["rules"]
    assert (rule["scope"], rule["buffer"]) == ("A-1", 2)
    assert "available = 7" in midas("rules", "explain", "A-1", **settings).output
    assert midas("rules", "simulate", "--buffer", "5", "--json", **settings).json["oversold"] == 0
    assert midas("rules", "clear", "--sku", "A-1", "--json", **settings).json == {"cleared": 1}
    assert "No rules" in midas("rules", "list", **settings).output


def test_a_bad_rule_is_one_sentence_and_exit_2(midas: Midas, settings: Settings) -> None:
    ended = midas("rules", "set", "--allocation", "120", **settings)
    assert ended.code == 2
    assert "The allocation is 120 %: give a whole percentage from 0 to 100." in ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("rules", "set", "--minimum-price", "0.001"), "The minimum price is 0.001: give whole cents"),
        (("rules", "explain", "A-1", "--channel", "ebay"), "'ebay' is not 'fourseller'"),
        (("rules", "list", "--channel", "ebay"), "'ebay' is not 'fourseller'"),
        (("rules", "explain", "\udce9"), "bytes that are no UTF-8 text"),
        (("conflicts", "show", "99999999999999999999"), "is not in the range"),
        (("conflicts", "resolve", "99999999999999999999", "--take", "shop"), "is not in the range"),
        (("sync", "products", "--plan", "/no/such/folder/plan.json"), "cannot be written to /no/such/folder"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(
    midas: Midas, world: World, settings: Settings, command: tuple[str, ...], sentence: str
) -> None:
    add_product(world.database, sku="A-1")
    ended = midas(*command, **settings)
    assert ended.code == 2
    assert sentence in ended.errors
    assert "Traceback" not in ended.errors


def test_a_conflict_is_found_shown_and_resolved(midas: Midas, world: World, settings: Settings) -> None:
    add_product(world.database, sku="A-1")
    world.full()
    midas("rules", "set", "--policy", "manual", **settings)
    next(iter(world.listed.values()))["price"] = "99.00"
    told = midas("reconcile", "--json", **settings)
    assert {
        "scanned",
        "discrepancies",
        "resolved",
        "open_conflicts",
        "consistency",
        "requests",
        "seconds",
    } <= told.json.keys()
    assert (told.code, told.json["open_conflicts"], told.json["consistency"]) == (0, 1, 0.0)
    (conflict,) = midas("conflicts", "list", "--json", **settings).json["conflicts"]
    number = str(conflict["id"])
    assert midas("conflicts", "show", number, "--json", **settings).json["fourseller_value"] == "99.00"
    assert midas("conflicts", "resolve", number, "--take", "shop", **settings).code == 0
    assert midas("conflicts", "resolve", number, "--take", "shop", **settings).code == 2
    world.incremental()
    assert world.shown == world.wanted
    assert midas("conflicts", "pin", "A-1", "price", "--json", **settings).json["value"] == "10.00"
    assert midas("conflicts", "release", "A-1", "--json", **settings).json["released"] == ["price"]


def test_the_brake_stops_a_sync_until_its_plan_is_applied(
    midas: Midas, world: World, settings: Settings, tmp_path: Path
) -> None:
    for number in range(12):
        add_product(world.database, sku=f"A-{number}")
    world.full()
    run(world.database, "UPDATE products SET stock_quantity = 0")
    stopped = midas("sync", "products", "--full", "--json", **settings)
    assert (stopped.code, "The brake is on" in stopped.errors) == (1, True)
    plan = str(tmp_path / "plan.json")
    assert midas("sync", "products", "--full", "--plan", plan, "--json", **settings).json["updated"] == 12
    both = midas("sync", "products", "--dry-run", "--apply", plan, **settings)
    assert (both.code, "takes no other option" in both.errors) == (2, True)
    assert midas("sync", "products", "--apply", plan, "--json", **settings).json["updated"] == 12
    assert world.shown == world.wanted
    assert midas("sync", "products", "--apply", plan, **settings).code == 2


def test_explain_stock_and_alerts_tell_what_they_know(midas: Midas, world: World, settings: Settings) -> None:
    add_product(world.database, sku="A-1", stock_quantity=1)
    assert midas("explain", "A-1", "--json", **settings).json["available"] == 1
    assert "Shard 01 in Dagster." in midas("explain", "A-1", **settings).output
    assert midas("stock", "low", "--json", **settings).json["raised"] == 1
    assert midas("stock", "movers", **settings).output.startswith("Nothing was sold")
    (alert,) = midas("alerts", "list", "--json", **settings).json["alerts"]
    assert alert["text"] == "A-1 has 1 left (low at 5): order more."
    assert "MIDAS_NOTIFY_URLS is not set" in midas("alerts", "send", **settings).errors
    assert midas("alerts", "send", **settings, MIDAS_NOTIFY_URLS="json://127.0.0.1:1/x").code == 1


def test_a_sku_of_the_hub_is_linked_shown_and_unlinked(
    midas: Midas, world: World, settings: Settings
) -> None:
    product, _ = (add_product(world.database, sku=sku) for sku in ("A-1", "A-2"))
    assert "No SKU" in midas("items", "show", **settings).output
    assert "No item of the shop" in midas("items", "link", "NO-SUCH", "HUB-1", **settings).errors
    assert "is the SKU of an item" in midas("items", "link", "A-1", "A-2", **settings).errors
    linked = midas("items", "link", "A-1", "HUB-1", "--json", **settings).json
    assert (linked["sku"], linked["hub_sku"]) == ("A-1", "HUB-1")
    (link,) = midas("items", "show", "--json", **settings).json["links"]
    assert link == {"hub_sku": "HUB-1", "product_id": product, "variant_id": None}
    assert midas("items", "unlink", "HUB-1", **settings).code == 0
    assert midas("items", "show", "--json", **settings).json == {"links": []}
    ended = midas("items", "unlink", "HUB-1", **settings)
    assert (ended.code, "HUB-1 is not linked" in ended.errors) == (2, True)
