"""`midas contract`: the suite on an account that keeps the contract and on hubs that do not, and what production found."""

from __future__ import annotations

from typing import Any

import pytest

from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.world import World


def test_an_account_that_keeps_the_contract(midas: Midas, settings: dict[str, str], world: World) -> None:
    world.place(("SCR-1", 1))
    ended = midas("contract", "test", "--json", **settings)
    assert (ended.code, ended.json["findings"]) == (0, [])
    assert {one["kept"] for one in ended.json["tried"]} == {True}
    assert world.listed == {}


@pytest.mark.parametrize(
    "habit",
    [
        "deletes-ignored",
        "stock-ignored",
        "product-updates-ignored",
        "skus-respelled",
        "number-ids",
        "numbers-as-texts",
        "objects-as-lists",
        "odd-dates",
        "unknown-statuses",
        "tax-included",
        "sparse-orders",
        "no-totals",
        "short-lists",
        "redirects",
    ],
)
def test_a_hub_that_breaks_it_is_named(
    midas: Midas, settings: dict[str, str], world: World, habit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midas_pipelines.fourseller.conformance.LAG_SECONDS", 1.0)
    for number in range(12):
        world.sandbox.state.create({"sku": f"S{number}", "title": "T", "price": "1.00"}, None)
    world.place(("S1", 1), tracking={"carrier": "UPS"})
    world.habits(habit)
    ended = midas("contract", "test", "--json", **settings)
    assert ended.code == 1 or ended.json["findings"]


def test_in_shadow_mode_nothing_is_written(midas: Midas, settings: dict[str, str], world: World) -> None:
    shadow, ended = settings | {"MIDAS_SHADOW": "true"}, list[Any]()
    assert world.writes(lambda: ended.append(midas("contract", "test", "--json", **shadow))) == 0
    assert "MIDAS_SHADOW is on, so only reads are tried" in str(ended[0].json["tried"])


def test_what_production_found_is_listed_and_proposed(
    midas: Midas, settings: dict[str, str], world: World
) -> None:
    add_product(world.database, sku="SCR-1")
    world.full()
    for product in world.sandbox.state.products.values():
        product["vendor"] = "someone"
    world.full()
    world.full()
    (found,) = midas("contract", "list", "--json", **settings).json["findings"]
    assert (found["kind"], found["place"], found["example"], found["times"] > 1) == (
        "field",
        "data[].vendor",
        "someone",
        True,
    )
    assert "vendor:" in midas("contract", "diff", **settings).output
