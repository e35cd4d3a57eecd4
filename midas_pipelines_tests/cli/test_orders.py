"""`midas orders` as an operator uses it."""

from __future__ import annotations

import pytest

from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

UPS = "1Z999AA10123456784"


@pytest.fixture
def sold(world: World) -> str:
    """An imported order for 2 of A and 1 of a SKU that the shop does not have."""
    add_product(world.database, sku="A", stock_quantity=10)
    order_id = world.place(("A", 2), ("STRANGE", 1), customer={"email": "ann@home.example", "name": "Ann"})
    world.import_orders()
    return order_id


def test_an_order_is_mapped_shipped_told_and_its_story_is_whole(
    midas: Midas, settings: dict[str, str], world: World, sold: str
) -> None:
    listed = midas("orders", "list", "--exception", "unmapped", "--json", **settings).json["orders"]
    assert [(row["marketplace_order_id"], row["exception"]) for row in listed] == [(sold, "unmapped")]
    add_product(world.database, sku="B", stock_quantity=1)
    assert midas("orders", "map", sold, "--line", "2", "--sku", "B", **settings).code == 0
    shipped = midas("orders", "ship", f"4S-{sold}", "--carrier", "ups", "--number", UPS, "--json", **settings)
    assert (shipped.json["complete"], shipped.json["unpushed"]) == (True, None)
    local = value(world.database, "SELECT local_order_id FROM marketplace_orders")
    story = midas("orders", "show", str(local), "--json", **settings).json
    what = [entry["what"] for entry in story["entries"]]
    for step in (
        "imported",
        "deducted",
        "unmapped",
        "stock: sale",
        "mapped",
        "shipped",
        "shipment",
        "tracking_pushed",
    ):
        assert step in what, step
    assert "ann@home" not in str(story)
    assert world.sandbox.state.orders[sold]["tracking"]["number"] == UPS


def test_people_read_the_story_as_a_table(midas: Midas, settings: dict[str, str], sold: str) -> None:
    told = midas("orders", "show", sold, **settings)
    assert (told.code, told.errors) == (0, "")
    assert "Needs a person: unmapped" in told.output
    assert "What happened" in told.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "nothing"), "No imported order has the id nothing"),
        (
            ("ship", "{id}", "--carrier", "UPS", "--number", "2Z999AA10123456784"),
            "does not look like a UPS number",
        ),
        (("ship", "{id}", "--carrier", "UPS", "--number", UPS, "--line", "9"), "has no line 9"),
        (("ship", "{id}", "--carrier", "UPS", "--number", UPS, "--line", "1=7"), "2 left to ship"),
        (("map", "{id}", "--line", "2", "--sku", "NONE"), "No item of the shop has the SKU NONE"),
        (("retry", "nothing"), "No imported order"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    midas: Midas, settings: dict[str, str], sold: str, arguments: tuple[str, ...], sentence: str
) -> None:
    told = midas("orders", *(part.format(id=sold) for part in arguments), **settings)
    assert told.code == 2
    assert sentence in told.errors
    assert "Traceback" not in told.errors


def test_a_return_and_a_settled_conflict(
    midas: Midas, settings: dict[str, str], world: World, sold: str
) -> None:
    desk.pack(world, sold)
    world.sandbox.state.move(sold, "cancelled")
    world.import_orders()
    assert midas("orders", "list", "--exception", "conflict", "--json", **settings).json["orders"]
    assert midas("orders", "resolve", sold, "--as", "cancelled", "--restock", **settings).code == 0
    assert midas("orders", "return", sold, "--json", **settings).json["units"] == 0
    assert rows(world.database, "SELECT stock_quantity FROM products") == [(10,)]
    assert midas("orders", "list", "--exception", "conflict", "--json", **settings).json["orders"] == []


def test_retry_reads_the_order_again(midas: Midas, settings: dict[str, str], world: World, sold: str) -> None:
    add_product(world.database, sku="STRANGE", stock_quantity=4)
    done = midas("orders", "retry", sold, "--json", **settings).json
    assert (done["mapped"], done["exception"]) == (1, None)
    del world.sandbox.state.orders[sold]
    gone = midas("orders", "retry", sold, **settings)
    assert (gone.code, "4Seller has no order" in gone.errors) == (2, True)
