"""Settling conflicts where several people, or processes, do it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import Ambiguous
from midas_pipelines.fourseller.listed import Listing
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.store.items.listing import retry_items
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.store.stock.ledger import unexplained_stock
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.pages import OrderReport
from midas_pipelines.sync.reconcile import conflicts
from midas_pipelines.sync.reconcile import run as reconcile_run
from midas_pipelines.sync.reconcile.conflicts import ALERT, NoSuchConflict, match_conflict_alerts, resolve
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

PEOPLE = 4


@pytest.mark.parametrize("field", ["quantity", "price"])
def test_one_of_many_people_settles_a_conflict_and_the_others_are_told(world: World, field: str) -> None:
    add_product(world.database, sku="A-1", stock_quantity=5)
    world.full()
    with world.database.writing() as connection:
        values = {
            "mapping_id": connection.scalar(sa.select(mappings.c.id)),
            "subject": "item:1",
            "field": field,
            "policy": "manual",
            "delta": -2,
        }
        statement = sa.insert(sync_conflicts).values(values).returning(sync_conflicts.c.id)
        number = connection.execute(statement).scalar_one()
    together = Barrier(PEOPLE, timeout=30)

    def settle(person: int) -> bool:
        context = world.sync_context()
        together.wait()
        try:
            asyncio.run(resolve(context, number, "marketplace", f"person {person}"))
        except NoSuchConflict:
            return False
        return True

    with ThreadPoolExecutor(PEOPLE) as people:
        assert sorted(people.map(settle, range(PEOPLE))) == [False, False, False, True]
    assert unexplained_stock(world.database) == []
    left = value(world.database, "SELECT stock_quantity FROM products")
    assert left == (3 if field == "quantity" else 5)


def test_an_alert_that_a_person_closed_stays_closed_when_another_conflict_is_settled(world: World) -> None:
    numbers = waiting(world, 3)
    run(world.database, "UPDATE alerts SET cleared_at = created_at WHERE subject = 'mapping:1:price'")
    asyncio.run(resolve(world.sync_context(), numbers[1], "shop", "a person"))
    assert open_alerts(world) == ["mapping:3:price"]


def test_an_alert_that_another_process_raises_meanwhile_is_not_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(world, 1)
    read = conflicts.open_subjects

    def read_before_another_raised_its_own(connection: sa.Connection, kind: str) -> set[str]:
        known = read(connection, kind)
        raise_alert(connection, kind=ALERT, subject="mapping:2:price", text="Its conflict came after.")
        return known

    monkeypatch.setattr(conflicts, "open_subjects", read_before_another_raised_its_own)
    world.database.write(match_conflict_alerts)
    assert open_alerts(world) == ["mapping:1:price", "mapping:2:price"]


def test_to_match_many_alerts_takes_as_many_statements_as_to_match_a_few(world: World) -> None:
    waiting(world, 30)
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    sa.event.listen(world.database.engine, "before_cursor_execute", count)
    world.database.write(match_conflict_alerts, looked=True)
    sa.event.remove(world.database.engine, "before_cursor_execute", count)
    assert counted < 10


@pytest.fixture(params=["reconcile", "full sync"])
def read_back(world: World, request: pytest.FixtureRequest) -> Callable[[], object]:
    """Both ways to read back what 4Seller shows."""
    context = world.sync_context(read_back_grace_seconds=0)
    return world.full if request.param == "full sync" else lambda: asyncio.run(reconcile(context))


@pytest.mark.parametrize("status", [503, 422])
def test_what_the_shop_won_stays_open_until_its_push_is_confirmed(
    world: World, read_back: Callable[[], object], status: int
) -> None:
    add_product(world.database, sku="A-1")
    world.full()
    world.listed["A-1"]["price"] = "99.00"
    world.refuse(status, "A-1")
    for _ in range(2):
        read_back()
        assert rows(world.database, "SELECT field, resolution FROM sync_conflicts") == [("price", None)]
    world.refused.clear()
    retry_items(world.database)
    read_back()
    assert rows(world.database, "SELECT field, resolution FROM sync_conflicts") == [("price", "shop")]


def test_a_conflict_stays_open_while_its_item_is_being_bought(
    world: World, read_back: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_rule(world.database, {"quantity_policy": "manual"})
    add_product(world.database, sku="A-1", stock_quantity=5)
    world.full()
    listed = world.listed["A-1"]
    listed["inventory"]["quantity"] = 9
    read_back()

    async def meanwhile(context: SyncContext) -> OrderReport:
        listed["inventory"]["quantity"] -= 1
        return OrderReport()

    listed["inventory"]["quantity"] = 8
    monkeypatch.setattr(reconcile_run, "import_orders", meanwhile)
    read_back()
    assert rows(world.database, "SELECT delta, resolution FROM sync_conflicts") == [(4, None)]


def test_a_quantity_that_may_be_an_old_copy_closes_no_conflict(
    world: World, read_back: Callable[[], object]
) -> None:
    set_rule(world.database, {"quantity_policy": "manual"})
    add_product(world.database, sku="A-1", stock_quantity=5)
    world.full()
    world.listed["A-1"]["inventory"]["quantity"] = 9
    read_back()
    run(world.database, "UPDATE products SET price = 8")
    world.incremental()
    asyncio.run(reconcile(world.sync_context(read_back_grace_seconds=60)))
    world.sync_context(read_back_grace_seconds=0)
    read_back()
    assert rows(world.database, "SELECT delta, resolution FROM sync_conflicts") == [(4, None)]


def test_an_edit_that_was_taken_back_is_closed_though_its_push_failed(
    world: World, read_back: Callable[[], object]
) -> None:
    add_product(world.database, sku="A-1")
    world.full()
    before = world.listed["A-1"]["price"]
    world.refuse(422, "A-1")
    for price in ("99.00", before):
        world.listed["A-1"]["price"] = price
        read_back()
    assert rows(world.database, "SELECT field, resolution FROM sync_conflicts") == [("price", "gone")]


def test_a_product_that_was_not_seen_closes_no_conflict(
    world: World, read_back: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_rule(world.database, {"price_policy": "manual"})
    for sku in ("A-1", "A-2"):
        add_product(world.database, sku=sku)
    world.full()
    world.listed["A-1"]["price"] = "99.00"
    read_back()
    whole, missed = FourSeller.listing, world.listed["A-1"]["id"]

    async def without_it(client: FourSeller) -> Listing:
        listing = await whole(client)
        listing.products.remove(missed)
        return listing

    async def no_answer(*_: object) -> None:
        raise Ambiguous("No answer.")

    monkeypatch.setattr(FourSeller, "listing", without_it)
    monkeypatch.setattr(FourSeller, "product_row", no_answer)
    read_back()
    assert rows(world.database, "SELECT field, resolution FROM sync_conflicts") == [("price", None)]


def waiting(world: World, count: int) -> list[int]:
    """So many conflicts that wait for a person, with their alerts; their ids."""
    with world.database.writing() as connection:
        for number in range(1, count + 1):
            connection.execute(sa.insert(mappings).values(product_id=number))
        found = connection.execute(sa.select(mappings.c.id).order_by(mappings.c.id)).scalars().all()
        row = {"field": "price", "policy": "manual", "shop_value": "1", "fourseller_value": "2"}
        values = [row | {"mapping_id": one, "subject": f"mapping:{one}"} for one in found]
        statement = sa.insert(sync_conflicts).returning(sync_conflicts.c.id, sort_by_parameter_order=True)
        numbers = list(connection.execute(statement, values).scalars())
        match_conflict_alerts(connection, looked=True)
    return numbers


def open_alerts(world: World) -> list[str]:
    """The subjects of the open alerts."""
    found = rows(world.database, "SELECT subject FROM alerts WHERE cleared_at IS NULL ORDER BY subject")
    return [subject for (subject,) in found]
