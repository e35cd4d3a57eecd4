"""Product sync: what the shop changes is what 4Seller shows."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.storefront.catalog import UnknownSku
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines_tests.shop import add_category, add_image, add_product, add_variant, run
from midas_pipelines_tests.sync.world import World

Case = Callable[[World], None]


def settled(world: World) -> bool:
    """Whether both sides agree and nothing waits."""
    assert world.shown == world.wanted
    return world.dirty == 0


def test_a_first_full_sync_sends_one_write_per_item(world: World) -> None:
    parent = add_product(world.database)
    for _ in range(3):
        add_product(world.database)
        add_variant(world.database, parent)
    assert world.calls(world.full) == {"POST": 6, "GET": 1}
    assert settled(world)


def test_a_full_sync_opens_connections_for_what_it_may_push(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    monkeypatch.setattr(FourSeller, "open", lambda _, calls: opened.append(calls))
    for _ in range(3):
        add_product(world.database)
    world.changes = {"shadow": "true"}
    world.full()
    world.changes = {}
    world.full()
    world.full()
    assert opened == [0, 3, 0]


def test_a_second_full_sync_reads_and_writes_nothing(world: World) -> None:
    for number in range(4):
        product = add_product(world.database, description=f"Part <b>{number}</b>", weight=Decimal("0.50"))
        add_image(world.database, product)
    world.full()
    again = world.full()
    assert (again.scanned, again.unchanged, again.requests) == (4, 4, 1)
    assert world.calls(world.full) == {"GET": 1}
    assert world.calls(world.incremental) == {}


CHANGES: dict[str, dict[str, Any]] = {
    "a name": {"name": "Another name"},
    "a price": {"price": Decimal("12.34")},
    "a discount": {"discount_percentage": Decimal("12.50")},
    "a description": {"description": "Newly described"},
    "a brand": {"brand": "Pixel"},
    "the stock": {"stock_quantity": 77},
    "the stock to zero": {"stock_quantity": 0},
    "the SKU": {"sku": "RENAMED"},
    "a picture": {"image_url": "https://shop.example.com/2.jpg"},
    "a weight": {"weight": Decimal("0.25")},
}


def test_an_incremental_sync_pushes_one_change_with_one_write(world: World) -> None:
    changed = {add_product(world.database): columns for columns in CHANGES.values()}
    add_product(world.database)
    world.full()
    for product, columns in changed.items():
        world.set(product, **columns)
    assert world.dirty == len(changed)
    assert world.writes(world.incremental) == len(changed)
    assert settled(world)


def test_a_stock_change_travels_as_a_quantity_alone(world: World) -> None:
    product = add_product(world.database)
    world.full()
    world.set(product, stock_quantity=3)
    assert world.calls(world.incremental) == {"PATCH": 1}


def test_a_renamed_category_reaches_each_of_its_items(world: World) -> None:
    category = add_category(world.database)
    for _ in range(2):
        add_product(world.database, category_id=category)
    world.full()
    run(world.database, "UPDATE categories SET name = 'Displays' WHERE id = :id", id=category)
    assert world.writes(world.incremental) == 2
    assert {one["category"] for one in world.listed.values()} == {"Displays"}


TAKEN_OFF: dict[str, Callable[[World, int], None]] = {
    "archived": lambda world, product: world.set(product, status="archived"),
    "a draft": lambda world, product: world.set(product, status="draft"),
    "removed": World.remove,
}


@pytest.mark.parametrize("take_off", TAKEN_OFF.values(), ids=TAKEN_OFF)
def test_what_the_shop_no_longer_sells_leaves_4seller(
    world: World, take_off: Callable[[World, int], None]
) -> None:
    product = add_product(world.database)
    add_product(world.database)
    world.full()
    take_off(world, product)
    report = world.incremental()
    assert (report.deleted, len(world.listed)) == (1, 1)
    assert settled(world)
    assert world.writes(world.full) == 0


@pytest.mark.parametrize("sync", [World.incremental, World.full], ids=["incremental", "full"])
def test_a_restored_product_is_listed_anew(world: World, sync: Case) -> None:
    product = add_product(world.database)
    world.full()
    world.set(product, status="archived")
    sync(world)
    world.set(product, status="active")
    sync(world)
    assert settled(world)
    assert len(world.listed) == 1


def test_a_product_without_a_price_never_reaches_4seller_and_leaves_nothing_when_removed(
    world: World,
) -> None:
    product = add_product(world.database, price=Decimal(0))
    world.full()
    world.remove(product)
    assert world.writes(world.full) == 0
    assert world.mapping(product).state == "removed"


def test_variants_appear_and_take_the_place_of_their_product(world: World) -> None:
    product = add_product(world.database)
    world.full()
    add_variant(world.database, product)
    add_variant(world.database, product)
    world.incremental()
    assert len(world.listed) == 2
    assert settled(world)


def test_variants_disappear_and_the_product_is_sold_again(world: World) -> None:
    product = add_product(world.database)
    variants = [add_variant(world.database, product) for _ in range(2)]
    world.full()
    for variant in variants:
        run(world.database, "DELETE FROM product_variants WHERE id = :id", id=variant)
    world.incremental()
    assert len(world.listed) == 1
    assert settled(world)


def test_a_variant_that_moves_to_another_product_keeps_its_listing(world: World) -> None:
    first, second = add_product(world.database), add_product(world.database)
    variant = add_variant(world.database, first)
    world.full()
    before = world.mapping(first, variant).fourseller_product_id
    world.set_variant(variant, product_id=second)
    world.incremental()
    assert settled(world)
    assert world.mapping(second, variant).fourseller_product_id == before


@pytest.mark.both_databases
@pytest.mark.parametrize("sync", [World.incremental, World.full], ids=["incremental", "full"])
def test_two_items_swap_their_skus(world: World, sync: Case) -> None:
    one, two = add_product(world.database, sku="A"), add_product(world.database, sku="B")
    world.full()
    for sku, product in ((None, one), ("A", two), ("B", one)):
        world.set(product, sku=sku)
    sync(world)
    sync(world)
    assert settled(world)


@pytest.mark.parametrize("sync", [World.incremental, World.full], ids=["incremental", "full"])
def test_items_far_apart_swap_their_skus_across_batches(world: World, sync: Case) -> None:
    ids = [add_product(world.database) for _ in range(6)]
    world.changes |= {"in_flight": 1, "products_batch": 2}
    world.full()
    world.set(ids[0], sku=None)
    world.set(ids[5], sku=None, price=Decimal("7.00"))
    world.set(ids[0], sku="LAST")
    world.set(ids[5], sku="FIRST")
    sync(world)
    assert settled(world)
    assert len(world.listed) == 6


@pytest.mark.both_databases
@pytest.mark.parametrize("archive_first", [False, True], ids=["removed", "archived and renamed"])
def test_a_sku_handed_on_keeps_its_4seller_product(world: World, archive_first: bool) -> None:
    old = add_product(world.database, sku="HANDED")
    world.full()
    before = world.listed["HANDED"]["id"]
    if archive_first:
        world.set(old, status="archived", sku=None)
    else:
        world.remove(old)
    add_product(world.database, sku="HANDED", price=Decimal("99.00"))
    world.incremental()
    world.incremental()
    assert settled(world)
    assert world.listed["HANDED"]["id"] == before


def test_a_sku_that_an_archived_product_keeps_may_be_sold_as_a_variant(world: World) -> None:
    old = add_product(world.database, sku="SHARED")
    world.full()
    world.set(old, status="archived")
    add_variant(world.database, add_product(world.database), sku="SHARED")
    world.incremental()
    world.incremental()
    assert settled(world)
    assert "SHARED" in world.listed


def test_a_product_and_a_variant_that_share_a_sku_do_not_both_get_it(world: World) -> None:
    add_product(world.database, sku="SHARED")
    parent = add_product(world.database)
    variant = add_variant(world.database, parent, sku="SHARED")
    add_variant(world.database, parent)
    report = world.full()
    assert (report.created, report.quarantined) == (2, 1)
    assert "another item's too" in world.mapping(parent, variant).reason
    assert len(world.listed) == 2
    assert world.full().quarantined == 1


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a null SKU": ({"sku": None}, "has no SKU"),
    "a blank SKU": ({"sku": "  "}, "has no SKU"),
    "an empty name": ({"name": ""}, "name is empty"),
    "a blank name": ({"name": " \t "}, "name is empty"),
    "price zero": ({"price": Decimal(0)}, "price above zero"),
    "a negative price": ({"price": Decimal("-1.00")}, "price above zero"),
    "everything off": ({"discount_percentage": Decimal(100)}, "discount below 100"),
}


def test_what_cannot_be_listed_is_set_aside_with_its_reason(world: World) -> None:
    reasons = {add_product(world.database, **columns): reason for columns, reason in HOSTILE.values()}
    add_product(world.database)
    report = world.full()
    assert (report.created, report.quarantined, report.scanned) == (1, len(reasons), len(reasons) + 1)
    for product, reason in reasons.items():
        assert reason in world.mapping(product).reason
    assert (world.full().quarantined, world.dirty) == (len(reasons), 0)


@pytest.mark.both_databases
def test_a_name_of_300_characters_is_set_aside_where_the_column_holds_it(world: World) -> None:
    cut = "x" * (255 if world.database.is_postgresql else 300)
    add_product(world.database, name=cut)
    add_product(world.database)
    assert world.full().created == (2 if world.database.is_postgresql else 1)
    assert settled(world)


@pytest.mark.only_on("sqlite")  # PostgreSQL's column holds 50 characters
def test_a_sku_longer_than_4seller_takes_blocks_nobody(world: World) -> None:
    product = add_product(world.database, sku="S" * 120)
    add_product(world.database)
    assert (world.full().created, world.mapping(product).state) == (1, "quarantined")


@pytest.mark.only_on("sqlite")  # PostgreSQL's column holds 255 characters
def test_a_title_limit_above_the_contract_blocks_nobody(world: World) -> None:
    product = add_product(world.database, name="x" * 600)
    add_product(world.database)
    world.sync_context(title_limit=1000)
    assert (world.full().created, world.mapping(product).state) == (1, "quarantined")


ODD: list[dict[str, Any]] = [
    {"stock_quantity": 0},
    {"stock_quantity": -4},
    {"name": "<script>alert('x')</script> & co", "description": "<p>ü</p>"},
    {"name": "Screen 📱 für Ärzte", "description": "👩‍👩‍👧‍👦" * 50},
    {"name": "شاشة هاتف", "sku": "شاشة-1"},
    {"sku": "A&B=?#/%20+ü"},
    {"sku": "A  B"},
    {"price": Decimal("0.01")},
    {"price": Decimal("99999999.99")},
    {"price": Decimal("10000.00"), "discount_percentage": Decimal("99.99")},
    {"image_url": ""},
    {"name": "  two \n lines  "},
]


@pytest.mark.both_databases
def test_odd_but_sellable_rows_are_listed_once(world: World) -> None:
    for columns in ODD:
        add_product(world.database, **columns)
    world.full()
    assert settled(world)
    assert world.writes(world.full) == 0


@pytest.mark.only_on("sqlite")  # PostgreSQL holds no NUL
def test_a_nul_in_a_text_is_listed_where_the_database_holds_it(world: World) -> None:
    add_product(world.database, description="a\x00b")
    world.full()
    assert settled(world)
    assert world.writes(world.full) == 0


@pytest.mark.both_databases
def test_a_shop_without_a_status_column_sells_everything(world: World) -> None:
    run(world.database, "ALTER TABLE products DROP COLUMN status")
    run(
        world.database,
        "INSERT INTO products (name, slug, sku, price, stock_quantity) VALUES ('P', 'p', 'P', 3, 4)",
    )
    world.full()
    assert world.shown == {"P": ("P", Decimal("3.00"), 4)}


def test_a_listed_item_that_became_unlistable_keeps_a_true_quantity(world: World) -> None:
    product = add_product(world.database, sku="S")
    world.full()
    world.set(product, price=Decimal(0), stock_quantity=1)
    assert world.incremental().quarantined == 0  # its quantity was pushed
    assert world.listed["S"]["inventory"]["quantity"] == 1
    assert (world.mapping(product).state, world.dirty) == ("quarantined", 0)
    world.set(product, price=Decimal("5.00"))
    world.incremental()
    assert settled(world)


# adoption


def test_what_4seller_has_under_the_sku_is_adopted(world: World) -> None:
    add_product(world.database, sku="MINE")
    before = world.sandbox.state.create({"sku": "MINE", "title": "Older", "price": "1.00"})["id"]
    report = world.full()
    assert (report.adopted, report.created, world.listed["MINE"]["id"]) == (1, 0, before)
    assert settled(world)


@pytest.mark.parametrize("sync", [World.incremental, World.full], ids=["incremental", "full"])
def test_what_is_adopted_and_equal_already_is_not_written(world: World, sync: Case) -> None:
    product = add_product(world.database)
    world.full()
    run(world.database, "DELETE FROM fourseller_product_mappings")
    run(
        world.database,
        "INSERT INTO fourseller_product_mappings (product_id) SELECT id FROM products",
    )
    assert world.writes(lambda: sync(world)) == 0
    assert world.mapping(product).state == "listed"
    assert settled(world)


# which items


def test_a_plan_says_what_a_sync_would_do_and_sends_nothing(world: World) -> None:
    products = [add_product(world.database) for _ in range(3)]
    unlisted = add_product(world.database, sku=None)
    assert world.calls(lambda: make_plan(world.sync_context())) == {}
    world.full()
    world.set(products[0], status="archived")
    world.set(products[1], stock_quantity=1)
    world.set(products[2], price=Decimal("3.00"))
    world.set(unlisted, price=Decimal("3.00"))
    plan = make_plan(world.sync_context(), dirty_only=True)
    assert [row["action"] for row in plan.rows] == ["delete", "quantity", "update", "quarantined"]
    assert "no longer sold" in str(plan.rows[0]["reason"])
    assert "no SKU" in str(plan.rows[-1]["reason"])
    counts = {"scanned": 4, "created": 0, "updated": 2, "deleted": 1, "unchanged": 0, "quarantined": 1}
    assert (plan.counts, world.calls()) == (counts, {"GET": 1, "POST": 3})
    assert world.dirty == 4


def test_asked_for_by_sku_only_these_items_are_synced(world: World) -> None:
    for sku in ("A", "B", "C"):
        add_product(world.database, sku=sku)
    report = world.incremental(skus=["B"])
    assert (report.scanned, report.created, list(world.listed)) == (1, 1, ["B"])
    assert world.dirty == 2


def test_an_unknown_sku_is_named(world: World) -> None:
    add_product(world.database, sku="A")
    with pytest.raises(UnknownSku, match="NOPE"):
        world.incremental(skus=["A", "NOPE"])
    assert world.calls() == {}


def test_an_item_that_slipped_past_the_triggers_can_be_asked_for_by_sku(world: World) -> None:
    add_product(world.database, sku="A")
    run(world.database, "DELETE FROM fourseller_product_mappings")
    world.incremental(skus=["A"])
    assert list(world.listed) == ["A"]


def test_an_incremental_sync_touches_only_what_is_dirty(world: World) -> None:
    ids = [add_product(world.database) for _ in range(20)]
    world.full()
    world.set(ids[7], stock_quantity=1)
    report = world.incremental()
    assert (report.scanned, report.updated, report.requests) == (1, 1, 1)


# edits on 4Seller itself

EDITS: dict[str, dict[str, Any]] = {
    "the price": {"price": "0.99"},
    "a price of 4 decimals": {"price": "9.9999"},
    "a price beyond the shop's columns": {"price": "999999999999.00"},
    "the quantity": {"inventory": {"quantity": 999}},
    "the title": {"title": "Bought elsewhere"},
    "no description": {"description": None},
    "the SKU": {"sku": "STOLEN"},
}


def test_an_edit_made_on_4seller_is_healed_by_a_full_sync(world: World) -> None:
    for _ in EDITS:
        add_product(world.database, description="As it is")
    world.full()
    there = world.sandbox.state.products
    for product, fields in zip(list(there), EDITS.values(), strict=True):
        world.sandbox.state.edit(product, fields)
    assert world.full().updated == len(EDITS)
    assert settled(world)
    assert {product.get("description") for product in there.values()} == {"As it is"}


def test_a_product_deleted_on_4seller_is_listed_anew_by_a_full_sync(world: World) -> None:
    for _ in range(3):
        add_product(world.database)
    world.full()
    world.sandbox.state.remove(next(iter(world.sandbox.state.products)))
    assert world.full().created == 1
    assert settled(world)


def test_a_product_deleted_on_4seller_is_listed_anew_once_it_is_pushed(world: World) -> None:
    product = add_product(world.database)
    world.full()
    world.sandbox.state.clear()
    world.set(product, stock_quantity=2)
    world.incremental()
    world.incremental()
    assert settled(world)


# counting


def test_each_scanned_item_is_counted_once(world: World) -> None:
    add_product(world.database, price=Decimal(0))
    refused = add_product(world.database, sku="REFUSED")
    changed = add_product(world.database)
    add_product(world.database)
    world.full()
    world.refuse(422, "REFUSED")
    world.set(refused, name="Refused")
    world.set(changed, stock_quantity=1)
    report = world.full()
    assert (report.scanned, report.unchanged, report.updated, report.quarantined) == (4, 1, 1, 2)
    again = world.full()
    assert (again.scanned, again.unchanged, again.updated, again.quarantined) == (4, 2, 0, 2)


def test_an_item_whose_sku_went_to_another_and_that_has_no_price_is_taken_off_and_set_aside(
    world: World,
) -> None:
    one, two = add_product(world.database, sku="A"), add_product(world.database, sku="B")
    world.full()
    world.set(one, sku=None, price=Decimal(0))
    world.set(two, sku="A")
    for _ in range(2):
        world.incremental()
    assert world.shown == world.wanted
    assert (world.mapping(one).state, world.dirty) == ("quarantined", 0)
