"""Orders, items, plans and rules: what their pages show, and what their buttons do."""

from __future__ import annotations

import html
import re
import time
from decimal import Decimal

import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.carriers import CARRIERS
from midas_pipelines.notify.alerts import raise_alerts
from midas_pipelines.store.gateway.keys import Role
from midas_pipelines.store.operations.findings import ShadowRow, record_shadow_writes
from midas_pipelines_tests.gateway.console.visitor import Visitor
from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.world import World

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def sold(operator: Visitor) -> str:
    """An item on 4Seller, and an order for two of it."""
    world = operator.world
    add_product(world.database, sku="A/1 é", name=f"Screen {MARKUP}", stock_quantity=9, price="10.00")
    world.full()
    order = world.place(("A/1 é", 2), sales_channel="ebay")
    world.import_orders()
    return order


def test_an_order_is_found_shipped_and_returned(operator: Visitor, sold: str) -> None:
    world = operator.world
    assert sold in operator.see("/orders?status=pending&sales_channel=ebay&exception=no")
    assert "No such order" in operator.see("/orders?sales_channel=amazon")
    assert operator.client.get(f"/orders?q={sold}").headers["location"] == f"/orders/{sold}"
    page = operator.see(f"/orders/{sold}")
    assert MARKUP not in page
    assert "all that is left" in page
    assert [one.names[0] for one in CARRIERS if f"<option>{one.names[0]}</option>" not in page] == []
    assert "does not look like" in operator.see("/orders/check-number?carrier=UPS&number=123")
    assert "does not look like" in operator.click(
        f"/orders/{sold}/ship", carrier="UPS", number="123", back=f"/orders/{sold}"
    )
    text = operator.click(f"/orders/{sold}/ship", carrier="UPS", number="1Z999AA10123456784")
    assert text == f"UPS 1Z999AA10123456784 is on record for order {sold}; 4Seller knows it."
    there = world.sandbox.state.orders[sold]
    assert (there["status"], there["tracking"]["number"]) == ("shipped", "1Z999AA10123456784")
    assert "not come back" in operator.click(f"/orders/{sold}/return", line=1, units=3)
    assert "1 units" in operator.click(f"/orders/{sold}/return", line=1, units=1)
    assert value(world.database, "SELECT stock_quantity FROM products") == 8
    assert "Alex Sample: console ship" in operator.see(f"/orders/{sold}")
    assert value(world.database, "SELECT source FROM order_shipments") == "Alex Sample: console ship"


def test_one_line_of_several_is_shipped(operator: Visitor, sold: str) -> None:
    world = operator.world
    add_product(world.database, sku="B-1", stock_quantity=9)
    order = world.place(("A/1 é", 1), ("B-1", 3))
    world.import_orders()
    number = {"carrier": "UPS", "number": "1Z999AA10123456784"}
    operator.click(f"/orders/{order}/ship", line=2, units="", **number)
    page = operator.see(f"/orders/{order}")
    assert ">line 1: A/1 é, 1 left<" in page
    assert "line 2: B-1" not in page


def test_a_buyer_is_shown_to_operators_with_a_trace_and_erased_by_admins(
    operator: Visitor, sold: str
) -> None:
    page = operator.see(f"/orders/{sold}")
    name = operator.world.sandbox.state.orders[sold]["customer"]["name"]
    assert name not in page
    answer = operator.client.post(f"/orders/{sold}/buyer", data={"csrf": operator.csrf})
    assert (answer.status_code, name in html.unescape(answer.text)) == (200, True)
    audit = rows(operator.world.database, "SELECT action, target FROM gateway_audit ORDER BY id DESC")
    assert audit[0].action == "POST /orders/{order_id:path}/buyer"
    assert audit[0].target == f"/orders/{sold}/buyer"
    refused = operator.client.post(f"/orders/{sold}/erase", data={"csrf": operator.csrf, "sure": "yes"})
    assert refused.status_code == 403
    operator.sign_in(Role.ADMIN)
    assert "gone for good" in operator.click(f"/orders/{sold}/erase")
    assert "is erased" in operator.click(f"/orders/{sold}/erase", sure="yes")
    assert name not in str(
        rows(operator.world.database, "SELECT shipping_address, billing_address FROM orders")
    )
    visitor = operator
    visitor.sign_in(Role.VIEWER)
    assert visitor.client.post(f"/orders/{sold}/buyer", data={"csrf": visitor.csrf}).status_code == 403


def test_items_are_searched_filtered_and_told_whole(operator: Visitor, sold: str) -> None:
    world = operator.world
    add_product(world.database, sku="OTHER", name="Battery", stock_quantity=1)
    assert "OTHER" not in operator.see("/items?q=screen")
    assert "No item is like that" in operator.see("/items?q=screen+battery")
    assert "OTHER" in operator.see("/items?state=waiting")
    with world.database.writing() as connection:
        raise_alerts(connection, kind="low_stock", texts={"item:2:0": "OTHER is low.", "item:9:0": "Gone."})
    assert "OTHER" in operator.see("/items?state=low")
    assert "A/1 é" not in operator.see("/items?state=low")
    for state in ("differing", "failing", "pinned", "excluded", "removed"):
        assert "OTHER" not in operator.see(f"/items?state={state}")
    address = "/items/A%2F1%20%C3%A9"
    page = operator.see(address)
    assert MARKUP not in page
    assert f"order {sold}" in page
    assert "on hand = 7" in page
    assert "A/1 é: " in operator.click(f"{address}/push")
    assert "stays" in operator.click(f"{address}/pin", field="price")
    assert "Release" in operator.see(address)
    assert "released price" in operator.click(f"{address}/release", field="price")
    assert "would have been avoided" in operator.see(f"{address}/rule?buffer=2")
    assert "checked again" in operator.click("/rules", sku="A/1 é", buffer="2")
    assert "- buffer 2 = 5" in operator.see(address)
    operator.click(f"{address}/exclude", exclude="yes")
    world.incremental()
    assert "A/1 é" not in world.listed
    operator.see("/items/NOPE", status=404)


def test_rules_are_tried_set_and_cleared(operator: Visitor) -> None:
    add_product(operator.world.database, sku="A", stock_quantity=9)
    assert "No rules" in operator.see("/rules")
    assert "it withholds 2 units; the rules today withhold 0" in operator.see("/rules?buffer=2")
    operator.click("/rules", sku="", buffer="3", policy="manual", minimum_price="4.50")
    page = operator.see("/rules")
    assert "at least 4.50 USD" in page
    assert "cannot be read: minimum_price" in operator.click("/rules", minimum_price="1e5")
    assert "1 rules removed" in operator.click("/rules/clear")
    before = (
        "SELECT buffer, policy, minimum_price FROM channel_rules WHERE buffer > 0 AND replaced_at IS NULL"
    )
    assert operator.undo() == "The rule is as it was before."
    assert "changed again since" in operator.undo()
    (was,) = rows(operator.world.database, before)
    operator.click("/rules", buffer="8", cap="1")
    operator.undo()
    assert rows(operator.world.database, before) == [was]
    operator.click("/items/A/exclude", exclude="yes")
    operator.undo()
    assert rows(operator.world.database, before) == [was]
    assert "never listed" not in operator.see("/rules")
    assert "withholds" not in operator.see("/rules")


def test_a_plan_is_read_and_approved_by_its_hash_and_undone(operator: Visitor) -> None:
    world = operator.world
    product = add_product(world.database, sku="SCREEN-1", stock_quantity=9, price="10.00")
    world.full()
    world.set(product, price=Decimal("19.00"))
    operator.click("/plan", scope="changed")
    digest = value(world.database, "SELECT hash FROM midas_console_plans")
    page = operator.see(f"/plan/{digest}")
    assert "10.00 → 19.00" in page
    assert "90 %" in page
    assert "SCREEN-1" not in operator.see(f"/plan/{digest}?action=delete")
    assert "first six characters" in operator.click(f"/plan/{digest}/approve", typed="000000x")
    assert "being sent" in operator.click(f"/plan/{digest}/approve", typed=digest[:6])
    result = wait_for_result(operator, world)
    assert result == "1 updated"
    assert world.shown["SCREEN-1"][1] == Decimal("19.00")
    assert "approved before" in operator.click(f"/plan/{digest}/approve", typed=digest[:6])
    assert "1 listings put back" in operator.click("/plan/undo", name=digest)
    assert world.shown["SCREEN-1"][1] == Decimal("10.00")


def test_a_plan_is_sent_without_the_ticked_rows_and_a_run_is_undone(operator: Visitor) -> None:
    world = operator.world
    items = {sku: add_product(world.database, sku=sku, price="10.00", stock_quantity=1) for sku in "AB"}
    world.full()
    for item in items.values():
        world.set(item, price=Decimal("12.00"))
    operator.click("/plan", scope="changed")
    digest = value(world.database, "SELECT hash FROM midas_console_plans")
    tick = re.search(
        r'name="leave" value="(\d+)" form="approve" aria-label="leave A out"', operator.see(f"/plan/{digest}")
    )
    assert tick is not None
    operator.click(f"/plan/{digest}/approve", typed=digest[:6], leave=tick[1])
    operator.client.wait(lambda: world.shown["B"][1] == Decimal("12.00"))
    assert world.shown["A"][1] == Decimal("10.00")
    operator.client.wait(lambda: value(world.database, "SELECT max(result) FROM midas_console_plans"))
    run_id = re.search(r'name="name" value="([^"]{8,})"', operator.see("/plan"))
    assert run_id is not None
    assert "1 listings put back" in operator.click("/plan/undo", name=run_id[1])
    assert world.shown["B"][1] == Decimal("10.00")


def test_a_failed_wave_is_planned_again_and_shadow_mode_is_compared(operator: Visitor) -> None:
    database = operator.world.database
    add_product(database, sku="A-1", stock_quantity=5, price="10.00")
    with database.writing() as connection:
        raise_alerts(connection, kind="canary", texts={"canary": "Wave 1 of the changes failed."})
    record_shadow_writes(database, [ShadowRow("listing", "A-1", "create", {"price": "10.00"})], None)
    page = operator.see("/plan")
    assert "Wave 1 of the changes failed." in page
    assert "try the waves again" in page
    answer = operator.client.post("/plan/shadow", data={"csrf": operator.csrf})
    assert "1 writes were kept back: 0 agree with what is there, 1 differ." in answer.text
    assert "no listing" in answer.text


def test_a_plan_that_is_out_of_date_sends_nothing(operator: Visitor) -> None:
    world = operator.world
    product = add_product(world.database, sku="SCREEN-1", stock_quantity=9, price="10.00")
    operator.click("/plan", scope="all")
    world.set(product, price=Decimal("19.00"))
    digest = value(world.database, "SELECT hash FROM midas_console_plans")
    operator.click(f"/plan/{digest}/approve", typed=digest[:6])
    assert re.search("Refused: The plan made at .* is out of date", wait_for_result(operator, world))
    assert world.shown == {}


def wait_for_result(operator: Visitor, world: World) -> str:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        operator.see("/plan")  # the background's turn
        found = value(world.database, "SELECT result FROM midas_console_plans")
        if found:
            return str(found)
    raise AssertionError("the plan was not applied in time")


def test_programs_read_the_same_as_the_pages(operator: Visitor, sold: str) -> None:
    key = {"Authorization": f"Bearer {operator.key(Role.VIEWER)}"}
    found = operator.client.get("/api/marketplace/items?q=screen", headers=key).json()["data"]
    assert [(one["sku"], one["on_hand"], one["acked_quantity"]) for one in found] == [("A/1 é", 7, 9)]
    facts = operator.client.get("/api/marketplace/explain?sku=A%2F1%20%C3%A9", headers=key).json()
    assert (facts["available"], facts["ledger"][0]["delta"]) == (7, -2)
    steps = operator.client.get("/api/marketplace/plan", headers=key).json()["steps"]
    assert [(one["action"], one["quantity"]) for one in steps] == [("quantity", 7)]


def test_looking_at_an_item_does_not_read_every_item(operator: Visitor, sold: str) -> None:
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        assert sold in operator.see("/items/A%2F1%20%C3%A9")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert asked
    assert not [one for one in asked if one.startswith("INSERT INTO fourseller_product_mappings")]
