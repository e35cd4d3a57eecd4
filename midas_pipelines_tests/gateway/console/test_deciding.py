"""Each card of the inbox: what it shows, and what its buttons do in the shop and at the sandbox."""

from __future__ import annotations

import asyncio
import html
import re
from datetime import timedelta
from decimal import Decimal

import pytest

from midas_pipelines.console_pages import page_of
from midas_pipelines.gateway.console import web
from midas_pipelines.gateway.console.decide import CARDS
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines.store.operations.backlog import CAUSES
from midas_pipelines.store.stock.rule_changes import put_rule
from midas_pipelines.store.stock.rules import Scope
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines_tests.gateway.console.visitor import Visitor
from midas_pipelines_tests.shop import add_product, assert_ledger_explains, rows, value
from midas_pipelines_tests.sync.world import World

MARKUP = "<script>alert(1)</script>\"'&"


def edited(world: World, **change: object) -> None:
    """A listed item that a person edits on 4Seller, under the policy that a person decides."""
    add_product(world.database, sku="SCREEN-1", name="Screen", stock_quantity=9, price="10.00")
    with world.database.writing() as connection:
        put_rule(connection, Scope(), {"policy": "manual"}, by="test")
    world.full()
    (product,) = world.sandbox.state.products.values()
    world.sandbox.state.edit(product["id"], change)
    asyncio.run(reconcile(world.sync_context()))


def shown(world: World) -> tuple[Decimal, int]:
    _, price, quantity = world.shown["SCREEN-1"]
    return price, quantity


def test_every_cause_leads_to_cards_or_to_a_page() -> None:
    assert {cause: page_of(cause) for cause in CAUSES.keys() - CARDS.keys()} == {
        "brake": "/plan",
        "low_stock": "/stock",
        "expiring_key": "/keys",
        "alert": "/alerts",
        "channel_down": "/alerts",
        "quarantined_webhook": "/webhooks?state=quarantined",
    }
    assert CARDS.keys() < CAUSES.keys()


def test_a_conflict_shows_both_values_and_the_shops_side_is_pushed(operator: Visitor) -> None:
    world = operator.world
    edited(world, price="7.77")
    page = operator.see("/decide?cause=conflict")
    assert "7.77" in page
    assert "10.00" in page
    assert "20.07 USD" in page  # 9 units, each 2.23 apart
    conflict = value(world.database, "SELECT id FROM sync_conflicts WHERE resolved_at IS NULL")
    assert "counts for 1 conflict" in operator.click("/decide/conflicts", id=conflict, take="shop")
    world.incremental()
    assert shown(world) == (Decimal("10.00"), 9)
    assert value(world.database, "SELECT resolved_by FROM sync_conflicts") == "Alex Sample"
    assert "gone out to 4Seller already" in operator.click("/decide/conflicts/undo", id=conflict)


def test_the_marketplaces_price_is_pinned_and_an_undo_opens_the_conflict_again(operator: Visitor) -> None:
    world = operator.world
    edited(world, price="7.77")
    conflict = value(world.database, "SELECT id FROM sync_conflicts WHERE resolved_at IS NULL")
    operator.click("/decide/conflicts", id=conflict, take="marketplace")
    world.incremental()
    assert shown(world)[0] == Decimal("7.77")
    assert "open again" in operator.click("/decide/conflicts/undo", id=conflict)
    again = rows(
        world.database, "SELECT id, field, fourseller_value FROM sync_conflicts WHERE resolved_at IS NULL"
    )
    assert [(row.field, row.fourseller_value) for row in again] == [("price", "7.77")]
    operator.click("/decide/conflicts", id=again[0].id, take="shop")
    world.incremental()
    assert shown(world)[0] == Decimal("10.00")


def test_the_marketplaces_quantity_is_a_ledger_row_and_an_undo_takes_it_back(operator: Visitor) -> None:
    world = operator.world
    edited(world, inventory={"quantity": 4})
    conflict = value(
        world.database, "SELECT id FROM sync_conflicts WHERE field = 'quantity' AND resolved_at IS NULL"
    )
    operator.click("/decide/conflicts", id=conflict, take="marketplace")
    assert value(world.database, "SELECT stock_quantity FROM products") == 4
    operator.click("/decide/conflicts/undo", id=conflict)
    assert value(world.database, "SELECT stock_quantity FROM products") == 9
    assert_ledger_explains(world.database)


def test_a_program_decides_under_the_name_of_its_key(operator: Visitor) -> None:
    edited(operator.world, price="7.77")
    conflict = value(operator.world.database, "SELECT id FROM sync_conflicts WHERE resolved_at IS NULL")
    key = {"Authorization": f"Bearer {operator.key(Role.OPERATOR, 'The shop')}"}
    path = f"/api/marketplace/conflicts/{conflict}"
    answer = operator.client.post(path, json={"take": "shop"}, headers=key)
    assert (answer.status_code, answer.json()["resolved_by"]) == (200, "The shop")


def test_several_conflicts_are_previewed_before_they_are_decided(operator: Visitor) -> None:
    world = operator.world
    edited(world, price="7.77", title="Edited there")
    found = [
        row.id for row in rows(world.database, "SELECT id FROM sync_conflicts WHERE resolved_at IS NULL")
    ]
    page = operator.see("/decide/conflicts?take=marketplace&" + "&".join(f"id={one}" for one in found))
    assert "4Seller keeps 7.77: the price is pinned" in page
    assert f"{len(found)} conflicts" in operator.click("/decide/conflicts", id=found, take="marketplace")
    assert f"{len(found)} conflicts open again" in operator.click("/decide/conflicts/undo", id=found)
    again = "SELECT field FROM sync_conflicts WHERE resolved_at IS NULL ORDER BY field"
    assert [row.field for row in rows(world.database, again)] == ["content", "price"]


def test_a_viewer_sees_no_button_and_is_refused(visitor: Visitor) -> None:
    edited(visitor.world, price="7.77")
    visitor.sign_in(Role.VIEWER)
    assert "Take the shop" not in visitor.see("/decide?cause=conflict")
    answer = visitor.client.post("/decide/conflicts", data={"csrf": visitor.csrf, "id": 1, "take": "shop"})
    assert answer.status_code == 403
    assert value(visitor.world.database, "SELECT count(*) FROM sync_conflicts WHERE resolved_at IS NULL") == 1


def test_an_unmapped_line_gets_the_suggested_item_for_good(operator: Visitor) -> None:
    world = operator.world
    add_product(world.database, sku="BAT-12", name="Battery for Sample Phone 12", stock_quantity=5)
    add_product(world.database, sku="SCR-12", name="Screen for Sample Phone 12", stock_quantity=5)
    world.place(
        items=[
            {"sku": MARKUP[:20], "title": f"Battery Sample Phone 12 {MARKUP}", "quantity": 2, "price": "9.99"}
        ]
    )
    world.import_orders()
    page = operator.see("/decide?cause=unmapped")
    assert "<script>alert" not in page
    line = re.search(r"/decide/choose/map/(\d+)", page)
    assert line is not None
    choice = operator.see(line[0])
    assert "<script>alert" not in choice
    assert choice.index("BAT-12") < choice.index("SCR-12")
    assert "SCR-12" in operator.see(f"{line[0]}?q=screen")
    order = value(world.database, "SELECT marketplace_order_id FROM marketplace_orders")
    operator.click(f"/orders/{order}/map", line=1, sku="BAT-12", always="yes")
    assert value(world.database, "SELECT stock_quantity FROM products WHERE sku = 'BAT-12'") == 3
    assert value(world.database, "SELECT count(*) FROM midas_hub_skus") == 1
    assert "waits no more" in operator.client.get(line[0]).text
    for sku in ("BAT-12", "SCR-12"):  # the first was wrong
        operator.click(f"/orders/{order}/map", line=1, sku=sku, always="yes")
        assert operator.undo() == f"Order {order} is as it was before."
        assert "has no item" in operator.undo()
        assert stock(world) == {"BAT-12": 5, "SCR-12": 5}
        assert value(world.database, "SELECT count(*) FROM midas_hub_skus") == 0
        assert line[0] in operator.see("/decide?cause=unmapped")
    operator.click(f"/orders/{order}/map", line=1, sku="SCR-12")
    assert stock(world) == {"BAT-12": 5, "SCR-12": 3}
    assert value(world.database, "SELECT exception FROM marketplace_order_lines") is None
    assert_ledger_explains(world.database)
    exceptions = "SELECT exception FROM marketplace_orders"
    operator.click(f"/orders/{order}/dismiss")
    assert value(world.database, exceptions) is None
    operator.undo()
    assert value(world.database, exceptions) == "total_mismatch"


@pytest.mark.parametrize(("first", "served"), [("", "old"), ("yes", "new")])
def test_stock_that_came_in_serves_the_oldest_order_or_the_chosen_one(
    operator: Visitor, first: str, served: str
) -> None:
    world = operator.world
    add_product(world.database, sku="SCREEN-1", stock_quantity=0)
    world.full()
    orders = {name: world.place(("SCREEN-1", 2)) for name in ("old", "new")}
    world.import_orders()
    assert operator.see("/decide?cause=oversold").count("lacks 2") == 2
    for _ in range(2):  # the same click twice counts once
        operator.click(f"/orders/{orders['new']}/restock", line=1, units=2, once="click-1", first=first)
    waiting = rows(
        world.database,
        "SELECT o.marketplace_order_id AS id FROM marketplace_order_lines l JOIN marketplace_orders o ON o.id = l.order_id WHERE l.backordered > 0",
    )
    assert [row.id for row in waiting] == [order for name, order in orders.items() if name != served]
    assert_ledger_explains(world.database)


def test_stock_that_did_not_come_in_is_taken_out_again(operator: Visitor) -> None:
    world = operator.world
    add_product(world.database, sku="SCREEN-1", stock_quantity=1)
    order, other = world.place(("SCREEN-1", 3)), world.place(("SCREEN-1", 1))
    world.import_orders()
    for once in ("click-1", "click-2"):
        operator.click(f"/orders/{order}/restock", line=1, units=2, once=once, first="yes")
        assert operator.undo() == f"Order {order} is as it was before."
        assert "taken out again before" in operator.undo()
        assert stock(world) == {"SCREEN-1": 0}
        assert operator.see("/decide?cause=oversold").count("lacks") == 2
    operator.click(f"/orders/{other}/restock", line=1, units=1, once="click-3")  # which the older order gets
    assert "Other orders have this stock" in operator.undo()
    assert_ledger_explains(world.database)


def stock(world: World) -> dict[str, int]:
    found = rows(world.database, "SELECT sku, stock_quantity FROM products")
    return {row.sku: row.stock_quantity for row in found}


def test_a_click_is_undone_for_ten_minutes(operator: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    add_product(operator.world.database, sku="A", stock_quantity=9)
    operator.click("/items/A/exclude", exclude="yes")
    operator.undo_form = re.sub(
        r'name="limit" value=".*?"', 'name="limit" value="9999999999:0"', operator.undo_form
    )
    assert "more than ten minutes ago" in operator.undo()  # no one makes their own
    monkeypatch.setattr(web, "UNDO_TIME", timedelta(seconds=-1))
    operator.click("/items/A/exclude", exclude="yes")
    assert "more than ten minutes ago" in operator.undo()
    assert "more than ten minutes ago" in operator.click("/rules/undo", sku="A", after=0, last=99)
    assert (
        value(
            operator.world.database,
            "SELECT count(*) FROM channel_rules WHERE exclude AND replaced_at IS NULL",
        )
        == 1
    )


def test_a_product_that_is_no_item_is_deleted_or_left(operator: Visitor) -> None:
    world = operator.world
    for sku in ("STRANGE-1", "STRANGE-2"):
        world.sandbox.state.create({"sku": sku, "title": "Of another shop", "price": "1.00"})
    asyncio.run(reconcile(world.sync_context()))
    assert "STRANGE-1" in operator.see("/decide?cause=orphan")
    found = {row.sku: row.id for row in rows(world.database, "SELECT id, sku FROM sync_conflicts")}
    operator.click("/decide/conflicts", id=found["STRANGE-1"], take="shop")
    operator.click("/decide/conflicts", id=found["STRANGE-2"], take="marketplace")
    assert {one["sku"] for one in world.sandbox.state.products.values()} == {"STRANGE-2"}
    assert "Nothing of this waits" in operator.see("/decide?cause=orphan")


def test_a_product_that_is_no_item_is_adopted_by_one(operator: Visitor) -> None:
    world = operator.world
    made = world.sandbox.state.create({"sku": "OTHER", "title": "Screen Sample Phone", "price": "9.00"})
    asyncio.run(reconcile(world.sync_context()))
    add_product(
        world.database, sku="SCREEN-1", name="Screen for Sample Phone", stock_quantity=3, price="10.00"
    )
    number = value(world.database, "SELECT id FROM sync_conflicts WHERE field = 'unknown'")
    assert "SCREEN-1" in operator.see(f"/decide/choose/adopt/{number}")
    assert "is SCREEN-1 from now on" in operator.click(f"/decide/adopt/{number}", sku="SCREEN-1")
    world.full()
    assert {one["id"] for one in world.sandbox.state.products.values()} == {made["id"]}
    assert shown(world) == (Decimal("10.00"), 3)
    assert value(world.database, "SELECT count(*) FROM sync_conflicts WHERE resolved_at IS NULL") == 0


def test_an_oversold_line_is_served_by_a_substitute(operator: Visitor) -> None:
    world = operator.world
    add_product(world.database, sku="SCREEN-1", name="Screen black", stock_quantity=0)
    add_product(world.database, sku="SCREEN-2", name="Screen white", stock_quantity=3)
    add_product(world.database, sku="SCREEN-3", name="Screen grey", stock_quantity=1)
    order = world.place(("SCREEN-1", 2))
    world.import_orders()
    page = operator.see("/decide?cause=oversold")
    choice = re.search(r"/decide/choose/substitute/\d+", page)
    assert choice is not None
    offered = operator.see(choice[0])
    assert "SCREEN-2" in offered
    assert 'value="SCREEN-1"' not in offered
    assert "fewer than 2" in operator.click(f"/orders/{order}/substitute", line=1, sku="SCREEN-3")
    assert "served by SCREEN-2" in operator.click(f"/orders/{order}/substitute", line=1, sku="SCREEN-2")
    assert stock(world) == {"SCREEN-1": 0, "SCREEN-2": 1, "SCREEN-3": 1}
    assert value(world.database, "SELECT count(*) FROM alerts WHERE cleared_at IS NULL") == 0
    assert value(world.database, "SELECT exception FROM marketplace_orders") is None
    assert_ledger_explains(world.database)


def test_the_most_money_at_stake_comes_first(operator: Visitor) -> None:
    world = operator.world
    for sku, price in (("CHEAP", "2.00"), ("DEAR", "90.00")):
        add_product(world.database, sku=sku, price=price, stock_quantity=0)
        world.place(items=[{"sku": sku, "quantity": 2, "price": price}])
    world.import_orders()
    page = operator.see("/decide?cause=oversold")
    assert page.index("180.00 USD") < page.index("4.00 USD")


def test_items_of_one_reason_are_retried_together(operator: Visitor) -> None:
    world = operator.world
    for number in range(3):
        add_product(world.database, sku=f"BAD-{number}", name="x", price="0.00", stock_quantity=1)
    world.full()
    page = operator.see("/decide?cause=quarantined_item")
    reason = re.search(r'name="reason" value="(.*?)"', page)
    assert reason is not None
    assert (
        operator.click("/decide/items/retry", reason=html.unescape(reason[1]))
        == "3 items are tried again now."
    )


def test_what_each_decision_does_is_said_before_it_is_made() -> None:
    conflict = {"field": "quantity", "shop_value": "9", "fourseller_value": "4", "delta": -5}
    effect = web.TEMPLATES.get_template("parts.html").module.effect
    assert "changes by -5, as a row of the ledger." in effect(conflict, "marketplace")
    assert "stays off" in effect(conflict | {"field": "listing"}, "marketplace")
    assert "4Seller gets 9" in effect(conflict, "shop")
