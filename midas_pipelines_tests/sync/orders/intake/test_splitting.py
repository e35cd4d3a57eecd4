"""One bad order among many: set aside alone, in few transactions, and the others imported in their order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.models import read_order
from midas_pipelines.gateway.inbox import BadEvent, Inbox
from midas_pipelines.sandbox.state import now_text
from midas_pipelines.store.database import Database
from midas_pipelines.sync.orders.intake.importer import import_sales
from midas_pipelines.sync.orders.intake.write import ImportCounts, write_batch
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import Sale, read_sale
from midas_pipelines_tests.conftest import create_upgraded_shop
from midas_pipelines_tests.copies import PostgresCopies, connect
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, line, order_json
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import VAULT

pytestmark = pytest.mark.both_databases


def batch(count: int) -> list[Raw]:
    """So many orders for one of A each, a minute between them, the last placed first in the list."""
    placed = [f"2026-01-02T{n // 60:02}:{n % 60:02}:00Z" for n in range(count)]
    return [order_json(order_id=f"X-{n:03}", created_at=placed[n]) for n in reversed(range(count))]


def take_number(world: World, order_id: str) -> None:
    """The shop has an order of its own under this order's number: the shop's tables will refuse it."""
    columns = "order_number, total_amount, shipping_address, billing_address"
    run(
        world.database,
        f"INSERT INTO orders ({columns}) VALUES (:number, 1, '{{}}', '{{}}')",
        number=f"4S-{order_id}",
    )


def counted_import(world: World, sales: list[Sale]) -> tuple[ImportCounts, int]:
    """What an import of these sales came to, and how many transactions it rolled back."""
    rolled_back = 0

    def note(_: sa.Connection) -> None:
        nonlocal rolled_back
        rolled_back += 1

    sa.event.listen(world.database.engine, "rollback", note)
    result = import_sales(world.database, sales, OrderContext(vault=VAULT))
    sa.event.remove(world.database.engine, "rollback", note)
    return result, rolled_back


def held(world: World) -> dict[str, int]:
    """What each order holds, the first imported first."""
    query = (
        "SELECT o.marketplace_order_id, l.allocated FROM marketplace_orders o JOIN marketplace_order_lines l "
        "ON l.order_id = o.id ORDER BY o.local_order_id"
    )
    return dict(tuple(row) for row in rows(world.database, query))


@pytest.mark.parametrize("bad", [["X-000"], ["X-030", "X-031"], ["X-001", "X-063"]])
def test_only_the_bad_ones_are_set_aside_and_the_oldest_of_the_others_get_the_stock(
    world: World, bad: list[str]
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=40)
    for name in bad:
        take_number(world, name)
    paper.put(world, *batch(64))
    report = world.import_orders()
    assert (report.imported, report.failed, desk.stock(world, product)) == (64 - len(bad), len(bad), 0)
    good = [name for name in sorted(f"X-{n:03}" for n in range(64)) if name not in bad]
    assert held(world) == {name: int(place < 40) for place, name in enumerate(good)}
    assert list(held(world)) == good
    aside = rows(
        world.database, "SELECT marketplace_order_id FROM marketplace_orders WHERE outcome = 'quarantined'"
    )
    assert sorted(name for (name,) in aside) == bad
    assert "refused" in desk.order(world, bad[0]).reason


def test_a_bad_one_costs_a_few_transactions_more(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=500)
    take_number(world, "X-100")
    sales = [read_sale(read_order(raw)) for raw in batch(128)]
    result, rolled_back = counted_import(world, sales)
    assert (result.imported, result.failed) == (127, 1)
    assert rolled_back == 3  # 128, 12, 1


def test_one_quarantined_before_and_a_new_line_of_a_known_one_are_written_together_with_a_new_one(
    world: World,
) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    known, unreadable, new = (order_json(order_id=name) for name in ("K", "Q", "N"))
    paper.polled(world, known, unreadable | {"items": 7})
    later = {"updated_at": now_text()}
    edited = known | later | {"items": [line("A"), line("A", 2)], "total": "30.00"}
    sales = [read_sale(read_order(raw)) for raw in (edited, unreadable | later, new)]
    result, rolled_back = counted_import(world, sales)
    assert (result.imported, result.updated, rolled_back) == (2, 1, 0)
    assert paper.took(world, "K", "Q", "N") == [3, 1, 1]


def test_bad_ones_of_every_kind_among_sixty(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1000)
    take_number(world, "X-030")
    cancelling_out = [line("A", 9, price="99999999"), line("A", 9, price="-99999999")]
    paper.put(
        world,
        *batch(60),
        order_json(order_id="B-1", items=cancelling_out, total="0"),
        order_json(order_id="B-2", items="A"),
        order_json(order_id="B-3", items=7),
    )
    report = world.import_orders()
    assert (report.fetched, report.imported, report.failed) == (63, 60, 3)
    assert desk.stock(world, product) == 923
    again = world.import_orders()
    assert (again.imported, again.failed) == (0, 0)
    assert value(world.database, "SELECT count(*) FROM orders") == 61


def test_a_bad_new_one_and_changes_of_known_ones_in_one_batch(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=100)
    orders = batch(20)
    paper.polled(world, *orders[:10])
    take_number(world, "X-003")
    off = [raw | {"status": "cancelled", "updated_at": now_text()} for raw in orders[:5]]
    paper.put(world, *(raw | {"updated_at": now_text()} for raw in orders[10:]), *off)
    report = world.import_orders()
    assert (report.imported, report.failed, report.updated) == (9, 1, 5)
    assert desk.stock(world, product) == 100 - 10 + 5 - 9


def test_many_that_fail_as_if_by_a_fault_of_ours_keep_no_later_one_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(connection: sa.Connection, sales: list[Sale], *context: Any) -> ImportCounts:
        if any(sale.order_id < "X-022" for sale in sales):
            raise RuntimeError("no one foresaw this")
        return write_batch(connection, sales, *context)

    monkeypatch.setattr("midas_pipelines.sync.orders.intake.importer.write_batch", fails)
    add_product(world.database, sku="A", stock_quantity=40)
    sales = [read_sale(read_order(raw)) for raw in batch(24)]
    result, _ = counted_import(world, sales)
    assert (sorted(result.new), result.failed) == (["X-022", "X-023"], 22)


def test_once_the_number_is_free_the_order_is_imported(world: World) -> None:
    product = add_product(world.database, sku="A")
    take_number(world, "X-000")
    paper.polled(world, *batch(2))
    assert desk.order(world, "X-000").outcome == "quarantined"
    run(world.database, "DELETE FROM orders WHERE order_number = '4S-X-000'")
    assert world.import_orders().imported == 1
    assert (desk.order(world, "X-000").reason, desk.stock(world, product)) == (None, 3)
    assert desk.alerts(world) == []
    desk.assert_whole(world)


# a database that cannot hold every character


@pytest.fixture
def latin_shop(postgresql_copies: PostgresCopies) -> Iterator[Database]:
    """A shop whose database is encoded in LATIN1."""
    url = postgresql_copies.latin()
    with connect(url) as database:
        create_upgraded_shop(database)
        yield database
    postgresql_copies.drop(url)


def test_a_character_that_the_database_lacks_costs_no_sale(latin_shop: Database) -> None:
    product = add_product(latin_shop, sku="A", stock_quantity=9)
    odd = {"customer": {"name": "\u4e2d Zo\u00eb"}, "items": [line("A", title="\u4e2d\u56fd")]}
    raws = [order_json(order_id="X-1", **odd), order_json(order_id="X-2"), order_json(order_id="\u4e2d")]
    sales = [read_sale(read_order(raw)) for raw in raws]
    result = import_sales(latin_shop, sales, OrderContext(vault=VAULT))
    assert (result.imported, result.failed) == (3, 0)
    assert value(latin_shop, "SELECT stock_quantity FROM products WHERE id = :id", id=product) == 6
    assert "? Zo\u00eb" in str(rows(latin_shop, "SELECT CAST(shipping_address AS TEXT) FROM orders"))


def test_what_is_written_of_an_order_fits_into_every_encoding(latin_shop: Database) -> None:
    add_product(latin_shop, sku="A", stock_quantity=9)
    later = {"updated_at": "2026-02-02T00:00:00Z"}
    reports = [{}, {"status": "beamed_up", "total": "99.00"}, later | {"status": "shipped", "total": "12.00"}]
    for report in reports:
        sale = read_sale(read_order(order_json(**report)))
        assert import_sales(latin_shop, [sale], OrderContext(vault=VAULT)).failed == 0
    assert rows(latin_shop, "SELECT status, outcome FROM marketplace_orders") == [("shipped", "imported")]


def test_a_webhook_that_the_database_cannot_hold_is_refused_alone(latin_shop: Database) -> None:
    async def take() -> list[bool | BaseException]:
        inbox = Inbox(latin_shop, VAULT, lambda: None)
        bodies = [json.dumps({"type": "order.created", "data": {"id": name}}).encode() for name in NAMES]
        taken = asyncio.gather(
            *(inbox.take(f"m{n}", body) for n, body in enumerate([*bodies, b"{}"])), return_exceptions=True
        )
        running = asyncio.create_task(inbox.run(lambda: None))
        found = await taken
        inbox.stop()
        await running
        return found

    first, refused, last, no_event = asyncio.run(take())
    assert (first, isinstance(refused, UnicodeError | sa.exc.DBAPIError), last) == (True, True, True)
    assert isinstance(no_event, BadEvent)


NAMES = ["1", "\u4e2d", "3"]
