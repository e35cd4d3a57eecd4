"""Reconciliation: what 4Seller shows otherwise is found, told, and settled by the policy that counts for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.listed import ListedProducts, Listing
from midas_pipelines.fourseller.models import Product
from midas_pipelines.notify.alerts import hub_ahead
from midas_pipelines.sandbox.state import Refused
from midas_pipelines.store.items.acknowledge import PREVIEW
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.operations.cursors import keep_clock
from midas_pipelines.store.stock.ledger import unexplained_stock
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.reconcile import apply
from midas_pipelines.sync.reconcile.conflicts import NoSuchConflict, pin_field, release_pin, resolve
from midas_pipelines.sync.reconcile.product_events import EventResult, handle_product_event
from midas_pipelines.sync.reconcile.report import ReconcileReport
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.world import World


def reconciled(world: World, **options: Any) -> ReconcileReport:
    return asyncio.run(reconcile(world.sync_context(read_back_grace_seconds=0), **options))


def edit(world: World, sku: str, **fields: Any) -> None:
    """Somebody edits a product on 4Seller's own pages."""
    product = world.listed[sku]
    if "quantity" in fields:
        product["inventory"]["quantity"] = fields.pop("quantity")
    product.update(fields)


def drop(world: World, sku: str) -> None:
    """Somebody deletes a product on 4Seller's own pages."""
    world.sandbox.state.remove(world.listed[sku]["id"])


@pytest.fixture
def two(world: World) -> World:
    """Two items, both on 4Seller: A-1 with 5 at 10.00, and A-2."""
    add_product(world.database, sku="A-1", name="Screen")
    add_product(world.database, sku="A-2")
    world.full()
    return world


EDITS: dict[str, dict[str, Any]] = {
    "price": {"price": "99.00"},
    "quantity": {"quantity": 77},
    "content": {"title": "Better screen"},
}
"""What somebody edits on 4Seller's own pages, by the field in which it differs then."""


@pytest.fixture
def each(world: World) -> World:
    """An item for each edit, one to be deleted and one to be left alone, all on 4Seller."""
    for sku in (*EDITS, "listing", "ALONE"):
        add_product(world.database, sku=sku)
    world.full()
    return world


def edit_each(world: World, *fields: str) -> None:
    for field in fields:
        if field == "listing":
            drop(world, field)
        else:
            edit(world, field, **EDITS[field])


def test_many_differences_of_one_kind_leave_room_for_another(world: World) -> None:
    for number in range(PREVIEW + 2):
        add_product(world.database, sku=f"A-{number}")
    world.full()
    for number in range(PREVIEW + 1):
        edit(world, f"A-{number}", price="99.00")
    edit(world, f"A-{PREVIEW + 1}", quantity=77)
    told = [row["field"] for row in reconciled(world).worst]
    assert (told.count("price"), told.count("quantity")) == (PREVIEW, 1)


def test_both_in_step_is_all_equal_and_costs_one_read(two: World) -> None:
    report = reconciled(two)
    assert (report.scanned, report.equal, report.discrepancies, report.consistency) == (2, 2, 0, 1.0)
    assert report.requests == 1
    assert two.writes(lambda: reconciled(two)) == 0


def test_by_default_the_shop_wins_and_the_conflict_says_so(each: World) -> None:
    edit_each(each, *EDITS, "listing")
    report = reconciled(each)
    assert (report.discrepancies, report.resolved, report.open_conflicts) == (4, 4, 0)
    assert report.consistency == 0.2
    assert report.differing == dict.fromkeys((*EDITS, "listing"), 1)
    assert each.shown == each.wanted
    found = rows(each.database, "SELECT field, resolution, resolved_by FROM sync_conflicts")
    assert {tuple(row) for row in found} == {(field, "shop", "policy") for field in (*EDITS, "listing")}
    assert reconciled(each).consistency == 1.0


def test_manual_waits_and_no_sync_writes_over_it(each: World) -> None:
    set_rule(each.database, {"policy": "manual"})
    each.incremental()
    edit_each(each, *EDITS, "listing")
    before = each.shown
    assert reconciled(each).open_conflicts == 4
    each.full()
    each.incremental()
    assert reconciled(each).open_conflicts == 4
    assert each.shown == before
    assert value(each.database, "SELECT count(*) FROM alerts WHERE kind = 'conflict'") == 4
    found = rows(each.database, "SELECT field FROM sync_conflicts")
    assert sorted(field for (field,) in found) == sorted((*EDITS, "listing"))


@pytest.mark.parametrize("end", ["archived", "deleted", "excluded"])
def test_a_conflict_about_an_item_that_is_not_to_be_listed_any_more_closes(each: World, end: str) -> None:
    set_rule(each.database, {"policy": "manual"})
    each.incremental()
    edit_each(each, *EDITS, "listing")
    assert reconciled(each).open_conflicts == 4
    for sku in (*EDITS, "listing"):
        if end == "archived":
            run(each.database, "UPDATE products SET status = 'archived' WHERE sku = :sku", sku=sku)
        elif end == "deleted":
            run(each.database, "DELETE FROM products WHERE sku = :sku", sku=sku)
        else:
            set_rule(each.database, {"exclude": True}, sku=sku)
    assert reconciled(each).open_conflicts == 0
    assert value(each.database, "SELECT count(*) FROM alerts WHERE cleared_at IS NULL") == 0


@pytest.mark.parametrize("take", ["shop", "marketplace"])
def test_a_person_settles_a_conflict_either_way(each: World, take: str) -> None:
    original = each.shown
    set_rule(each.database, {"policy": "manual"})
    each.incremental()
    edit_each(each, *EDITS, "listing")
    edited = each.shown
    reconciled(each)
    for (conflict,) in rows(each.database, "SELECT id FROM sync_conflicts"):
        asyncio.run(resolve(each.sync_context(), conflict, take, "ann"))
    each.full()
    each.full()
    assert each.shown == (original if take == "shop" else edited)
    assert reconciled(each).open_conflicts == 0
    assert [tuple(row) for row in rows(each.database, "SELECT resolved_by FROM sync_conflicts")] == [
        ("ann",)
    ] * 4
    assert value(each.database, "SELECT count(*) FROM alerts WHERE cleared_at IS NULL") == 0


@pytest.mark.both_databases
def test_the_marketplaces_quantity_becomes_a_ledger_row_in_the_shop(two: World) -> None:
    set_rule(two.database, {"quantity_policy": "marketplace_wins", "buffer": 1})
    two.incremental()
    edit(two, "A-1", quantity=9)
    report = reconciled(two)
    assert (report.resolved, report.open_conflicts) == (1, 0)
    assert value(two.database, "SELECT stock_quantity FROM products WHERE sku = 'A-1'") == 10
    row = rows(two.database, "SELECT delta, source, cause FROM inventory_changes ORDER BY id DESC LIMIT 1")[0]
    assert tuple(row) == (5, "reconcile", "marketplace")
    assert unexplained_stock(two.database) == []
    two.full()
    assert two.shown["A-1"][2] == 9
    assert reconciled(two).discrepancies == 0


def test_the_marketplace_wins_its_price_words_and_absence(each: World) -> None:
    set_rule(each.database, {"policy": "marketplace_wins"})
    each.incremental()
    edit_each(each, "price", "content", "listing")
    edited = each.shown
    assert reconciled(each).resolved == 3
    each.full()
    assert each.shown == edited


def test_a_sale_that_is_not_imported_yet_is_nobodys_edit(two: World) -> None:
    set_rule(two.database, {"quantity_policy": "marketplace_wins"})
    two.incremental()
    two.place(("A-1", 2))
    edit(two, "A-1", quantity=3)
    report = reconciled(two)
    assert report.discrepancies == 0
    assert value(two.database, "SELECT stock_quantity FROM products WHERE sku = 'A-1'") == 3


def test_a_full_sync_takes_no_sale_for_an_edit_either(two: World) -> None:
    set_rule(two.database, {"quantity_policy": "marketplace_wins"})
    two.incremental()
    two.place(("A-1", 2))
    edit(two, "A-1", quantity=3)
    two.full()
    assert value(two.database, "SELECT stock_quantity FROM products WHERE sku = 'A-1'") == 3


def test_a_quantity_pushed_seconds_ago_and_read_back_old_is_no_conflict(two: World) -> None:
    run(two.database, "UPDATE products SET stock_quantity = 4 WHERE sku = 'A-1'")
    two.incremental()
    edit(two, "A-1", quantity=5, updated_at="2026-01-01T00:00:00Z")  # a copy that is behind
    report = asyncio.run(reconcile(two.sync_context(read_back_grace_seconds=60)))
    assert (report.discrepancies, report.changing) == (0, 1)
    assert rows(two.database, "SELECT 1 FROM sync_conflicts") == []


def test_within_the_grace_an_edit_that_4seller_dates_later_is_found(two: World) -> None:
    two.sandbox.state.set_quantity(two.listed["A-1"]["id"], 99)
    report = asyncio.run(reconcile(two.sync_context(read_back_grace_seconds=60)))
    assert (report.discrepancies, report.changing, report.consistency) == (1, 0, 0.5)
    assert two.shown == two.wanted


@pytest.mark.parametrize(("seconds", "found"), [(-30, (0, 1)), (30, (1, 0))])
def test_a_hub_whose_clock_is_an_hour_ahead_dates_its_changes_by_that_clock(
    two: World, monkeypatch: pytest.MonkeyPatch, seconds: int, found: tuple[int, int]
) -> None:
    with two.database.writing() as connection:
        keep_clock(connection, "4Seller", 3600.0)
    ahead = hub_ahead(two.database)
    assert ahead > timedelta(minutes=59)
    monkeypatch.setattr(apply, "hub_ahead", lambda _: ahead)  # the sandbox's own clock is measured again
    product = two.listed["A-1"]
    two.sandbox.state.set_quantity(product["id"], 99)
    dated = datetime.now(UTC) + timedelta(hours=1, seconds=seconds)
    two.sandbox.state.products[product["id"]]["updated_at"] = dated.isoformat()
    report = asyncio.run(reconcile(two.sync_context(read_back_grace_seconds=60)))
    assert (report.discrepancies, report.changing) == found


def test_a_product_without_quantity_or_price_is_not_seen_and_its_quantity_is_pushed(two: World) -> None:
    del two.listed["A-1"]["inventory"]
    two.listed["A-2"]["price"] = None
    report = reconciled(two)
    assert (report.not_seen, report.discrepancies, report.consistency) == (2, 0, None)
    assert two.listed["A-1"]["inventory"]["quantity"] == 5
    assert rows(two.database, "SELECT 1 FROM sync_conflicts") == []
    two.sandbox.calls.clear()
    assert (reconciled(two).not_seen, two.writes()) == (1, 0)  # a price that is never shown costs no writes


@pytest.mark.parametrize(
    ("quantity", "fields"),
    [(-3, {}), (None, {"images": [7]}), ("many", {"attributes": []}), (1e99, {"title": ["x"]})],
)
def test_an_odd_row_is_judged_as_far_as_it_is_seen_and_hides_no_missing_one(
    two: World, quantity: object, fields: dict[str, object]
) -> None:
    two.listed["A-1"]["inventory"]["quantity"] = quantity
    two.listed["A-1"].update(fields)
    two.sandbox.state.remove(two.listed["A-2"]["id"])
    report = reconciled(two)
    assert report.complete
    assert two.listed["A-1"]["inventory"]["quantity"] == 5
    assert "A-2" in two.listed
    edits = "SELECT sku, field FROM sync_conflicts WHERE field <> 'listing'"
    assert rows(two.database, edits) == []


def test_by_default_too_no_sync_takes_a_sale_for_an_edit(two: World) -> None:
    two.place(("A-1", 2))
    two.full()
    assert rows(two.database, "SELECT 1 FROM sync_conflicts") == []
    two.sandbox.state.set_quantity(two.listed["A-2"]["id"], 99)
    two.full()
    assert [tuple(row) for row in rows(two.database, "SELECT sku, field FROM sync_conflicts")] == [
        ("A-2", "quantity")
    ]
    assert two.shown == two.wanted


def test_a_change_of_the_shops_that_is_on_its_way_is_no_discrepancy(two: World) -> None:
    run(two.database, "UPDATE products SET stock_quantity = 4 WHERE sku = 'A-1'")
    report = reconciled(two)
    assert (report.discrepancies, report.changing, report.equal) == (0, 1, 1)


def test_a_product_of_nobodys_waits_and_is_deleted_only_by_a_persons_word(two: World) -> None:
    two.sandbox.state.create({"sku": "STRANGER", "title": "Stranger", "price": "1.00"})
    assert (reconciled(two).orphans, "STRANGER" in two.listed) == (1, True)
    conflict = value(two.database, "SELECT id FROM sync_conflicts WHERE field = 'unknown'")
    asyncio.run(resolve(two.sync_context(), conflict, "shop", "ann"))
    assert "STRANGER" not in two.listed


def test_a_product_of_nobodys_that_is_left_alone_is_not_asked_about_again(two: World) -> None:
    two.sandbox.state.create({"sku": "STRANGER", "title": "Stranger", "price": "1.00"})
    reconciled(two)
    conflict = value(two.database, "SELECT id FROM sync_conflicts WHERE field = 'unknown'")
    asyncio.run(resolve(two.sync_context(), conflict, "marketplace", "ann"))
    assert reconciled(two).open_conflicts == 0


def test_what_is_settled_on_4seller_itself_is_closed_by_a_full_sync_too(two: World) -> None:
    set_rule(two.database, {"price_policy": "manual"})
    before = two.listed["A-1"]["price"]
    edit(two, "A-1", price="99.00")
    two.sandbox.state.create({"sku": "A-3", "title": "Stranger", "price": before})
    assert reconciled(two).open_conflicts == 2
    edit(two, "A-1", price=before)
    add_product(two.database, sku="A-3")
    assert two.full().adopted == 1
    two.full()
    assert rows(two.database, "SELECT sku, resolution FROM sync_conflicts ORDER BY sku") == [
        ("A-1", "gone"),
        ("A-3", "gone"),
    ]
    assert value(two.database, "SELECT count(*) FROM alerts WHERE cleared_at IS NULL") == 0


@pytest.mark.parametrize("deleted", [False, True])
def test_a_listing_cut_short_is_completed_by_id(
    two: World, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    whole = FourSeller.listing

    async def cut_short(client: FourSeller) -> Listing:
        full = await whole(client)
        shown = [one for one in full.products if one.sku != "A-1"]
        return replace(full, products=ListedProducts(shown), complete=False, reason="A page failed.")

    monkeypatch.setattr(FourSeller, "listing", cut_short)
    if deleted:
        drop(two, "A-1")
    report = reconciled(two)
    assert (report.complete, report.discrepancies, report.not_seen) == (False, int(deleted), 0)
    assert set(two.listed) == {"A-1", "A-2"}


@pytest.mark.parametrize(
    ("field", "edited"),
    [("price", {"price": "99.00"}), ("title", {"title": "Mine"}), ("quantity", {"quantity": 42})],
)
def test_a_pinned_field_is_left_alone_by_every_sync_until_it_is_released(
    two: World, field: str, edited: dict[str, Any]
) -> None:
    product = value(two.database, "SELECT id FROM products WHERE sku = 'A-1'")
    mapping = two.mapping(product).id
    edit(two, "A-1", **edited)
    asyncio.run(pin_field(two.sync_context(), mapping, field))
    kept = two.shown["A-1"]
    run(two.database, "UPDATE products SET description = 'New words', stock_quantity = 5 WHERE sku = 'A-1'")
    two.incremental()
    two.full()
    assert reconciled(two).discrepancies == 0
    assert two.shown["A-1"] == kept
    assert two.listed["A-1"]["description"] == "New words"
    assert release_pin(two.sync_context(), mapping, None) == [field]
    two.incremental()
    assert two.shown == two.wanted


def test_an_edit_of_a_pinned_field_after_the_pin_survives_a_write_of_the_rest(two: World) -> None:
    mapping = two.mapping(value(two.database, "SELECT id FROM products WHERE sku = 'A-1'")).id
    asyncio.run(pin_field(two.sync_context(), mapping, "price"))
    edit(two, "A-1", price="55.00")
    run(two.database, "UPDATE products SET name = 'Renamed' WHERE sku = 'A-1'")
    two.incremental()
    assert two.shown["A-1"][:2] == ("Renamed", Decimal("55.00"))


def test_an_edit_under_manual_survives_a_write_of_the_rest_before_any_reconciliation(two: World) -> None:
    set_rule(two.database, {"price_policy": "manual"})
    two.incremental()
    edit(two, "A-1", price="55.00")
    run(two.database, "UPDATE products SET name = 'Renamed' WHERE sku = 'A-1'")
    two.incremental()
    assert two.shown["A-1"][:2] == ("Renamed", Decimal("55.00"))
    assert reconciled(two).open_conflicts == 1


def test_a_field_that_cannot_be_pinned_and_a_conflict_that_is_none_are_refused(two: World) -> None:
    with pytest.raises(NoSuchConflict, match="cannot be pinned"):
        asyncio.run(pin_field(two.sync_context(), 1, "weather"))
    with pytest.raises(NoSuchConflict, match="No conflict 99"):
        asyncio.run(resolve(two.sync_context(), 99, "shop", "ann"))


def test_observed_is_written_for_each_item(two: World) -> None:
    reconciled(two)
    found = rows(
        two.database,
        "SELECT observed_quantity, acked_quantity FROM fourseller_product_mappings WHERE observed_at IS NOT NULL",
    )
    assert [tuple(row) for row in found] == [(5, 5), (5, 5)]


def test_a_write_of_unknown_fate_is_no_edit_of_anybodys(two: World) -> None:
    set_rule(two.database, {"policy": "manual"})
    two.incremental()
    run(two.database, "UPDATE products SET name = 'Renamed', stock_quantity = 3 WHERE sku = 'A-1'")
    run(  # as a process leaves it that died while it was sending
        two.database,
        "UPDATE fourseller_product_mappings SET acked_hash = NULL, acked_quantity = NULL WHERE sku = 'A-1'",
    )
    assert reconciled(two).open_conflicts == 0
    assert two.shown == two.wanted


def test_an_event_of_a_sale_that_is_not_imported_yet_is_nobodys_edit(two: World) -> None:
    set_rule(two.database, {"quantity_policy": "marketplace_wins"})
    two.incremental()
    two.place(("A-1", 2))  # the sandbox takes the stock, as 4Seller does
    reported = Product.model_validate(two.listed["A-1"])

    async def hear(waited: float) -> tuple[EventResult, int]:
        context = two.sync_context(read_back_grace_seconds=0)
        async with context.channel() as client:
            result = await handle_product_event(
                context,
                client,
                reported.id,
                [reported],
                lambda: import_orders(context),
                waited_seconds=waited,
            )
            return result, client.requests

    assert asyncio.run(hear(0.1)) == (EventResult.BUSY, 0)  # its order's own event may be on its way
    asyncio.run(hear(2.0))
    two.import_orders()
    assert value(two.database, "SELECT stock_quantity FROM products WHERE sku = 'A-1'") == 3


def test_shards_are_judged_by_themselves(two: World) -> None:
    ids = [row[0] for row in rows(two.database, "SELECT id FROM fourseller_product_mappings ORDER BY id")]
    set_rule(two.database, {"price_policy": "manual"})
    for sku in ("A-1", "A-2"):
        edit(two, sku, price="99.00")
    first, second = (Shards({one % 2}, 2) for one in ids)
    reports = [reconciled(two, shards=one) for one in (first, second)]
    assert [(report.scanned, report.discrepancies, report.listed) for report in reports] == [(1, 1, 2)] * 2
    assert rows(two.database, "SELECT count(*) FROM sync_conflicts WHERE resolved_at IS NULL") == [(2,)]
    edit(two, "A-1", price="10.00")
    edit(two, "A-2", price="10.00")
    reconciled(two, shards=first)  # which says nothing of the other's conflict
    assert rows(two.database, "SELECT sku FROM sync_conflicts WHERE resolved_at IS NULL") == [("A-2",)]


def test_a_product_of_another_shard_is_nobodys_orphan(two: World) -> None:
    two.sandbox.state.create({"sku": "Z-9", "title": "Stranger", "price": "1.00"})
    assert [reconciled(two, shards=Shards({one}, 2)).orphans for one in (0, 1)] == [0, 0]
    assert reconciled(two).orphans == 1
    reconciled(two, shards=Shards({0}, 2))
    assert rows(two.database, "SELECT fourseller_value FROM sync_conflicts WHERE resolved_at IS NULL") == [
        ("Stranger",)
    ]


def test_a_push_that_meets_the_404_first_leaves_a_missing_listing_to_its_policy(two: World) -> None:
    set_rule(two.database, {"policy": "manual"})
    drop(two, "A-1")
    run(two.database, "UPDATE products SET stock_quantity = 4 WHERE sku = 'A-1'")
    for _ in range(3):
        two.inventory()
        two.incremental()
    assert set(two.listed) == {"A-2"}
    assert (reconciled(two).open_conflicts, set(two.listed)) == (1, {"A-2"})
    (conflict,) = rows(two.database, "SELECT id FROM sync_conflicts WHERE resolved_at IS NULL")
    asyncio.run(resolve(two.sync_context(), conflict.id, "shop", "a person"))
    two.incremental()
    assert two.shown == two.wanted


def test_where_sales_cannot_be_read_the_rest_is_judged_and_the_report_says_so(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(two, "A-1", quantity=4)
    edit(two, "A-2", price="99.00")

    def away(**_: object) -> None:
        raise Refused(503, "unavailable", "Orders are away.")

    monkeypatch.setattr(two.sandbox.state, "find_orders", away)
    assert "could not be imported" in (reconciled(two).note or "")
    assert "could not be imported" in two.full().problems[0]["reason"]
    assert two.shown["A-1"][2] == 4
    assert two.shown["A-2"][1] == Decimal("10.00")


def test_what_fails_again_and_again_is_no_change_on_its_way(two: World) -> None:
    two.habits("product-updates-ignored")
    run(two.database, "UPDATE products SET price = 8 WHERE sku = 'A-1'")
    two.incremental()
    report = reconciled(two)
    assert (report.changing, report.discrepancies, report.consistency) == (0, 1, 0.5)
