"""A random walk of six orders through everything that happens to orders; after each step all of it adds up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.status import ENDED
from midas_pipelines.sandbox.state import Refused
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.sync.orders.changes.exceptions import resolve_conflict
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.orders.model.lines import read_exceptions
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order
from midas_pipelines.sync.orders.status.status_sync import sync_statuses
from midas_pipelines.sync.orders.stock.pending_lines import allocate_pending_lines, map_line
from midas_pipelines.sync.orders.stock.units import left_to_ship, restock_units
from midas_pipelines_tests.shop import add_product, add_variant, rows
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

SKUS = ("A", "B", "V", "U1", "U2")
"""Two products, a variant, and two that the shop has only later."""


class Walk:
    """A shop and six orders, and a choice of things to do to them; the same seed does the same."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.chance = world, random.Random(seed)
        self.context = world.sync_context()
        self.did: list[str] = []
        self.parcels = 0
        self.items = {sku: (add_product(world.database, sku=sku, stock_quantity=6), None) for sku in "AB"}
        parent = add_product(world.database)
        self.items["V"] = (parent, add_variant(world.database, parent, sku="V", stock_quantity=3))
        self.orders = [world.place(*self.lines()) for _ in range(6)]
        world.import_orders()
        self.acts: dict[Callable[[str], None], int] = {
            self.edits: 8,
            self.restocks: 4,
            self.market_moves: 5,
            self.market_tells: 2,
            self.packs: 3,
            self.shop_packs: 1,
            self.returns: 2,
            self.shop_moves: 2,
            self.settles: 3,
            self.maps: 2,
            self.begins_anew: 4,
        }

    def lines(self) -> list[tuple[str, int]]:
        """What an order asks for."""
        return [
            (self.chance.choice(SKUS), self.chance.randint(0, 4)) for _ in range(self.chance.randint(1, 3))
        ]

    def step(self) -> None:
        """One thing happens to one order, and what it means is found out by one or the other way."""
        act = self.chance.choices(list(self.acts), list(self.acts.values()))[0]
        order_id = self.chance.choice(self.orders)
        self.did.append(f"{act.__name__} {order_id}")
        act(order_id)
        if self.chance.random() < 0.3:
            asyncio.run(sync_statuses(self.context))
            allocate_pending_lines(self.world.database)  # as before each push, of what telling has freed
        else:
            asyncio.run(import_orders(self.context))

    # what happens

    def edits(self, order_id: str) -> None:
        desk.edit(self.world, order_id, *self.lines())

    def restocks(self, _: str) -> None:
        product, variant = self.items[self.chance.choice(list(self.items))]
        table = products if variant is None else product_variants
        more = table.c.stock_quantity + self.chance.randint(1, 4)
        with self.world.database.writing() as connection:
            connection.execute(
                sa.update(table).where(table.c.id == (variant or product)).values(stock_quantity=more)
            )

    def market_moves(self, order_id: str) -> None:
        word = self.chance.choice(
            ["processing", "processing", "shipped", "delivered", "cancelled", "refunded"]
        )
        try:
            self.world.sandbox.state.move(order_id, word)
        except Refused:
            self.did[-1] += " (refused)"

    def market_tells(self, order_id: str) -> None:
        word = self.chance.choice(["pending", "processing", "shipped", "cancelled"])
        desk.told(self.world, self.world.sandbox.state.orders[order_id] | {"status": word})

    def packs(self, order_id: str) -> None:
        waiting = [line for line in desk.lines(self.world, order_id) if left_to_ship(line)]
        units = {line.line: self.chance.randint(1, left_to_ship(line)) for line in waiting[:1]}
        self.parcels += 1
        try:
            desk.pack(self.world, order_id, f"N{self.parcels}", "Bicycle", self.chance.choice([units, None]))
        except WrongInput:
            self.did[-1] += " (refused)"

    def shop_packs(self, order_id: str) -> None:
        self.parcels += 1
        desk.shop_packs(self.world, order_id, f"N{self.parcels}", "Bicycle")

    def returns(self, order_id: str) -> None:
        units = self.chance.choice([None, {1: 1}])
        with self.world.database.writing() as connection:
            order = lock_order(connection, desk.order(self.world, order_id).id)
            with suppress(WrongInput):
                restock_units(order, units=units)

    def shop_moves(self, order_id: str) -> None:
        desk.shop_sets(
            self.world, order_id, self.chance.choice(["processing", "shipped", "cancelled", "odd"])
        )

    def settles(self, _: str) -> None:
        for order_id in self.orders:
            order = desk.order(self.world, order_id)
            if "conflict" in read_exceptions(order.exception):
                decision = self.chance.choice(["shipped", "cancelled"])
                with self.world.database.writing() as connection:
                    held = lock_order(connection, order.id)
                    resolve_conflict(held, decision, restock=self.chance.choice([True, False]))

    def maps(self, order_id: str) -> None:
        late = self.chance.choice(["U1", "U2"])
        if late not in self.items:
            stock = self.chance.randint(0, 4)
            self.items[late] = (add_product(self.world.database, sku=late, stock_quantity=stock), None)
        order = desk.order(self.world, order_id)
        for line in desk.lines(self.world, order_id):
            if line.product_id is None and order.status not in ENDED:
                map_line(self.world.database, order.id, line.line, self.items["A"], OrderContext())

    def begins_anew(self, order_id: str) -> None:
        """An order that came to its end makes room for another."""
        if desk.order(self.world, order_id).status in (*ENDED, "delivered", "shipped"):
            self.orders[self.orders.index(order_id)] = self.world.place(*self.lines())

    # what must be true

    def check(self) -> None:
        """Raises what does not add up, with the last things that happened."""
        told = f"after step {len(self.did)}: {'; '.join(self.did[-6:])}"
        desk.assert_whole(self.world)
        found = self.everything()
        backordered = {f"item:{row.product_id}:{row.variant_id or 0}" for row in found if row.backordered}
        assert [row.order for row in found if row.backordered and row.status in ENDED] == [], told
        assert [row for row in found if row.backordered and row.on_shelf] == [], told
        assert flagged_otherwise(found) == [], told
        assert self.told_as_oversold() == backordered, told
        assert self.differ_from_4seller(found) == [], told

    def everything(self) -> Sequence[sa.Row[Any]]:
        """Every line with its order and what is on the shelf of its item."""
        lines, orders = marketplace_order_lines, marketplace_orders
        query = sa.select(
            orders.c.marketplace_order_id.label("order"),
            orders.c.status,
            orders.c.exception,
            *(lines.c[name] for name in ("sku", "quantity", "backordered", "product_id", "variant_id")),
            lines.c.exception.label("of_line"),
            sa.func.coalesce(product_variants.c.stock_quantity, products.c.stock_quantity).label("on_shelf"),
        ).select_from(
            lines.join(orders, orders.c.id == lines.c.order_id)
            .outerjoin(products, products.c.id == lines.c.product_id)
            .outerjoin(product_variants, product_variants.c.id == lines.c.variant_id)
        )
        with self.world.database.reading() as connection:
            return connection.execute(query).all()

    def told_as_oversold(self) -> set[str]:
        """The items of which staff are told."""
        query = "SELECT subject FROM alerts WHERE kind = 'oversold' AND cleared_at IS NULL"
        return {name for (name,) in rows(self.world.database, query)}

    def differ_from_4seller(self, found: Sequence[sa.Row[Any]]) -> list[str]:
        """Live orders whose lines are not 4Seller's, and that nobody was asked to compare."""
        ours: dict[str, Counter[Any]] = {}
        for row in found:
            if row.status not in ENDED and "edited" not in (row.exception or ""):
                ours.setdefault(row.order, Counter())[row.sku, row.quantity] += bool(row.quantity)
        theirs = {
            name: Counter((line["sku"], line["quantity"]) for line in order["items"] if line["quantity"])
            for name, order in self.world.sandbox.state.orders.items()
        }
        return [name for name, lines in ours.items() if +lines != theirs[name]]


def flagged_otherwise(found: Sequence[sa.Row[Any]]) -> list[str]:
    """Lines and orders that say oversold and owe nothing, or the other way round."""
    owing = {row.order for row in found if row.backordered}
    return [
        row.order
        for row in found
        if ("oversold" in (row.of_line or "")) != (row.backordered > 0)
        or ("oversold" in (row.exception or "")) != (row.order in owing)
    ]


@pytest.mark.parametrize("seed", [1])
def test_whatever_happens_to_six_orders_all_of_it_adds_up(world: World, seed: int) -> None:
    walk = Walk(world, seed)
    for _ in range(16):
        walk.step()
        walk.check()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 140))
def test_forty_walks(world: World, seed: int) -> None:
    walk = Walk(world, seed)
    for _ in range(150):
        walk.step()
        walk.check()
