"""Acting on orders in a test as an operator, the shop's code or a marketplace would, and looking at both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.carriers import tracking
from midas_pipelines.sandbox.state import Json, Refused, State
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.sync.orders.changes.exceptions import dismiss, resolve_conflict
from midas_pipelines.sync.orders.changes.shipments import NewShipment, Shipped, record_shipment
from midas_pipelines.sync.orders.intake.batch import import_order_webhooks
from midas_pipelines.sync.orders.lookup import Retried, retry_order
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order
from midas_pipelines.sync.orders.status.status_sync import StatusSyncReport, push_statuses, sync_statuses
from midas_pipelines.sync.orders.stock.units import restock_units
from midas_pipelines_tests.shop import add_product, broken_links, rows, run, value
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import VAULT

UPS = "1Z999AA10123456784"
FEDEX = "986578788855"


def sold(world: World, **quantities: int) -> str:
    """An imported order for so many of each of these SKUs, which are new; the shop had 10 of each."""
    for sku in quantities:
        add_product(world.database, sku=sku, stock_quantity=10)
    order_id = world.place(*quantities.items())
    world.import_orders()
    return order_id


def sold_each(world: World, cases: Iterable[str]) -> dict[str, str]:
    """An imported order for 3 of a new SKU for each case, which names both; the shop had 10 of each."""
    orders = {}
    for case in cases:
        add_product(world.database, sku=case, stock_quantity=10)
        orders[case] = world.place((case, 3))
    world.import_orders()
    return orders


def order(world: World, order_id: str) -> sa.Row[Any]:
    """Our row of an order."""
    query = sa.select(marketplace_orders).where(marketplace_orders.c.marketplace_order_id == order_id)
    with world.database.reading() as connection:
        return connection.execute(query).one()


def lines(world: World, order_id: str) -> list[sa.Row[Any]]:
    """Our rows of its lines."""
    query = sa.select(marketplace_order_lines).join(marketplace_orders)
    query = query.where(marketplace_orders.c.marketplace_order_id == order_id)
    with world.database.reading() as connection:
        return list(connection.execute(query.order_by(marketplace_order_lines.c.line)))


def stock(world: World, product: int) -> int:
    """The stock on hand."""
    found: int = value(world.database, "SELECT stock_quantity FROM products WHERE id = :id", id=product)
    return found


def steps(world: World, order_id: str) -> list[str]:
    """The steps of its story."""
    query = "SELECT step FROM order_processing_logs WHERE marketplace_order_id = :id ORDER BY id"
    return [step for (step,) in rows(world.database, query, id=order_id)]


def alerts(world: World) -> list[str]:
    """The kinds of the alerts that are open."""
    query = "SELECT kind FROM alerts WHERE cleared_at IS NULL ORDER BY id"
    return [kind for (kind,) in rows(world.database, query)]


def shop_status(world: World, order_id: str) -> str:
    """Where the shop's order stands."""
    query = "SELECT status FROM orders WHERE id = :id"
    return str(value(world.database, query, id=order(world, order_id).local_order_id))


def shop_sets(world: World, order_id: str, status: str) -> None:
    """The shop's own code moves its order."""
    local = order(world, order_id).local_order_id
    run(world.database, "UPDATE orders SET status = :status WHERE id = :id", status=status, id=local)


def shop_refunds(world: World, order_id: str) -> None:
    """The shop's own code pays an order back."""
    local = order(world, order_id).local_order_id
    run(world.database, "UPDATE orders SET payment_status = 'refunded' WHERE id = :id", id=local)


def sync(world: World) -> StatusSyncReport:
    """A status sync, both ways."""
    return asyncio.run(sync_statuses(world.sync_context()))


def tell(world: World) -> StatusSyncReport:
    """Only the way to 4Seller."""
    return asyncio.run(push_statuses(world.sync_context()))


def told(world: World, *events: dict[str, Any]) -> list[str]:
    """4Seller tells of orders by webhook; how each of them ended."""
    found = import_order_webhooks(world.sync_context(), list(events), VAULT)
    return [one.ended for one in found]


def pack(
    world: World,
    order_id: str,
    number: str = UPS,
    carrier: str = "ups",
    units: dict[int, int] | None = None,
    order_context: OrderContext | None = None,
) -> Shipped:
    """An operator records a parcel."""
    shipment, row = NewShipment(tracking(carrier, number), units), order(world, order_id).id
    with world.database.writing() as connection:
        return record_shipment(lock_order(connection, row, order_context), shipment)


def corrects(
    world: World, order_id: str, number: str, carrier: str, new: str, context: OrderContext | None = None
) -> None:
    """An operator says what a parcel should have been: `--replaces`."""
    row = order(world, order_id).id
    with world.database.writing() as connection:
        shipment = NewShipment(tracking(carrier, new), replaces=number)
        record_shipment(lock_order(connection, row, context), shipment)


def shop_packs(world: World, order_id: str, number: str | None, carrier: str | None = "UPS") -> int:
    """The shop's own code records a parcel in the table."""
    row = {"order_id": order(world, order_id).local_order_id, "carrier": carrier, "tracking_number": number}
    with world.database.writing() as connection:
        made = connection.execute(sa.insert(order_shipments).values(row).returning(order_shipments.c.id))
        return int(made.scalar_one())


def market(world: World, order_id: str, status: str, **fields: Any) -> None:
    """From now on the marketplace has the order there, whatever it was before."""
    world.sandbox.state.edit_order(order_id, {"status": status, **fields})


def sides(world: World, order_id: str) -> tuple[str, str, str]:
    """Where the order stands by our row, in the shop, and on 4Seller."""
    return order(world, order_id).status, shop_status(world, order_id), at_4seller(world, order_id)[0]


def on_shelf(world: World) -> dict[str, int]:
    """The stock on hand, by SKU."""
    return dict(map(tuple, rows(world.database, "SELECT sku, stock_quantity FROM products ORDER BY sku")))


def settle(world: World, order_id: str, decision: str, *, restock: bool = False) -> None:
    """An operator decides a conflict."""
    row = order(world, order_id).id
    with world.database.writing() as connection:
        resolve_conflict(lock_order(connection, row, OrderContext()), decision, restock=restock)


def dismissed(world: World, order_id: str) -> list[str]:
    """An operator takes the order as it is; what was odd about it."""
    row = order(world, order_id).id
    with world.database.writing() as connection:
        return dismiss(lock_order(connection, row))


def come_back(world: World, order_id: str, units: dict[int, int] | None = None) -> int:
    """A parcel comes back, or some of its units by line; how many went back in stock, 0 where it was refused."""
    row = order(world, order_id).id
    with world.database.writing() as connection, suppress(WrongInput):
        return restock_units(lock_order(connection, row), units=units)
    return 0


def retry(world: World, order_id: str) -> Retried:
    """An operator has an order tried again."""
    return asyncio.run(retry_order(world.sync_context(), order_id))


def a_day_later(world: World) -> None:
    """What waits for its next attempt is due."""
    run(world.database, "UPDATE marketplace_orders SET push_after = NULL")
    run(world.database, "UPDATE order_shipments SET next_attempt_at = NULL")


@contextmanager
def refused(
    world: World, status: int, *, carrier: str | None = None, orders: Collection[str] = ()
) -> Iterator[None]:
    """4Seller answers with `status` what it is told of these orders, or of parcels with this carrier."""
    state = world.sandbox.state

    def move(order_id: str, word: str, tracking: Json | None = None) -> Json:
        if order_id in orders or (carrier is not None and (tracking or {}).get("carrier") == carrier):
            raise Refused(status, "refused_by_test", "Not this one.")
        return State.move(state, order_id, word, tracking)

    state.move = move  # type: ignore[method-assign]
    try:
        yield
    finally:
        del state.move  # type: ignore[method-assign]


@contextmanager
def unheard(world: World, *, tracking_alone: bool = False) -> Iterator[None]:
    """4Seller answers without an error, and takes nothing of what it is told, or nothing but the status."""
    state = world.sandbox.state

    def move(order_id: str, word: str, tracking: Json | None = None) -> Json:
        return State.move(state, order_id, word) if tracking_alone else state.order(order_id)

    state.move = move  # type: ignore[method-assign]
    try:
        yield
    finally:
        del state.move  # type: ignore[method-assign]


def at_4seller(world: World, order_id: str) -> tuple[str, str | None]:
    """Where the order stands on 4Seller, and the tracking number it has there."""
    found = world.sandbox.state.orders[order_id]
    return found["status"], (found.get("tracking") or {}).get("number")


def edit(world: World, order_id: str, *items: tuple[str, int], **fields: Any) -> None:
    """The marketplace changes the order's lines, at 10.00 each with 4.99 shipping, and other fields."""
    if items:
        fields["items"] = [{"sku": sku, "quantity": count, "price": "10.00"} for sku, count in items]
        fields["total"] = str(Decimal("10.00") * sum(count for _, count in items) + Decimal("4.99"))
    world.sandbox.state.edit_order(order_id, fields)


def assert_whole(world: World) -> None:
    """The ledger explains the stock and the lines; nothing is negative."""
    from midas_pipelines.store.orders.checks import unbalanced_orders, unexplained_deductions, unpaired_orders
    from midas_pipelines.store.stock.ledger import negative_stock, unexplained_stock

    for find in (
        unexplained_stock,
        negative_stock,
        unexplained_deductions,
        unpaired_orders,
        unbalanced_orders,
    ):
        assert find(world.database) == [], find.__name__
    assert broken_links(world.database) == []
