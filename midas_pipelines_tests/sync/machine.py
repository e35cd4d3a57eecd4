"""A state machine over shop, engine and 4Seller: what may happen, and what must hold after each step."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from midas_pipelines.fourseller.errors import FourSellerError
from midas_pipelines.sandbox.state import Json, now_text
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines_tests.shop import add_product, add_variant, assert_ledger_explains, run, value
from midas_pipelines_tests.sync.syncing import one_sync
from midas_pipelines_tests.sync.world import World, items_for_sale

PRICES = st.sampled_from([Decimal("0.00"), Decimal("0.01"), Decimal("9.99"), Decimal("120.00")])
STOCKS = st.integers(0, 6)
PICK = st.integers(0, 50)
FAULTS = ("500", "503", "reset-before", "reset-after-apply", "garbage", "truncated")


class Killed(BaseException):
    """The process is dead: from here on it does nothing any more."""


class Life:
    """Ends at a drawn event: before or after a call to 4Seller, before or after a transaction."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._lock = threading.Lock()

    def end_after(self, events: int | None) -> None:
        """So many events from now; None for never."""
        self._left = events

    def event(self) -> None:
        """Something that a process may die before. Raises Killed, then and ever after."""
        with self._lock:
            if self._left is None:
                return
            self._left -= 1
            if self._left < 0:
                raise Killed


class MortalDatabase(Database):
    """The shop's database, as a process sees it that may die."""

    life: Life

    @contextmanager
    def writing(self, **options: Any) -> Iterator[sa.Connection]:
        """One transaction; death before it undoes it, death after it does not."""
        self.life.event()
        with super().writing(**options) as connection:
            yield connection
            self.life.event()
        self.life.event()


class SyncMachine(RuleBasedStateMachine):
    """The shop's owner, the marketplaces' buyers, somebody at 4Seller, and syncs that may die at any await."""

    def __init__(self, world: World, life: Life) -> None:
        super().__init__()
        self.world, self.life = world, life
        self.database = world.database
        self.mortal = MortalDatabase(world.database.engine.url)
        self.mortal.life = life
        self.touched: set[str] = set()  # 4Seller products that others than us have changed
        self.versions: dict[int, int] = {}
        self.hides = False
        self.shares: dict[str, float] = {}
        self.names = 0
        world.changes = {"in_flight": 4, "most_attempts": 100, "failures_in_a_row": 6}
        for _ in range(4):
            self.add(Decimal("5.00"), 3)

    # the shop

    @rule(price=PRICES, stock=STOCKS)
    def add(self, price: Decimal, stock: int) -> None:
        add_product(self.database, sku=self._name(), price=price, stock_quantity=stock)

    @rule(pick=PICK, stock=STOCKS)
    def stock(self, pick: int, stock: int) -> None:
        if product := self._product(pick):
            self.world.set(product, stock_quantity=stock)

    @rule(pick=PICK, price=PRICES)
    def reprice(self, pick: int, price: Decimal) -> None:
        if product := self._product(pick):
            self.world.set(product, price=price)

    @rule(pick=PICK)
    def remove(self, pick: int) -> None:
        if product := self._product(pick):
            self.world.remove(product)

    @rule(pick=PICK, status=st.sampled_from(["archived", "active"]))
    def archive(self, pick: int, status: str) -> None:
        if product := self._product(pick):
            self.world.set(product, status=status)

    @rule(pick=PICK, stock=STOCKS)
    def variant(self, pick: int, stock: int) -> None:
        if product := self._product(pick):
            add_variant(self.database, product, sku=self._name(), stock_quantity=stock)

    @rule(pick=PICK)
    def drop_variant(self, pick: int) -> None:
        ids = self._ids("SELECT id FROM product_variants ORDER BY id")
        if ids:
            run(self.database, "DELETE FROM product_variants WHERE id = :id", id=ids[pick % len(ids)])

    @rule(pick=PICK, named=st.booleans())
    def rename(self, pick: int, named: bool) -> None:
        if product := self._product(pick):
            self.world.set(product, sku=self._name() if named else None)

    @rule(one=PICK, two=PICK)
    def swap_or_hand_on(self, one: int, two: int) -> None:
        """The SKU of one goes to the other, and the other's back."""
        first, second = self._product(one), self._product(two)
        if first and second and first != second:
            skus = {p: self._sku(p) for p in (first, second)}
            self.world.set(first, sku=None)
            self.world.set(second, sku=skus[first])
            self.world.set(first, sku=skus[second])

    @rule(pick=PICK)
    def replace(self, pick: int) -> None:
        """A product goes and a new one takes its SKU."""
        if product := self._product(pick):
            sku = self._sku(product)
            self.world.remove(product)
            add_product(self.database, sku=sku)

    # 4Seller

    @rule(kind=st.sampled_from(FAULTS), share=st.sampled_from([0.0, 0.1, 0.3]))
    def faults(self, kind: str, share: float) -> None:
        self.shares = {kind: share}
        self.world.sandbox.faults.set(self.shares)

    @rule(hides=st.booleans())
    def cut_listings_short(self, hides: bool) -> None:
        self.hides = hides

    def page(self, call: Any) -> Json:
        """A page of the sandbox; with half of a whole listing left out where it is cut short."""
        page: Json = self.world.sandbox._list(call)
        whole = 1 < page["total"] == len(self.world.sandbox.state.products)
        return page | {"data": page["data"][::2]} if self.hides and whole else page

    @rule(pick=PICK, price=st.booleans())
    def meddle(self, pick: int, price: bool) -> None:
        """Somebody changes or removes a product on 4Seller itself."""
        ids = list(self.world.sandbox.state.products)
        if ids:
            product = ids[pick % len(ids)]
            self.touched.add(product)
            if price:
                self.world.sandbox.state.edit(product, {"price": "77.00"})
            else:
                self.world.sandbox.state.remove(product)

    @rule(pick=PICK, quantity=st.integers(1, 4))
    def sell(self, pick: int, quantity: int) -> None:
        products = list(self.world.sandbox.state.products.values())
        if products:
            product = products[pick % len(products)]
            self.touched.add(product["id"])
            self.world.place((product["sku"], quantity))

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        waiting = [k for k, o in self.world.sandbox.state.orders.items() if o["status"] == "pending"]
        if waiting:
            order = self.world.sandbox.state.orders[waiting[pick % len(waiting)]]
            order |= {"status": "cancelled", "updated_at": now_text()}

    # the engine

    @rule(kind=st.sampled_from(["full", "incremental", "inventory", "orders"]))
    def sync(self, kind: str) -> None:
        whole = kind == "full" and not self.hides and not any(self.shares.values())
        self._run(kind)
        if whole:
            self.touched.clear()

    @rule(kind=st.sampled_from(["full", "incremental", "inventory", "orders"]), events=st.integers(0, 60))
    def sync_and_die(self, kind: str, events: int) -> None:
        self.life.end_after(events)
        try:
            self._run(kind)
        except BaseException as end:
            if not _is_death(end):
                raise
        finally:
            self.life.end_after(None)
            run(
                self.database, "DELETE FROM midas_workers"
            )  # a dead worker's lease is over, a living one left no row

    def _run(self, kind: str) -> None:
        try:
            asyncio.run(one_sync(SyncContext(self.world.settings, self.mortal), kind))
        except (ChannelDown, FourSellerError):
            assert any(self.shares.values()) or self.hides, "a sync failed without a fault"

    # what must hold

    @invariant()
    def one_sku_one_product(self) -> None:
        """Two products share a SKU only while all are tied to items, all but one of which are about to change."""
        ties = {row.fourseller_product_id: row for row in self._mappings()}
        by_sku: dict[str, list[str]] = defaultdict(list)
        for product in self.world.sandbox.state.products.values():
            by_sku[product["sku"]].append(product["id"])
        for sku, ids in by_sku.items():
            if len(ids) > 1:
                assert all(one in ties for one in ids), f"{sku} is a duplicate: {ids}"
                assert sum(ties[one].dirty_since is None for one in ids) <= 1, f"{sku} stays a duplicate"

    @invariant()
    def the_ledger_explains_the_stock(self) -> None:
        assert_ledger_explains(self.database)

    @invariant()
    def versions_never_fall(self) -> None:
        for row in self._mappings():
            assert row.version >= row.acked_version >= self.versions.get(row.id, 0)
            self.versions[row.id] = row.acked_version

    @invariant()
    def whoever_waits_for_nothing_is_right(self) -> None:
        """An item that is not dirty is shown as it should be, or is set aside with its reason."""
        ties = {(row.product_id, row.variant_id): row for row in self._mappings()}
        state = self.world.sandbox.state
        for key, sku, title, price, quantity in items_for_sale(self.database):
            row = ties[key]
            if row.dirty_since is not None or row.fourseller_product_id in self.touched:
                continue
            if row.state == "quarantined":
                assert row.reason
                if row.fourseller_product_id is not None:
                    assert state.products[row.fourseller_product_id]["inventory"]["quantity"] == quantity
                continue
            shown = state.products[row.fourseller_product_id]
            found = (shown["sku"], shown["title"], Decimal(shown["price"]), shown["inventory"]["quantity"])
            assert found == (sku, title, price, quantity), (
                f"{found} is not {(sku, title, price, quantity)}: {row}"
            )

    @invariant()
    def nothing_is_removed_that_is_for_sale(self) -> None:
        """What an item is tied to is there, unless somebody at 4Seller took it away or the item is being taken off."""
        for row in self._mappings():
            product = row.fourseller_product_id
            if product is not None and product not in self.touched and row.dirty_since is None:
                assert product in self.world.sandbox.state.products

    def teardown(self) -> None:
        """Once all trouble ends, two full syncs make both sides equal."""
        self.life.end_after(None)
        self.hides, self.shares = False, {}
        self.world.sandbox.faults.set({})
        try:
            self._run("orders")
            for _ in range(2):
                self._run("full")
            shown, wanted = self.world.shown, self.world.wanted
            assert {sku: one for sku, one in shown.items() if sku in wanted} == wanted
            aside = [row.fourseller_product_id for row in self._mappings() if row.state == "quarantined"]
            rest = {one["id"] for sku, one in self.world.listed.items() if sku not in wanted}
            assert rest <= set(aside), (
                rest,
                [row for row in self._mappings() if row.id],
                self.world.sandbox.state.products,
            )
            assert self.world.dirty == 0
            assert self.world.writes(lambda: self._run("full")) == 0
            imported = value(self.database, "SELECT count(*) FROM orders")
            assert imported == len(self.world.sandbox.state.orders)
            assert_ledger_explains(self.database)
        finally:
            self.mortal.close()

    # steps

    def _name(self) -> str:
        self.names += 1
        return f"N{self.names}"

    def _ids(self, query: str) -> list[int]:
        with self.database.reading() as connection:
            return list(connection.scalars(sa.text(query)))

    def _product(self, pick: int) -> int | None:
        ids = self._ids("SELECT id FROM products ORDER BY id")
        return ids[pick % len(ids)] if ids else None

    def _sku(self, product: int) -> str | None:
        found: str | None = value(self.database, "SELECT sku FROM products WHERE id = :id", id=product)
        return found

    def _mappings(self) -> list[sa.Row[Any]]:
        with self.database.reading() as connection:
            return list(connection.execute(sa.select(mappings)))


def _is_death(end: BaseException) -> bool:
    if isinstance(end, BaseExceptionGroup):
        return any(_is_death(one) for one in end.exceptions)
    return isinstance(end, Killed)
