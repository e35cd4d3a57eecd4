"""A row that the shop holds makes the sales that need it wait, and no others; a sale that the shop refuses is quarantined alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.models import read_order
from midas_pipelines.settings import DatabaseLimits
from midas_pipelines.store.database import Database
from midas_pipelines.storefront.writing import Cause, blame, in_words
from midas_pipelines.sync.orders.intake.batch import import_order_webhooks
from midas_pipelines.sync.orders.intake.importer import import_sales
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import read_sale
from midas_pipelines_tests.shop import add_product, run, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import order_json
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import VAULT

pytestmark = pytest.mark.only_on("postgresql")

WATERMARK = "SELECT count(*) FROM midas_cursors WHERE name = 'orders'"


def sold(count: int, sku: str) -> list[paper.Raw]:
    names = [f"{sku}-{n}" for n in range(count)]
    return [order_json(order_id=name, items=[paper.line(sku, 1)]) for name in names]


@contextmanager
def checkout(world: World) -> Iterator[sa.Connection]:
    """A transaction of the shop's."""
    limits = DatabaseLimits(lock_seconds=30, idle_seconds=60)
    with Database(world.database.engine.url, limits) as shops, shops.writing() as connection:
        yield connection


def hold(connection: sa.Connection, table: str, row: int) -> None:
    """Locks a row as the shop's checkout does."""
    connection.exec_driver_sql(f"SELECT id FROM {table} WHERE id = {row} FOR UPDATE")


@pytest.fixture
def postgresql_world(world: World) -> Iterator[World]:
    limits = DatabaseLimits(
        lock_seconds=1, idle_seconds=60
    )  # a batch that waited at each lock would take a minute
    with Database(world.database.engine.url, limits) as database:
        yield replace(world, database=database)


def test_sales_of_a_locked_product_wait_for_the_next_round_and_no_others(postgresql_world: World) -> None:
    world = postgresql_world
    locked, free = (add_product(world.database, sku=sku, stock_quantity=50) for sku in "AB")
    paper.put(world, *sold(20, "A"), *sold(5, "B"))
    with checkout(world) as connection:
        hold(connection, "products", locked)
        report = world.import_orders()
    assert (report.imported, report.postponed, report.failed) == (5, 20, 0)
    assert value(world.database, WATERMARK) == 0
    assert world.import_orders().imported == 20
    assert (desk.stock(world, locked), desk.stock(world, free)) == (30, 45)
    desk.assert_whole(world)


def test_a_locked_order_of_the_shops_holds_up_its_own_change_alone(postgresql_world: World) -> None:
    world = postgresql_world
    product = add_product(world.database, sku="A", stock_quantity=50)
    orders = sold(6, "A")
    paper.polled(world, *orders)
    off = [raw | {"status": "cancelled", "updated_at": "2027-01-01T00:00:00Z"} for raw in orders]
    with checkout(world) as connection:
        hold(connection, "orders", int(value(world.database, "SELECT min(id) FROM orders")))
        found = import_order_webhooks(world.sync_context(), off, VAULT)
        assert sorted(one.ended for one in found) == ["applied"] * 5 + ["postponed"]
    found = import_order_webhooks(world.sync_context(), off, VAULT)
    assert desk.stock(world, product) == 50


def test_a_process_that_freezes_at_any_statement_is_one_whose_time_postgresql_counts(
    postgresql_world: World,
) -> None:
    world = postgresql_world
    seen: list[str] = []
    add_product(world.database, sku="A", stock_quantity=500)
    states = "SELECT state FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
    sales = [read_sale(read_order(raw)) for raw in sold(120, "A")]
    with sa.create_engine(world.database.engine.url).connect() as watch:
        watch = watch.execution_options(isolation_level="AUTOCOMMIT")

        def look(*_: Any) -> None:
            seen.extend(watch.exec_driver_sql(states).scalars())

        sa.event.listen(world.database.engine, "before_cursor_execute", look)
        import_sales(world.database, sales, OrderContext(vault=VAULT))
        sa.event.remove(world.database.engine, "before_cursor_execute", look)
    assert len(seen) > 5
    assert set(seen) == {"idle in transaction"}


def test_in_a_ring_of_locks_the_shop_goes_on_and_we_try_again(postgresql_world: World) -> None:
    world = postgresql_world
    first, second = (add_product(world.database, sku=sku, stock_quantity=50) for sku in "AB")
    paper.put(world, order_json(items=[paper.line("A", 1), paper.line("B", 1)]))
    with checkout(world) as connection:
        hold(connection, "products", second)
        assert world.import_orders().postponed == 1
        hold(connection, "products", first)
    assert world.import_orders().imported == 1


REFUSE = {
    "A-3": "RAISE EXCEPTION 'no orders to Faketown on %, says %', 'Mondays', NEW.order_number",
    "A-7": "RAISE EXCEPTION 'closed' USING ERRCODE = '42501'",  # a state of its own
    "A-8": "PERFORM no_such_function()",
    "A-15": "PERFORM 1 / 0",
    "A-30": "RAISE EXCEPTION 'slow' USING ERRCODE = '57014'",  # as of a cancelled query
}


def test_orders_that_a_trigger_refuses_are_quarantined_alone(postgresql_world: World) -> None:
    world = postgresql_world
    product = add_product(world.database, sku="A", stock_quantity=50)
    refuse(
        world, "orders", "INSERT", {f"NEW.order_number LIKE '%{name}'": act for name, act in REFUSE.items()}
    )
    paper.put(world, *sold(31, "A"))
    report = world.import_orders()
    assert (report.imported, report.failed, desk.stock(world, product)) == (26, 5, 24)
    assert all("refused" in desk.order(world, name).reason for name in REFUSE)
    run(world.database, "DROP TRIGGER refuse ON orders")
    assert world.import_orders().imported == 5
    assert desk.stock(world, product) == 19


def test_a_trigger_that_speaks_for_the_server_makes_its_orders_wait_alone(postgresql_world: World) -> None:
    world = postgresql_world
    add_product(world.database, sku="A", stock_quantity=50)
    states = {"A-1": "53100", "A-4": "57P03", "A-7": "08006", "A-10": "40001"}
    refuse(
        world, "orders", "INSERT", {f"NEW.order_number LIKE '%{name}'": no(states[name]) for name in states}
    )
    paper.put(world, *sold(12, "A"))
    report = world.import_orders()
    assert (report.imported, report.postponed, report.failed) == (8, 4, 0)
    again = import_order_webhooks(world.sync_context(), sold(12, "A"), VAULT)
    refused = [
        "refused" if f"A-{n}" in states else "applied" for n in range(12)
    ]  # refused: waits ever longer
    assert [one.ended for one in again] == refused


def test_items_whose_stock_the_shop_refuses_to_change_hold_up_no_other(postgresql_world: World) -> None:
    world = postgresql_world
    states = {"A": "P0001", "B": "53100", "C": "40001"}
    made = [add_product(world.database, sku=sku, stock_quantity=0) for sku in "ABCD"]
    paper.polled(world, *(raw for sku in "ABCD" for raw in sold(2, sku)))
    less = "NEW.stock_quantity < OLD.stock_quantity"
    refuse(world, "products", "UPDATE", {f"NEW.sku = '{sku}' AND {less}": no(states[sku]) for sku in states})
    for product in made:
        world.set(product, stock_quantity=5)
    world.full()
    assert [desk.stock(world, product) for product in made] == [5, 5, 5, 3]


def test_a_status_that_the_shops_tables_refuse_is_retried_and_stops_no_other(postgresql_world: World) -> None:
    world = postgresql_world
    add_product(world.database, sku="A", stock_quantity=50)
    orders = sold(4, "A")
    paper.polled(world, *orders)
    line = f"NEW.order_id = {desk.order(world, 'A-2').id}"
    refuse(world, "marketplace_order_lines", "UPDATE", {line: no("P0001")})
    for raw in orders:
        desk.shop_sets(world, raw["id"], "cancelled")
    report = desk.tell(world)
    assert (report.pushed, report.failed) == (3, 1)
    assert "RaiseException" in report.problems[0]["outcome"]
    assert desk.order(world, "A-2").push_attempts == 1


def no(state: str) -> str:
    """Raises with this state."""
    return f"RAISE 'no' USING ERRCODE = '{state}'"


def refuse(world: World, table: str, act: str, cases: dict[str, str]) -> None:
    """A trigger of the shop's that does something to the rows of which a condition holds."""
    body = "".join(f"IF {when} THEN {then}; END IF; " for when, then in cases.items())
    body = f"BEGIN {body} RETURN NEW; END"
    run(world.database, f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
    run(
        world.database,
        f"CREATE TRIGGER refuse BEFORE {act} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


@pytest.mark.only_on("sqlite")
def test_a_trigger_of_sqlites_that_refuses_one_order_holds_up_no_other(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=50)
    run(
        world.database,
        "CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN NEW.order_number LIKE '%A-7' "
        "BEGIN SELECT RAISE(ABORT, 'not on Mondays'); END",
    )
    paper.put(world, *sold(31, "A"))
    assert (world.import_orders().imported, desk.order(world, "A-7").outcome) == (30, "quarantined")
    assert "not on Mondays" in desk.order(world, "A-7").reason


def test_when_nothing_can_be_written_no_order_is_blamed(postgresql_world: World) -> None:
    world = postgresql_world
    add_product(world.database, sku="A", stock_quantity=50)
    run(world.database, "ALTER TABLE order_status_history RENAME TO moved_away")
    sales = [read_sale(read_order(raw)) for raw in sold(5, "A")]
    with pytest.raises(sa.exc.ProgrammingError):
        import_sales(world.database, sales, OrderContext(vault=VAULT))
    assert value(world.database, "SELECT count(*) FROM marketplace_orders") == 0


def test_what_a_trigger_says_is_kept_without_the_buyers_own_words() -> None:
    raised = psycopg.errors.RaiseException("x")
    error = sa.exc.DBAPIError("INSERT", None, raised)
    assert blame(error) is Cause.ROW
    assert in_words(error, {"customer": {"name": "Sample Buyer"}}) == "RaiseException."


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (psycopg.errors.LockNotAvailable(), Cause.BUSY),
        (psycopg.errors.DeadlockDetected(), Cause.BUSY),
        (psycopg.errors.DiskFull(), Cause.SERVER),
        (psycopg.errors.AdminShutdown(), Cause.SERVER),
        (psycopg.OperationalError("no route"), Cause.DATABASE),
        (psycopg.errors.InsufficientPrivilege(), Cause.UNKNOWN),
        (psycopg.errors.CheckViolation(), Cause.ROW),
    ],
)
def test_who_is_to_blame(error: Exception, cause: Cause) -> None:
    made = sa.exc.DBAPIError.instance("INSERT", None, error, psycopg.Error)
    assert isinstance(made, sa.exc.DBAPIError)
    assert blame(made) is cause
