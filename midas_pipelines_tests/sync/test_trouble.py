"""Product sync when 4Seller fails, refuses, forgets or lies: nothing twice, nothing lost, nobody blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from midas_pipelines.fourseller.errors import BadCredentials
from midas_pipelines.sandbox.state import Json, Refused
from midas_pipelines.settings import load_settings
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines.sync.product_sync import sync_products
from midas_pipelines_tests.shop import add_product, add_variant, rows, run, value
from midas_pipelines_tests.sync.world import World


def stock_up(world: World, number: int = 20) -> list[int]:
    """So many products."""
    return [add_product(world.database, sku=f"S{place:02}") for place in range(number)]


def run_until_equal(world: World, most: int) -> int:
    """Full syncs until both sides agree; returns how many it took, and fails beyond `most`."""
    for number in range(1, most + 1):
        try:
            world.full()
        except ChannelDown:
            continue
        if world.shown == world.wanted and not world.dirty:
            return number
    raise AssertionError(f"not equal after {most} runs: {world.dirty} dirty")


# faults


@pytest.mark.both_databases
def test_faults_of_every_kind_converge_without_duplicates(world: World) -> None:
    world.changes["brake_percent"] = 100  # half of the items are repriced below
    products = stock_up(world, 20)
    world.sandbox.state.honour_idempotency_key = False  # the harder case: each create is sent but once
    kinds = ("s500", "s503", "reset_before", "reset_after_apply", "garbage", "truncated")
    world.faults(**dict.fromkeys(kinds, 0.2 / len(kinds)))
    run_until_equal(world, most=4)
    world.changes |= {"brake_percent": 100}  # half of the prices move on purpose
    for product in products[::2]:
        world.set(product, stock_quantity=1, price=Decimal("3.00"))
    world.remove(products[1])
    run_until_equal(world, most=4)


@pytest.mark.parametrize("fault", ["reset-after-apply", "500"])
@pytest.mark.parametrize("sync", [World.incremental, World.full], ids=["incremental", "full"])
def test_a_create_whose_answer_was_lost_is_not_sent_again(
    world: World, sync: Callable[[World], None], fault: str
) -> None:
    stock_up(world, 1)
    world.sandbox.state.honour_idempotency_key = False
    world.sandbox.faults.script([None, fault])  # a look, the create
    sync(world)
    world.full()
    assert world.shown == world.wanted


def test_half_of_the_items_failing_leave_the_other_half_done(world: World) -> None:
    stock_up(world, 40)
    world.refuse(500, *(f"S{place:02}" for place in range(20)))
    world.sync_context(failures_in_a_row=5)
    report = world.full()
    assert (report.created, report.failed, world.dirty) == (20, 20, 20)
    world.refused.clear()
    assert world.full().created == 20
    assert world.shown == world.wanted


@pytest.mark.parametrize("sync", [World.incremental, World.full], ids=["incremental", "full"])
def test_4seller_down_ends_the_run_early_and_everything_stays_dirty(
    world: World, sync: Callable[[World], None]
) -> None:
    stock_up(world, 40)
    world.sync_context(failures_in_a_row=3)
    world.faults(s503=1.0)
    with pytest.raises(ChannelDown):
        sync(world)
    assert sum(world.calls().values()) < 60
    assert world.dirty == 40
    assert value(world.database, "SELECT outcome FROM fourseller_sync_logs") == "failed"
    world.faults()
    assert world.full().created == 40


def test_going_down_midway_keeps_what_was_done(world: World) -> None:
    stock_up(world, 40)
    world.sync_context(failures_in_a_row=3, in_flight=1)
    script: list[str | None] = [None] * 41 + ["503"] * 400  # each item takes a look and a create
    world.sandbox.faults.script(script)
    with pytest.raises(ChannelDown):
        world.incremental()
    assert (len(world.listed), world.dirty) == (20, 20)
    assert value(world.database, "SELECT max(attempts) FROM fourseller_product_mappings") == 1


def test_bad_credentials_stop_the_run_at_once_with_one_sentence(world: World) -> None:
    stock_up(world, 40)
    wrong = world.settings.model_dump() | {"fourseller_api_key": "wrong-key"}
    context = SyncContext(load_settings(**wrong), world.database)
    with pytest.raises(BadCredentials, match="check FOURSELLER_API_KEY"):
        asyncio.run(sync_products(context))
    assert sum(world.calls().values()) <= 8  # one for each that was in flight
    assert world.dirty == 40
    assert value(world.database, "SELECT max(attempts) FROM fourseller_product_mappings") == 0
    (reason,) = rows(world.database, "SELECT reason FROM fourseller_sync_logs")[0]
    assert "wrong-key" not in reason


def test_every_failed_call_is_on_record(world: World) -> None:
    stock_up(world, 3)
    world.refuse(500, "S00")
    world.full()
    found = rows(world.database, "SELECT DISTINCT endpoint, status, item FROM fourseller_api_errors")
    assert [tuple(row) for row in found] == [("POST /products", 500, "S00")]


# refusals


def test_a_refused_item_is_set_aside_until_it_changes(world: World) -> None:
    product, _ = stock_up(world, 2)
    world.refuse(422, "S00")
    report = world.full()
    assert (report.created, report.quarantined) == (1, 1)
    assert "category is closed" in world.mapping(product).reason
    assert world.writes(world.full) == world.writes(world.incremental) == 0
    world.refused.clear()
    world.set(product, name="Corrected")
    world.incremental()
    assert world.shown == world.wanted


@pytest.mark.parametrize("sync", [World.incremental, World.full], ids=["incremental", "full"])
def test_a_listed_item_whose_new_content_is_refused_keeps_a_true_quantity(
    world: World, sync: Callable[[World], None]
) -> None:
    (product,) = stock_up(world, 1)
    world.full()
    world.refuse(422, "S00")
    world.set(product, name="Refused", stock_quantity=1)
    sync(world)
    assert world.listed["S00"]["inventory"]["quantity"] == 1
    world.set(product, stock_quantity=0)
    sync(world)
    assert world.listed["S00"]["inventory"]["quantity"] == 0
    assert (world.mapping(product).state, world.dirty) == ("quarantined", 0)


def test_a_refused_and_removed_item_leaves_nothing_behind(world: World) -> None:
    (product,) = stock_up(world, 1)
    world.sandbox.state.create({"sku": "S00", "title": "Older", "price": "1.00"})
    world.refuse(422, "S00")
    world.full()
    world.remove(product)
    world.incremental()
    assert world.listed == {}


def test_a_conflict_on_create_adopts_what_is_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stock_up(world, 2)
    state = world.sandbox.state
    create = state.create

    def once(draft: Json, key: str | None = None) -> Json:
        if state.with_sku(draft["sku"]):
            raise Refused(409, "sku_exists", "A product with this SKU exists.")
        return create(draft, key)

    monkeypatch.setattr(state, "create", once)
    world.sandbox.faults.script([None, "reset-after-apply"])
    world.full()
    world.full()
    assert world.shown == world.wanted


# back-off


def test_failures_back_off_across_runs_and_end_set_aside(world: World) -> None:
    (product,) = stock_up(world, 1)
    world.refuse(500, "S00")
    world.sync_context(most_attempts=3)
    world.incremental()
    assert (world.mapping(product).attempts, world.mapping(product).next_attempt_at) == (1, None)
    world.incremental()
    assert world.mapping(product).next_attempt_at is not None
    assert world.calls(world.incremental) == {}
    world.full()
    last = world.mapping(product)
    assert (last.state, last.attempts, last.dirty_since) == ("quarantined", 3, None)
    assert world.writes(world.full) == 0


def test_an_item_given_up_starts_anew_once_it_changes(world: World) -> None:
    (product,) = stock_up(world, 1)
    world.refuse(500, "S00")
    world.sync_context(most_attempts=2)
    for _ in range(2):
        world.incremental()
    assert world.mapping(product).state == "quarantined"
    world.set(product, name="Changed")
    world.incremental()
    assert (world.mapping(product).attempts, world.dirty) == (1, 1)
    world.refused.clear()
    world.incremental()
    assert world.shown == world.wanted
    assert (world.mapping(product).attempts, world.mapping(product).state) == (0, "listed")


def test_an_inventory_push_does_not_reset_the_back_off_of_failing_content(world: World) -> None:
    (product,) = stock_up(world, 1)
    world.full()
    world.refuse(500, "S00")
    world.set(product, name="Failing", stock_quantity=2)
    for _ in range(2):
        world.incremental()
        world.inventory(ignore_delays=True)
    assert world.listed["S00"]["inventory"]["quantity"] == 2
    assert world.mapping(product).attempts == 2
    assert world.mapping(product).next_attempt_at is not None


def test_a_429_costs_no_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        world.sandbox.faults, "coin", lambda: False
    )  # Retry-After in seconds: a date rounds up
    (product,) = stock_up(world, 1)
    world.full()
    world.set(product, stock_quantity=1)
    world.sandbox.faults.script(["429"])
    world.incremental()
    assert (world.mapping(product).attempts, world.shown == world.wanted) == (0, True)


# listings that were cut short


def test_a_listing_cut_short_deletes_and_forgets_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock_up(world, 12)
    world.full()

    def half(call: Any) -> Json:
        page = world.sandbox._list(call)
        return page | {"data": page["data"][:6], "total": 6 if page["offset"] else 12}

    monkeypatch.setitem(world.sandbox._run, "listProducts", half)
    assert world.writes(world.full) == 0
    tied = "SELECT count(*) FROM fourseller_product_mappings WHERE fourseller_product_id IS NOT NULL"
    assert value(world.database, tied) == 12


def test_a_page_that_fails_forgets_nothing(world: World) -> None:
    for number in range(105):
        run(
            world.database,
            "INSERT INTO products (name, slug, sku, price, stock_quantity) VALUES ('P', :s, :s, 3, 4)",
            s=f"P{number:03}",
        )
    world.full()
    script: list[str | None] = [None, "503", "503", "503"]
    world.sandbox.faults.script(script)
    report = world.full()
    assert (report.created, report.updated, report.deleted, report.unchanged) == (0, 0, 0, 105)
    assert len(world.listed) == 105


# changes made while a push is under way


def test_an_item_that_changes_during_its_push_stays_dirty(world: World) -> None:
    (product,) = stock_up(world, 1)
    world.full()
    replaced = world.sandbox.state.set_quantity

    def meanwhile(product_id: str, quantity: int) -> Json:
        world.set(product, stock_quantity=9)
        world.sandbox.state.__dict__.pop("set_quantity")
        return replaced(product_id, quantity)

    world.set(product, stock_quantity=10)
    world.sandbox.state.set_quantity = meanwhile  # type: ignore[method-assign]
    world.incremental()
    after = world.mapping(product)
    assert (after.acked_quantity, world.dirty) == (10, 1)
    assert after.acked_version < after.version
    world.incremental()
    assert world.shown == world.wanted


def test_a_failing_item_that_changes_during_its_last_attempt_stays_dirty(world: World) -> None:
    (product,) = stock_up(world, 1)
    world.sync_context(most_attempts=1)

    class Meanwhile(dict[str, int]):
        def __contains__(self, sku: object) -> bool:
            world.set(product, stock_quantity=9)
            return True

        def __getitem__(self, sku: str) -> int:
            return 500

    world.refused = Meanwhile()
    world.incremental()
    assert world.dirty == 1
    world.refused = {}
    world.incremental()
    assert world.shown == world.wanted


@pytest.mark.parametrize("push", [World.incremental, World.inventory], ids=["products", "inventory"])
def test_ten_nine_ten_are_three_versions(world: World, push: Callable[[World], None]) -> None:
    product = add_product(world.database, stock_quantity=10)
    world.full()
    seen = [world.mapping(product).acked_version]
    for quantity in (9, 10):
        world.set(product, stock_quantity=quantity)
        push(world)
        assert world.shown == world.wanted
        seen.append(world.mapping(product).acked_version)
    assert seen == sorted(set(seen))


# inventory pushes


def test_an_inventory_push_sends_quantities_and_leaves_content_to_the_product_sync(world: World) -> None:
    first, second, third = stock_up(world, 3)
    world.full()
    add_product(world.database)
    world.set(first, stock_quantity=1)
    world.set(second, stock_quantity=2, name="New name")
    world.set(third, status="archived")
    report = world.inventory()
    assert (report.pushed, world.calls()["PATCH"]) == (2, 2)
    assert len(world.listed) == 3
    assert world.dirty == 3
    world.incremental()
    assert world.shown == world.wanted


def test_a_hundred_stock_changes_cost_one_write(world: World) -> None:
    (product,) = stock_up(world, 1)
    world.full()
    for quantity in range(100):
        world.set(product, stock_quantity=quantity)
    assert world.writes(world.inventory) == 1


def test_an_inventory_push_of_a_removed_product_lists_it_anew_later(world: World) -> None:
    (product,) = stock_up(world, 1)
    world.full()
    world.sandbox.state.clear()
    world.set(product, stock_quantity=1)
    world.inventory()
    world.incremental()
    assert world.shown == world.wanted


RENAMES: dict[str, Callable[[World, int], None]] = {
    "renamed": lambda world, product: world.set(product, sku="NEW"),
    "without a SKU": lambda world, product: world.set(product, sku=None),
    "without a price": lambda world, product: world.set(product, price=Decimal(0)),
    "removed": lambda world, product: world.remove(product),
    "sold by variant": lambda world, product: add_variants(world, product),
}


def add_variants(world: World, product: int) -> None:
    """One variant, under a SKU of its own."""
    add_variant(world.database, product, sku="VARIANT")


@pytest.mark.parametrize("handed_on", [False, True], ids=["", "and its SKU handed on"])
@pytest.mark.parametrize("change", RENAMES.values(), ids=RENAMES)
def test_an_item_that_changes_while_its_create_is_in_doubt_leaves_no_orphan(
    world: World, change: Callable[[World, int], None], handed_on: bool
) -> None:
    (product,) = stock_up(world, 1)
    fates: list[str | None] = [None, "reset-after-apply", *["503"] * 9]
    world.sandbox.faults.script(fates)
    world.incremental()
    world.faults()
    assert (len(world.listed), world.mapping(product).fourseller_product_id) == (1, None)
    change(world, product)
    if handed_on and change is not RENAMES["without a price"]:
        world.set(product, sku=None) if change is RENAMES["sold by variant"] else None
        add_product(world.database, sku="S00")
    for _ in range(3):
        world.full()
    assert world.shown == world.wanted
    assert world.dirty == 0


REVERTED: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "the quantity": ({"stock_quantity": 9}, {"stock_quantity": 5}),
    "the price": ({"price": Decimal("9.00")}, {"price": Decimal("10.00")}),
    "the SKU": ({"sku": "OTHER"}, {"sku": "S00"}),
    "whether it is sold": ({"status": "archived"}, {"status": "active"}),
}


@pytest.mark.parametrize(("there", "back"), REVERTED.values(), ids=REVERTED)
@pytest.mark.parametrize("push", [World.incremental, World.inventory], ids=["products", "inventory"])
def test_a_change_whose_answer_was_lost_and_that_is_taken_back_is_pushed_back(
    world: World,
    push: Callable[[World], None],
    there: dict[str, object],
    back: dict[str, object],
) -> None:
    (product,) = stock_up(world, 1)
    world.full()
    world.set(product, **there)
    world.sandbox.faults.script(["reset-after-apply"] * 3)
    world.incremental()
    world.faults()
    world.set(product, **back)
    push(world)
    for _ in range(2):
        world.incremental()
    assert world.shown == world.wanted
    assert world.dirty == 0
